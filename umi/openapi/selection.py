"""Which operations of a document become tools, and how much of them."""

from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import Field

from umi.trajectory import Frozen

Words = Annotated[tuple[Annotated[str, Field(max_length=200)], ...], Field(max_length=50)]
Method = Literal["GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"]


class Selection(Frozen):
    """The operations to import. An empty `include` or `methods` admits all; what is excluded is out in any case, and
    what is deprecated unless that is asked for.

    Paths are patterns such as `/admin/*`, where `*` also matches `/`.
    """

    include_tags: Words = ()
    exclude_tags: Words = ()
    include_paths: Words = ()
    exclude_paths: Words = ()
    methods: Annotated[tuple[Method, ...], Field(max_length=8)] = ()
    deprecated: bool = False

    def objection(self, method: str, path: str, operation: dict[str, Any]) -> str | None:
        """Why an operation is left out; None when it is selected."""
        given: Any = operation.get("tags")
        tags = {str(tag) for tag in given[:100]} if isinstance(given, list) else set[str]()
        if operation.get("deprecated") is True and not self.deprecated:
            return "it is deprecated"
        if self.methods and method not in self.methods:
            return f"the method {method} is not selected"
        if self.include_tags and not tags.intersection(self.include_tags):
            return "none of its tags is selected"
        if excluded := sorted(tags.intersection(self.exclude_tags)):
            return f"the tag {excluded[0]!r} is excluded"
        if self.include_paths and not _matches(path, self.include_paths):
            return "its path is not selected"
        return "its path is excluded" if _matches(path, self.exclude_paths) else None


class Budget(Frozen):
    """How large one tool and one document may become; what is beyond is cut and reported, or refused.

    Every tool that is offered costs its prompt; a document from outside must cost neither the time nor the memory of
    the process.
    """

    chars: int = 8_000
    """Of a tool's parameter schema as JSON."""
    visits: int = 2_000
    """Schema nodes looked at for one tool."""
    fields: int = 100
    """Properties of one object."""
    operations: int = 10_000
    """Tools of one document."""
    listed: int = 100_000
    """Operations of one document, those left out among them."""
    nodes: int = 3_000_000
    """Looked at in one document; operations after that are refused."""


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)
