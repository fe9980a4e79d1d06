"""A run as a response: its rationales are reasoning items, its tool calls `mcp_call` items, its answer a message.

A run that waits for approval is a completed response that ends with an `mcp_approval_request`; the request that answers
it gives the same response, further on.

`mcp_call` is OpenAI's item for a tool that the server calls itself; the toolset stands where the MCP server's label
does.
"""

import json
from dataclasses import dataclass

from gateway.events import Outcome, RunStatus, ToolOutcome
from gateway.openai.bodies import MODEL
from gateway.openai.endings import extension, text_of, tokens_of
from gateway.openai.errors import error_of
from gateway.views import RunView, StepView
from umi.trajectory import Call, JsonObject

PREFIX, APPROVAL_PREFIX = "resp_", "mcpr_"


@dataclass(frozen=True)
class Asked:
    """What a response repeats of its request. The log does not keep it: a response that is looked up has none."""

    instructions: str | None = None
    previous_response_id: str | None = None
    metadata: dict[str, str] | None = None
    background: bool = False


def reasoning_item(run_id: str, step: int, rationale: str) -> JsonObject:
    """A planner's turn."""
    summary = [{"type": "summary_text", "text": rationale}]
    return {"id": f"rs_{run_id}_{step}", "type": "reasoning", "summary": summary, "status": "completed"}


def approval_id(run_id: str, step: int) -> str:
    """The id of the request to approve that step's call."""
    return f"{APPROVAL_PREFIX}{run_id}_{step}"


def approval_item(run_id: str, step: int, call: Call, toolset: str) -> JsonObject:
    """A call that waits for approval, or has."""
    return {
        "id": approval_id(run_id, step),
        "type": "mcp_approval_request",
        "server_label": toolset,
        "name": call.tool,
        "arguments": json.dumps(call.arguments),
    }


def call_item(
    run_id: str, step: int, call: Call, toolset: str | None, status: str, output: str | None, approved: bool
) -> JsonObject:
    """A caller's turn, and what came of it."""
    return {
        "approval_request_id": approval_id(run_id, step) if approved else None,
        "id": f"mcp_{run_id}_{step}",
        "type": "mcp_call",
        "server_label": toolset or "none",
        "name": call.tool,
        "arguments": json.dumps(call.arguments),
        "status": status,
        "output": output,
        "error": None,
    }


def call_status(outcome: ToolOutcome | None) -> str:
    """The status of a call by what came of it; None when nothing did."""
    if outcome is None:
        return "incomplete"
    return "completed" if outcome is ToolOutcome.OK else "failed"


def message_item(run_id: str, text: str) -> JsonObject:
    """The answer, or the statement that there is none."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "id": f"msg_{run_id}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def status_of(view: RunView) -> str:
    """A run without an answer is complete all the same once it has ended, or waits for approval: its output says so."""
    if view.status is RunStatus.RUNNING:
        return "in_progress"
    return "failed" if view.outcome is Outcome.FAILED else "completed"


def response_of(view: RunView, asked: Asked) -> JsonObject:
    """The response that a run is, finished or not."""
    status, answers = status_of(view), view.outcome not in {None, Outcome.FAILED}
    items = [item for step in view.steps for item in _items(view.run_id, step)]
    problem = view.problem and error_of(view.problem.model_dump(mode="json"))["error"]
    return {
        "id": PREFIX + view.run_id,
        "object": "response",
        "created_at": int(view.created_at),
        "completed_at": int(view.ended_at) if answers and view.ended_at else None,
        "status": status,
        "background": asked.background,
        "model": MODEL,
        "output": [*items, message_item(view.run_id, text_of(view))] if answers else items,
        "error": problem and {"code": "server_error", "message": problem["message"]},
        "incomplete_details": None,
        "instructions": asked.instructions,
        "previous_response_id": asked.previous_response_id,
        "metadata": asked.metadata or {},
        "usage": None if status == "in_progress" else _usage(view),
        "text": {"format": {"type": "text"}},
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "temperature": None,
        "top_p": None,
        "truncation": "auto",
        "store": True,
        "umi": extension(view),
    }


def _items(run_id: str, step: StepView) -> list[JsonObject]:
    found = [reasoning_item(run_id, step.number, step.rationale)]
    if step.call is None:
        return found
    approved = step.approval is not None and step.approval.approve
    if step.needs_approval:
        found.append(approval_item(run_id, step.number, step.call, step.toolset or "none"))
    if approved or not step.needs_approval:
        status, output = call_status(step.tool_outcome), step.observation
        found.append(call_item(run_id, step.number, step.call, step.toolset, status, output, approved))
    return found


def _usage(view: RunView) -> JsonObject:
    prompt, cached, written = tokens_of(view)
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + written,
    }
