"""The body of `POST /v1/responses`."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from gateway.openai import bodies
from gateway.openai.bodies import SPEAKERS, AgentBody, MessageRole, Refusal, Text, empty
from gateway.openai.folding import Said, Speaker


def _plain_text(value: Any) -> bool:
    """Whether a `text` parameter asks for no format but text."""
    return isinstance(value, dict) and value.get("format") in (None, {"type": "text"})


IGNORED = bodies.IGNORED | frozenset(
    "max_output_tokens reasoning include stream_options truncation context_management background_options".split()
)
REFUSED = bodies.REFUSED | {
    "text": Refusal(_plain_text, "the answer is plain text; leave the format out"),
    "max_tool_calls": Refusal(empty, 'bound the run with "umi": {"max_steps": 8}'),
    "conversation": Refusal(empty, "go on from a response with previous_response_id"),
    "prompt": Refusal(empty, "there are no stored prompts; send instructions and input"),
    "image": Refusal(empty, "the answer is text"),
}


class Item(BaseModel):
    """An input item: a message, or a decision on a call.

    What an earlier response's output had beside its message is passed over.
    """

    type: Literal["message", "reasoning", "mcp_call", "mcp_approval_request", "mcp_approval_response"] = "message"
    role: MessageRole | None = None
    content: Text | None = None
    approval_request_id: Annotated[str, Field(max_length=100)] | None = None
    approve: bool | None = None
    reason: Annotated[str, Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _message_has_role(self) -> Self:
        if self.type == "message" and (self.role is None or self.content is None):
            raise ValueError("a message has a role and a content")
        if self.type == "mcp_approval_response" and (self.approval_request_id is None or self.approve is None):
            raise ValueError("an mcp_approval_response has an approval_request_id and approve")
        return self


def _items(given: Any) -> Any:
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


class ResponseBody(AgentBody):
    """Input to be answered by the agent, perhaps going on from an earlier response."""

    input: Annotated[list[Item], BeforeValidator(_items, json_schema_input_type=str | list[Item])] = Field(
        description="A user's message, or a list of items."
    )
    instructions: str | None = Field(None, description="A system message for this response only.")
    previous_response_id: str | None = Field(None, description="The finished response that this one goes on from.")
    background: bool | None = Field(None, description="Answer at once; `GET /v1/responses/{id}` shows how it goes on.")

    @property
    def decision(self) -> Item | None:
        """The decision on a call that the request is for, if its newest item is one; what is before it is past."""
        return self.input[-1] if self.input and self.input[-1].type == "mcp_approval_response" else None

    @property
    def said(self) -> list[Said]:
        """What is new."""
        said = [Said(Speaker.INSTRUCTIONS, self.instructions)] if self.instructions else []
        messages = [item for item in self.input if item.type == "message"]
        return [*said, *(Said(SPEAKERS[item.role], item.content or "") for item in messages if item.role)]
