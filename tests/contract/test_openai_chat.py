"""OpenAI's chat completions, and what they share with responses, spoken by OpenAI's own client."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from fastapi import Response

from gateway.app import create_app
from tests.agent_client import chat, connect, respond, stored
from tests.fakes import call, free_port, plan, serve
from tests.world import World
from umi.roles import Role, Turn


@pytest.fixture
def client(world: World) -> Iterator[openai.OpenAI]:
    with connect(world.gateway) as client:
        yield client


def test_the_agent_is_the_only_model(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["umi"]
    assert client.models.retrieve("umi").object == "model"
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("gpt-4o")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    for asked in (lambda: chat(client, model="gpt-4o"), lambda: respond(client, model="gpt-4o")):
        with pytest.raises(openai.NotFoundError, match="'umi'"):
            asked()


def test_a_chat_completion_is_the_answer_with_the_tokens_of_all_roles_and_the_run(
    world: World, client: openai.OpenAI
) -> None:
    world.script.calls = [call("add", a=2, b=3)]
    completion = chat(client, " What is 2 + 3? ", metadata={"team": "blue"})
    (choice,) = completion.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "It is done.", "stop")
    usage = completion.usage  # two plans, a call and a summary, of 10 and 3 tokens each
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (40, 12, 52)
    assert usage.prompt_tokens_details.cached_tokens == 16
    run = stored(world, completion.umi["run_id"])
    assert completion.umi == {n: run[n] for n in ("run_id", "status", "required_action", "outcome", "steps")}
    assert completion.umi["steps"][0]["observation"] == '{"sum": 5}'
    assert completion.id == f"chatcmpl-{run['run_id']}"
    assert (completion.created, completion.metadata) == (int(run["created_at"]), {"team": "blue"})
    assert run["query"] == "What is 2 + 3?"


def test_a_streamed_chat_sends_the_role_the_steps_as_they_happen_the_answer_and_its_end(
    world: World, client: openai.OpenAI
) -> None:
    world.script.calls = [call("add", a=2, b=3)]
    world.script.delays[Role.SUMMARIZER] = 0.5
    seen: list[tuple[float, Any]] = []
    for chunk in chat(client, stream=True, stream_options={"include_usage": True}):
        seen.append((time.monotonic(), chunk))
    first, *steps, answer, end, usage = (chunk for _, chunk in seen)
    assert first.choices[0].delta.model_dump(exclude_none=True) == {"role": "assistant", "content": ""}
    assert [step.umi["event"]["type"] for step in steps] == ["plan", "call", "observation", "plan"]
    assert steps[2].umi["event"]["data"]["observation"] == '{"sum": 5}'
    thoughts = [{"reasoning_content": "Because."}, {}, {}, {"reasoning_content": "\n\nBecause."}]
    assert [step.choices[0].delta.model_dump(exclude_none=True) for step in steps] == thoughts
    assert answer.choices[0].delta.content == "It is done."
    assert seen[-3][0] - seen[-4][0] > 0.1, "the steps were held back until the answer"
    assert (end.choices[0].finish_reason, end.choices[0].delta.content) == ("stop", None)
    assert end.umi["steps"] == stored(world, first.umi["run_id"])["steps"]
    assert (usage.choices, usage.usage.total_tokens, end.usage) == ([], 52, None)
    assert len({(chunk.id, chunk.created, chunk.model) for _, chunk in seen}) == 1


def test_a_streamed_chat_ends_with_done_and_says_no_usage_unasked(world: World) -> None:
    body = {"model": "umi", "messages": [{"role": "user", "content": "q"}], "stream": True}
    with world.client.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert "usage" not in json.loads(lines[-2].removeprefix("data: "))


async def test_the_async_client_and_its_stream_helper_put_the_answer_together(world: World) -> None:
    world.script.calls = [call("add", a=2, b=3)]
    async with openai.AsyncOpenAI(api_key="x", base_url=f"{world.gateway}/v1", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": "2 + 3?"}]
        async with client.chat.completions.stream(model="umi", messages=messages) as stream:
            whole = await stream.get_final_completion()
        assert whole.choices[0].message.content == "It is done."
        answers = await asyncio.gather(*(client.responses.create(model="umi", input="q") for _ in range(3)))
        assert [answer.output_text for answer in answers] == ["It is done."] * 3


def test_parameters_that_leave_the_answer_as_it_is_are_accepted(client: openai.OpenAI) -> None:
    harmless: dict[str, Any] = {"temperature": 0.2, "top_p": 1, "user": "ann", "parallel_tool_calls": True}
    limits: dict[str, Any] = {"max_tokens": 5, "max_completion_tokens": 5, "seed": 1, "presence_penalty": 0.1}
    nothing: dict[str, Any] = {"n": 1, "tools": [], "stop": None, "response_format": {"type": "text"}}
    assert chat(client, **harmless, **limits, **nothing).choices[0].message.content == "It is done."
    plain: dict[str, Any] = {"text": {"format": {"type": "text"}}, "tools": [], "max_output_tokens": 50, "store": False}
    assert respond(client, **harmless, **plain).output_text == "It is done."


FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {}}, "name": "f"}
IMAGE = [{"type": "image_url", "image_url": {"url": "data:,"}}]


@pytest.mark.parametrize(
    ("fields", "param", "advice"),
    [
        ({"n": 2}, "n", "ask again"),
        ({"tools": [FUNCTION]}, "tools", "/v1/toolsets"),
        ({"tool_choice": "none"}, "tool_choice", "/v1/toolsets"),
        ({"response_format": {"type": "json_object"}}, "response_format", "plain text"),
        ({"modalities": ["text", "audio"]}, "modalities", "text"),
        ({"audio": {"voice": "x", "format": "wav"}}, "audio", "text"),
        ({"stop": ["\n"]}, "stop", "cut it"),
        ({"logprobs": True}, "logprobs", "three models"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "user", "content": IMAGE}]}, "messages.0.content", "text parts only"),
        ({"messages": [{"role": "user", "content": [{"type": "x", "text": "q"}]}]}, "messages.0.content", "'x'"),
        ({"messages": [{"role": "tool", "content": "5", "tool_call_id": "1"}]}, "messages.0.role", "'assistant'"),
        ({"messages": [{"role": "assistant", "content": "Hm."}]}, "messages", "must be the user's"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "messages", "some text"),
        ({"messages": [{"role": "user", "content": "x" * 8001}]}, "messages", "8000"),
        ({"extra_body": {"temprature": 1}}, "temprature", "leave it out"),
        ({"extra_body": {"umi": {"max_step": 1}}}, "umi.max_step", "not permitted"),
        ({"extra_body": {"umi": {"max_steps": 33}}}, "umi.max_steps", "32"),
        ({"extra_body": {"umi": {"tools": ["nonesuch"]}}}, "umi.tools", "/v1/tools"),
        ({"metadata": {"tools": "add,nonesuch"}}, "umi.tools", "nonesuch"),
        ({"extra_body": {"umi": {"tools": []}}}, "umi.tools", "at least one"),
    ],
)
def test_a_chat_that_asks_for_something_else_is_refused_with_advice_and_nothing_is_run(
    world: World, client: openai.OpenAI, fields: dict[str, Any], param: str, advice: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, **fields)
    error: Any = refused.value.body
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert advice in error["message"]
    assert world.script.requests == []


@pytest.mark.parametrize(
    ("fields", "param", "advice"),
    [
        ({"tools": [FUNCTION]}, "tools", "/v1/toolsets"),
        ({"text": {"format": {"type": "json_object"}}}, "text", "plain text"),
        ({"conversation": "conv_1"}, "conversation", "previous_response_id"),
        ({"max_tool_calls": 1}, "max_tool_calls", "max_steps"),
        ({"input": []}, "input", "must be the user's"),
        ({"input": [{"role": "user", "content": IMAGE}]}, "input.0.content", "text parts only"),
        ({"input": [{"type": "function_call_output", "call_id": "1", "output": ""}]}, "input.0.type", "'message'"),
        ({"input": [{"type": "message", "role": "user"}]}, "input.0", "role and a content"),
    ],
)
def test_a_response_that_asks_for_something_else_is_refused_with_advice_and_nothing_is_run(
    world: World, client: openai.OpenAI, fields: dict[str, Any], param: str, advice: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        respond(client, **fields)
    assert refused.value.param == param
    assert advice in refused.value.message
    assert world.script.requests == []


def test_tools_steps_and_deadline_are_chosen_beside_openais_parameters(world: World, client: openai.OpenAI) -> None:
    options = {"tools": ["boom", "add"], "max_steps": 5, "deadline_seconds": 30}
    by_body = chat(client, extra_body={"umi": options}).umi["run_id"]
    by_metadata = respond(client, metadata={"tools": "boom, add"}).umi["run_id"]
    both = respond(client, metadata={"tools": "add"}, extra_body={"umi": options}).umi["run_id"]
    assert {name: stored(world, by_body)[name] for name in options} == {**options, "tools": ["add", "boom"]}
    assert stored(world, by_metadata)["tools"] == stored(world, both)["tools"] == ["add", "boom"]


def test_a_run_without_an_answer_is_a_completion_that_says_so(world: World, client: openai.OpenAI) -> None:
    world.script.plans = [plan(Turn.GIVE_UP, "No tool fits.")]
    gave_up = chat(client)
    world.script.plans, world.script.calls = [plan(Turn.CALLER)], [call("add", a=1, b=1)]
    limited = chat(client, extra_body={"umi": {"max_steps": 2}})
    world.script.calls = [call("slow")]
    late = chat(client, extra_body={"umi": {"deadline_seconds": 0.3}})
    assert [
        (c.umi["outcome"], c.choices[0].finish_reason, c.choices[0].message.content) for c in (gave_up, limited, late)
    ] == [
        ("gave_up", "stop", "No answer: the planner gave up. No tool fits."),
        ("max_steps", "length", "No answer: the run took all of its 2 steps without coming to a conclusion."),
        ("deadline", "stop", "No answer: the run did not end within its 0.3 seconds."),
    ]


def test_a_response_whose_run_hits_its_deadline_in_a_call_closes_the_call(world: World) -> None:
    world.script.calls = [call("slow")]
    asked: dict[str, Any] = {"model": "umi", "input": "q", "extra_body": {"umi": {"deadline_seconds": 2}}}
    with connect(world.start(tool_seconds=30)) as client, client.responses.stream(**asked) as stream:
        response: Any = stream.get_final_response()
    reasoning, called, message = response.output
    assert (reasoning.type, called.status, called.output) == ("reasoning", "incomplete", None)
    assert (response.umi["outcome"], message.content[0].text) == ("deadline", response.output_text)
    assert response.output_text.startswith("No answer: ")


def test_a_failed_run_is_a_503_that_names_the_role_and_is_kept(world: World) -> None:
    gateway = world.start(summarizer_url=f"http://127.0.0.1:{free_port()}")
    with connect(gateway) as client:
        for asked in (chat, respond):
            with pytest.raises(openai.InternalServerError) as failed:
                asked(client)
            error: Any = failed.value.body
            assert (failed.value.status_code, error["type"], error["code"]) == (503, "server_error", "role_unavailable")
            assert error["message"].startswith("summarizer: ")
            assert error["umi"]["role"] == "summarizer"
            kept: Any = client.responses.retrieve(f"resp_{error['umi']['run_id']}")
            assert (kept.status, kept.error.code, kept.umi["outcome"]) == ("failed", "server_error", "failed")
            assert kept.error.message == error["message"]
        with pytest.raises(openai.APIError, match="summarizer: "):
            list(chat(client, stream=True))
        *_, last = respond(client, stream=True)
    assert (last.type, last.response.status) == ("response.failed", "failed")
    assert last.response.error.message.startswith("summarizer: ")


def test_the_client_repeats_a_failed_run_only_if_it_sent_nothing_that_has_consequences(world: World) -> None:
    with openai.OpenAI(api_key="x", base_url=f"{world.gateway}/v1", max_retries=1) as client:
        world.script.calls = [call("make_note", text="once")]
        world.script.failures = [(Role.SUMMARIZER, Response("{}", 200, media_type="application/json"))]
        with pytest.raises(openai.InternalServerError):
            chat(client)
        assert world.called == ["/notes"]
        world.script.calls = [call("add", a=2, b=3)]
        world.script.failures = [(Role.SUMMARIZER, Response("{}", 200, media_type="application/json"))]
        assert chat(client).choices[0].message.content == "It is done."
        assert world.called == ["/notes", "/add", "/add"]


def test_whatever_goes_wrong_on_these_paths_has_openais_shape_and_elsewhere_is_a_problem(world: World) -> None:
    app = create_app(world.settings())

    async def crash() -> None:
        raise RuntimeError("a bug")

    for path in ("/v1/responses/x/crash", "/v1/crash"):
        app.add_api_route(path, crash)
    # Each on its own connection: the server drops one on which it crashed.
    alone = {"connection": "close", "content-type": "application/json"}
    with serve(app) as gateway, httpx.Client(base_url=gateway, headers=alone, trust_env=False) as client:
        wrong = [
            client.post("/v1/responses", content=b"no json"),
            client.post("/v1/chat/completions", content=b"x" * 2_100_000),
            client.get("/v1/chat/completions"),
            client.post("/v1/responses/resp_1/cancel"),
            client.post("/v1/responses", content=b'{"model": "umi", "input": "q", "\\ud800": 1}'),
            client.post("/v1/responses", content=b'{"model": "umi", "input": "q", "metadata": {"\\ud800": "1"}}'),
            client.get("/v1/responses/x/crash"),
        ]
        assert [response.status_code for response in wrong] == [400, 413, 405, 404, 400, 400, 500]
        for response in wrong:
            assert response.headers["content-type"] == "application/json"
            assert set(response.json()["error"]) >= {"message", "type", "param", "code"}
        for response in (client.get("/v1/crash"), client.get("/v1/chat"), client.post("/v1/queries", json={})):
            assert response.headers["content-type"] == "application/problem+json"


def test_a_prompt_that_does_not_fit_has_the_code_that_clients_know(world: World, client: openai.OpenAI) -> None:
    overflow = Response('{"type": "context-overflow", "detail": "offer fewer tools"}', 413)
    world.script.failures = [(Role.PLANNER, overflow)]
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client)
    assert refused.value.code == "context_length_exceeded"


def test_a_client_that_leaves_does_not_end_its_run(world: World, client: openai.OpenAI) -> None:
    world.script.delays[Role.SUMMARIZER] = 0.5
    for asked in (chat, respond):
        with asked(client, stream=True) as stream:
            first = next(iter(stream))
        left = first.umi["run_id"] if asked is chat else first.response.umi["run_id"]
        assert stored(world, left)["outcome"] is None
        with world.client.stream("GET", f"/v1/runs/{left}/events") as response:
            response.read()
        assert stored(world, left)["outcome"] == "answered"
