"""The body of `POST /v1/chat/completions`."""

from typing import Annotated

from pydantic import BaseModel, Field

from gateway.openai import bodies
from gateway.openai.bodies import OWN_TOOLS, SPEAKERS, AgentBody, MessageRole, Refusal, Text, empty, only
from gateway.openai.folding import Conversation, Said, conversation

IGNORED = bodies.IGNORED | frozenset(
    "max_tokens max_completion_tokens frequency_penalty presence_penalty seed reasoning_effort verbosity "
    "prediction".split()
)
REFUSED = bodies.REFUSED | {
    "n": Refusal(only(1), "a run has one answer; ask again for another"),
    "functions": Refusal(empty, OWN_TOOLS),
    "function_call": Refusal(only("auto"), OWN_TOOLS),
    "response_format": Refusal(only({"type": "text"}), "the answer is plain text; leave it out"),
    "modalities": Refusal(only(["text"]), "the answer is text"),
    "audio": Refusal(empty, "the answer is text"),
    "web_search_options": Refusal(empty, OWN_TOOLS),
    "logprobs": Refusal(empty, "an answer is the work of three models; there are no log probabilities of it"),
    "logit_bias": Refusal(empty, "the roles have tokenizers of their own"),
    "stop": Refusal(empty, "the answer comes whole; cut it where you like"),
}


class Message(BaseModel):
    """A message. Other fields (`name`, `refusal`, …) are ignored, so that an answer can be sent back as it came."""

    role: MessageRole
    content: Text | None = None


class StreamOptions(BaseModel):
    """What the stream contains."""

    include_usage: bool = Field(False, description="A last chunk without choices carries the usage.")


class ChatBody(AgentBody):
    """A conversation to be answered by the agent."""

    messages: Annotated[list[Message], Field(min_length=1)]
    stream_options: StreamOptions | None = None

    @property
    def conversation(self) -> Conversation:
        """What has been said."""
        return conversation(Said(SPEAKERS[message.role], message.content or "") for message in self.messages)

    @property
    def with_usage(self) -> bool:
        """Whether the stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage
