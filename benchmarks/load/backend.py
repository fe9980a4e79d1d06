"""What every server under test talks to: three roles, an OpenAI-compatible model and a tool, all scripted.

One run is plan, call, weather, plan, call, weather, plan, summarize. A plain ASGI app: it costs a fraction of what is
measured, in a process of its own. `POST /script?ms=50` makes every role answer so late; `hold=1` lets no role answer
until `hold=0`.
"""

import asyncio
import json
import sys
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from starlette.types import Receive, Scope, Send

CITIES, WEATHER = ("Paris", "London"), {"Paris": (21, "sunny"), "London": (17, "cloudy")}
ANSWER = "Paris is 21 C and sunny, London is 17 C and cloudy; Paris is warmer."
USAGE = {"prompt_tokens": 400, "cached_tokens": 300, "completion_tokens": 20, "seconds": 0.01}
_PLANS = (
    ("I need the current weather in Paris before I can compare. Use weather.", "caller"),
    ("Paris is known. I still need the weather in London to compare the two. Use weather.", "caller"),
    ("Both observations are in, so the query can be answered now.", "conclusion"),
)
DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Weather", "version": "1"},
    "servers": [{"url": "/"}],
    "paths": {
        "/weather": {
            "get": {
                "operationId": "weather",
                "summary": "The current weather in a city",
                "parameters": [{"name": "city", "in": "query", "required": True, "schema": {"type": "string"}}],
                "responses": {"200": {"description": "Its weather"}},
            }
        }
    },
}


class Backend:
    """The app."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.free = asyncio.Event()
        self.free.set()
        self.served = {"roles": 0, "tools": 0}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        status, answer = await self._answer(scope["path"], scope["query_string"].decode(), await _body(receive))
        content = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, path: str, query: str, body: bytes) -> tuple[int, Any]:
        match path:
            case "/v1/plan" | "/v1/call" | "/v1/summarize" | "/v1/chat/completions":
                self.served["roles"] += 1
                await self.free.wait()
                await asyncio.sleep(self.seconds)
                asked = json.loads(body)
                return 200, _completion(asked) if "model" in asked else _turn(path, len(asked["trajectory"]["steps"]))
            case "/weather":
                self.served["tools"] += 1
                city = parse_qs(query)["city"][0]
                degrees, sky = WEATHER[city]
                return 200, {"city": city, "temp_c": degrees, "sky": sky}
            case "/openapi.json":
                return 200, DOCUMENT
            case "/readyz":
                return 200, {"status": "ok"}
            case "/script":
                given = parse_qs(query)
                self.seconds = float(given.get("ms", ["0"])[0]) / 1000
                (self.free.clear if given.get("hold") == ["1"] else self.free.set)()
                served, self.served = self.served, {"roles": 0, "tools": 0}
                return 200, served
            case _:
                return 404, {"detail": "not found"}


def _turn(path: str, steps: int) -> dict[str, Any]:
    """What a role answers; `steps` counts those in its trajectory."""
    common = {"version": "scripted", "usage": USAGE}
    match path:
        case "/v1/plan":
            rationale, turn = _PLANS[min(steps, 2)]
            return {**common, "plan": {"rationale": rationale, "turn": turn}}
        case "/v1/call":
            return {**common, "call": {"tool": "weather", "arguments": {"city": CITIES[min(steps, 2) - 1]}}}
        case _:
            return {**common, "answer": ANSWER}


def _completion(asked: dict[str, Any]) -> dict[str, Any]:
    """The same as a chat completion: the model's name is the role, observations are counted in the prompt."""
    seen = sum(message["content"].count("Observation:") for message in asked["messages"])
    match asked["model"]:
        case "planner":
            rationale, turn = _PLANS[min(seen, 2)]
            text = f"{rationale} Next: {turn}."
        case "caller":
            text = json.dumps({"tool": "weather", "arguments": {"city": CITIES[min(seen, 1)]}})
        case _:
            text = ANSWER
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": asked["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 400, "completion_tokens": 20, "total_tokens": 420},
    }


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


if __name__ == "__main__":
    quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "lifespan": "off"}
    uvicorn.run(Backend(), port=int(sys.argv[1]), backlog=4096, **quiet)
