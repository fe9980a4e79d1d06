"""UMi as an MCP server: one tool, `ask`, for other agents, over HTTP in the gateway and over pipes beside it."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Protocol

import anyio
import mcp_types as types
from mcp import MCPError
from mcp.server import Server, ServerRequestContext
from pydantic import AfterValidator, Field, ValidationError

from gateway.bodies import Body, not_blank
from gateway.events import Called, Event, Observed, Offered, Outcome, Payload, Planned
from gateway.openai.endings import text_of
from gateway.views import RunView, fold
from umi.errors import UmiError
from umi.trajectory import JsonObject

_INSTRUCTIONS = (
    "UMi answers a question by calling the tools that are registered with it. Ask whole questions, with all that is "
    "needed to answer them: it remembers nothing of earlier ones."
)
_CANCEL_SECONDS = 10.0
Context = ServerRequestContext[Any, Any]


class AskBody(Body):
    """What `ask` takes."""

    query: Annotated[str, Field(min_length=1, max_length=8000, description="The question."), AfterValidator(not_blank)]
    tools: Annotated[list[str], Field(max_length=1000)] | None = Field(
        None, description="Names of the tools that may be used; all when absent."
    )
    max_steps: int = Field(8, ge=1, le=32, description="How many turns the planner has, the concluding one included.")


class Asking(Protocol):
    """Where runs go on: in this process, or behind a gateway's API. Every method raises UmiError."""

    async def start(self, context: Context, body: AskBody) -> str:
        """Begin a run and return its id."""
        ...

    def follow(self, run_id: str) -> AsyncIterator[Event | None]:
        """Its events, from the first to the last; None when nothing has happened for a while."""
        ...

    async def cancel(self, run_id: str) -> None:
        """End it: nobody waits for it any more."""
        ...


_STEP = {
    "type": "object",
    "properties": {
        "rationale": {"type": "string"},
        "call": {"type": ["object", "null"]},
        "observation": {"type": ["string", "null"]},
    },
}
_ASK = types.Tool(
    name="ask",
    title="Ask UMi",
    description="Answer a question with the tools that are registered with UMi, an agent that plans, calls tools and "
    "sums up what they answered.",
    input_schema=AskBody.model_json_schema(),
    output_schema={
        "type": "object",
        "properties": {
            "run_id": {"type": "string"},
            "outcome": {"type": "string", "enum": [outcome.value for outcome in Outcome]},
            "answer": {"type": ["string", "null"]},
            "steps": {"type": "array", "items": _STEP},
        },
        "required": ["run_id", "outcome", "answer", "steps"],
    },
    # The tools behind it may change things, and reach anything.
    annotations=types.ToolAnnotations(read_only_hint=False, idempotent_hint=False, open_world_hint=True),
)


def create_server(asking: Asking, version: str) -> Server[Any]:
    """The server. A call that is cancelled, or whose connection is gone, cancels its run."""

    async def list_tools(_: Context, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_ASK])

    async def call_tool(context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        if params.name != _ASK.name:
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {params.name[:100]!r}; the only one is 'ask'")
        try:
            body = AskBody.model_validate(params.arguments or {})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            return _refused(f"{'.'.join(map(str, first['loc'])) or 'arguments'}: {first['msg']}")
        try:
            return _result(await _answered(asking, context, body))
        except UmiError as error:
            return _refused(str(error))

    return Server(
        "umi",
        version=version,
        title="UMi",
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def _answered(asking: Asking, context: Context, body: AskBody) -> RunView:
    """The run once it has ended; whoever asked is told of every plan, call and observation meanwhile."""
    run_id = await asking.start(context, body)
    events: list[Event] = []
    try:
        async for event in asking.follow(run_id):
            if event is not None:
                events.append(event)
                if text := _told(event.data):
                    await context.session.report_progress(len(events), message=text)
    except anyio.get_cancelled_exc_class():
        with anyio.move_on_after(_CANCEL_SECONDS, shield=True):
            await asking.cancel(run_id)
        raise
    return fold(events)


def _told(payload: Payload) -> str | None:
    match payload:
        case Planned(plan=plan):
            return plan.rationale
        case Offered(tools=tools):
            return f"+ {', '.join(tools)}"
        case Called(call=call):
            return f"→ {call.tool}({json.dumps(call.arguments, ensure_ascii=False)})"
        case Observed(observation=observation):
            return f"← {observation}"
        case _:
            return None


def _result(view: RunView) -> types.CallToolResult:
    text = view.problem.detail if view.problem is not None else text_of(view)
    steps = [step.model_dump(mode="json", include={"rationale", "call", "observation"}) for step in view.steps]
    shown: JsonObject = {"run_id": view.run_id, "outcome": view.outcome, "answer": view.answer, "steps": steps}
    content: list[types.ContentBlock] = [types.TextContent(text=text or f"No answer: the run is {view.outcome}.")]
    return types.CallToolResult(
        content=content, structured_content=shown, is_error=view.outcome is not Outcome.ANSWERED
    )


def _refused(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)
