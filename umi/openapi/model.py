"""What an imported operation is made of, and the request that it becomes."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from umi.trajectory import Frozen, ToolSpec

SAFE = frozenset({"GET", "HEAD"})
"""Methods that change nothing (RFC 9110, 9.2.1)."""


class Place(StrEnum):
    """Where an argument travels in the request."""

    PATH = "path"
    QUERY = "query"
    HEADER = "header"
    COOKIE = "cookie"
    BODY = "body"
    WHOLE_BODY = "whole_body"


class Style(StrEnum):
    """How arrays and objects are written where only text can travel (OpenAPI 3.1, 4.8.12.3)."""

    SIMPLE = "simple"
    LABEL = "label"
    MATRIX = "matrix"
    FORM = "form"
    SPACE = "spaceDelimited"
    PIPE = "pipeDelimited"
    TAB = "tabDelimited"
    """`collectionFormat: tsv` of Swagger 2.0."""
    DEEP = "deepObject"
    JSON = "json"
    """A parameter that is described by `content` instead of a style."""


class Written(Frozen):
    """How one argument is written. `content_type` is that of its part in a multipart body."""

    style: Style
    explode: bool
    reserved: bool = False
    content_type: str | None = None


_SIMPLE, _FORM = Written(style=Style.SIMPLE, explode=False), Written(style=Style.FORM, explode=True)
DEFAULTS = {
    Place.PATH: _SIMPLE,
    Place.QUERY: _FORM,
    Place.HEADER: _SIMPLE,
    Place.COOKIE: _FORM,
    Place.BODY: _FORM,
    Place.WHOLE_BODY: _FORM,
}
"""How an argument is written when its document says nothing."""


Security = tuple[tuple[tuple[str, tuple[str, ...]], ...], ...]
"""Alternatives, each the schemes it needs together and the scopes of each."""


class Operation(Frozen):
    """One HTTP operation that a model may call."""

    tool: ToolSpec
    method: str
    base_url: str
    path: str
    places: dict[str, tuple[Place, str]]
    """Argument name to where it travels and under which name."""
    written: dict[str, Written] = Field(default_factory=dict[str, Written])
    """How an argument is written, where it differs from its place's default."""
    media: str = "application/json"
    """The body's type."""
    needs_body: bool = False
    """Whether a body is sent even when nothing is given of it: an empty object."""
    security: Security | None = None
    """Who may call it; None when its document does not say."""
    search_text: str = ""
    """All words of the operation, for retrieval; longer than what a prompt shows."""

    def without(self, place: Place, target: str) -> "Operation":
        """The same, but nobody is asked for the argument that travels there."""
        gone = {name for name, (where, to) in self.places.items() if where is place and to.lower() == target.lower()}
        schema = self.tool.parameters
        parameters = {
            **schema,
            "properties": {name: each for name, each in schema["properties"].items() if name not in gone},
            "required": [name for name in schema.get("required", ()) if name not in gone],
        }
        tool = self.tool.model_copy(update={"parameters": parameters})
        places = {name: where for name, where in self.places.items() if name not in gone}
        return self.model_copy(update={"tool": tool, "places": places}) if gone else self

    @property
    def is_safe(self) -> bool:
        """Whether the request may be repeated without changing anything (RFC 9110, 9.2.1)."""
        return self.method in SAFE


class HttpRequest(Frozen):
    """A request that is ready to be sent. At most one of the bodies is not None.

    `json_body` is sent as JSON; `text_body` as UTF-8, its content-type is among `headers`.
    """

    method: str
    url: str
    headers: dict[str, str]
    json_body: Any = None
    text_body: str | None = None

    @property
    def is_safe(self) -> bool:
        """Whether it may be repeated without changing anything."""
        return self.method in SAFE
