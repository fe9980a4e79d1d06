"""What chat completions and responses read alike.

OpenAI's APIs have dozens of parameters. Each is used, or ignored because the answer means the same without it, or
refused because it does not; a name that is none of these is refused too, so that a misspelt one is never silently lost.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from gateway.bodies import Body
from gateway.openai.folding import Speaker
from umi.errors import BadInput
from umi.trajectory import JsonObject

MODEL = "umi"
TEXT_PARTS = {"text", "input_text", "output_text"}
MessageRole = Literal["system", "developer", "user", "assistant"]
SPEAKERS: dict[MessageRole, Speaker] = {
    "system": Speaker.SYSTEM,
    "developer": Speaker.SYSTEM,
    "user": Speaker.USER,
    "assistant": Speaker.ASSISTANT,
}


class Options(Body):
    """How the run is to go; as in `POST /v1/queries`."""

    tools: Annotated[list[str], Field(max_length=1000)] | None = Field(
        default=None, description="Names of the tools that may be used; all when absent."
    )
    max_steps: int = Field(
        default=8, ge=1, le=32, description="How many turns the planner has, the concluding one included."
    )
    deadline_seconds: float = Field(default=120.0, gt=0, le=600)


def _text(content: Any) -> Any:
    """One string of a content that may come in parts. Parts are joined as they are."""
    if not isinstance(content, list):
        return content
    texts: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in TEXT_PARTS or not isinstance(part.get("text"), str):
            raise ValueError(f"a part of type {str(kind)[:40]!r} cannot be read; the agent reads text parts only")
        texts.append(part["text"])
    return "".join(texts)


Text = Annotated[
    str,
    BeforeValidator(_text, json_schema_input_type=str | list[JsonObject]),
    Field(description="A string, or a list of text parts."),
]


def _sendable(metadata: dict[str, str]) -> dict[str, str]:
    """Pydantic lets half a surrogate pair pass in a key; it could not be given back."""
    if any(ord(letter) in range(0xD800, 0xE000) for key in metadata for letter in key):
        raise ValueError("a key is not valid Unicode")
    return metadata


@dataclass(frozen=True)
class Refusal:
    """A parameter that is accepted only where it asks for nothing; `advice` says what to do instead."""

    asks_nothing: Callable[[Any], bool]
    advice: str


def empty(value: Any) -> bool:
    """None, false, 0 or nothing inside."""
    return not value


def only(*values: Any) -> Callable[[Any], bool]:
    """The check that lets through what equals one of `values`."""
    return lambda value: value in values


IGNORED = frozenset(
    "temperature top_p user safety_identifier prompt_cache_key prompt_cache_options prompt_cache_retention "
    "service_tier store parallel_tool_calls".split()
)
OWN_TOOLS = 'the agent calls the tools registered at /v1/toolsets; choose among them with "umi": {"tools": ["name"]}'
REFUSED = {
    "tools": Refusal(empty, OWN_TOOLS),
    "tool_choice": Refusal(only("auto"), OWN_TOOLS),
    "moderation": Refusal(empty, "nothing is moderated here"),
    "top_logprobs": Refusal(empty, "an answer is the work of three models; there are no log probabilities of it"),
}


class AgentBody(BaseModel):
    """Common part of the bodies. Further parameters are looked up by `check`."""

    model_config = ConfigDict(extra="allow")

    model: str
    stream: bool | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16), AfterValidator(_sendable)] | None = Field(
        default=None, description='Given back as it came; `{"tools": "a,b"}` chooses tools where `umi` does not.'
    )
    umi: Options | None = Field(default=None, description="The run's options; `extra_body` in OpenAI's client.")

    @property
    def options(self) -> Options:
        """The run's options, from `umi` and `metadata`."""
        options = self.umi or Options()
        named = (self.metadata or {}).get("tools")
        if options.tools is not None or named is None:
            return options
        return options.model_copy(update={"tools": [name.strip() for name in named.split(",") if name.strip()]})

    def check(self, ignored: frozenset[str], refused: dict[str, Refusal]) -> None:
        """Raises BadInput when a further parameter asks for something that the agent does not do."""
        for name, value in (self.model_extra or {}).items():
            if value is None or name in ignored:
                continue
            if (refusal := refused.get(name)) is None:
                raise BadInput(f"there is no parameter {name[:80]!r} here: leave it out", name[:80])
            if not refusal.asks_nothing(value):
                raise BadInput(f"{name} is not supported: {refusal.advice}", name)


def described(what: str, ignored: frozenset[str], refused: dict[str, Refusal]) -> str:
    """The description of a route, with what it ignores and what it refuses."""
    ignores = ", ".join(f"`{name}`" for name in sorted(ignored))
    refuses = "\n".join(f"* `{name}`: {refusal.advice}" for name, refusal in sorted(refused.items()))
    return f"{what}\n\nAccepted and ignored: {ignores}.\n\nRefused where they ask for something:\n\n{refuses}"
