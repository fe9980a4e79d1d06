"""The agent as a model: OpenAI's models, chat completions and responses, over the same runs as the rest of the API.

    bodies.py            what both APIs read: messages, options of the run, what they share of ignored and refused
    chat_bodies.py       the body of a chat completion          responses_bodies.py    the body of a response
    chat.py              its routes                             responses.py           its routes
    chat_chunks.py       its stream                             responses_events.py    its stream
    chat_results.py      its result                             responses_results.py   its result and output items
    folding.py           the one rule that makes one query of a conversation
    runs.py              starting a run, and sending its events
    endings.py           what both APIs say of a run that has ended
    errors.py            problems in OpenAI's shape             models.py              the list of models

Shapes follow OpenAI's API reference (https://platform.openai.com/docs/api-reference) as the `openai` Python client
reads it; that client is used by the tests only. What OpenAI has no place for is in an extra field, `umi`.
"""

from fastapi import FastAPI

from gateway.openai import chat, errors, models, responses


def install(app: FastAPI) -> None:
    """Add the routes to `app`. Call it after `problems.install` and other middleware: their errors are reshaped."""
    errors.install(app)
    for routes in (models, chat, responses):
        app.include_router(routes.router)
