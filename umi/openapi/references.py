"""Following `$ref`: inside the document, and outside of it through a resolver that somebody passes in."""

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote, urldefrag, urljoin

from umi.errors import BadDocument, UmiError

Resolver = Callable[[str], Any]
"""The parsed document at an absolute URL; raises an UmiError when there is none."""

_MAX_CHAIN = 20
MAX_DOCUMENTS = 50


class Node(NamedTuple):
    """A value of a document, and the URL of the document that holds it: its references start there."""

    value: Any
    home: str

    def child(self, value: Any) -> "Node":
        """Another value of the same document."""
        return Node(value, self.home)


def outside(document: Any, location: str | None = None) -> list[str]:
    """The absolute URLs of other documents that `document`, which lies at `location`, refers to, in its own order."""
    home, found, rest = urldefrag(location or "").url, dict[str, None](), [document]
    while rest:
        value = rest.pop()
        if isinstance(value, list):
            rest.extend(reversed(value))
        elif isinstance(value, dict):
            rest.extend(reversed(value.values()))
            reference = value.get("$ref")
            if isinstance(reference, str) and not reference.startswith("#"):
                url = urldefrag(urljoin(home, reference)).url
                if url != home and "://" in url:
                    found[url] = None
    return list(found)


class References:
    """All documents that one import touches."""

    def __init__(
        self, root: Any, location: str | None = None, resolve: Resolver | None = None, max_nodes: int = 1_000_000
    ) -> None:
        self.root = Node(root, urldefrag(location or "").url)
        self._left = max_nodes
        self._documents: dict[str, Any] = {self.root.home: root}
        self._resolve = resolve

    def follow(self, node: Node) -> Node | None:
        """What `node` stands for; None when a reference leads nowhere.

        Raises BadDocument for a reference that refers to itself, or out of the document without a resolver, and when
        more nodes were followed than one document may cost.
        """
        self._left -= 1
        if self._left < 0:
            raise BadDocument("the document's schemas are too large as a whole", "document")
        found: Node | None = node
        for _ in range(_MAX_CHAIN):
            if found is None or not isinstance(found.value, dict) or not isinstance(found.value.get("$ref"), str):
                return found
            found = self._target(found.value["$ref"], found.home)
        raise BadDocument("a reference refers to itself", "document")

    def find(self, node: Node) -> Node:
        """The same where there is no doing without. Raises BadDocument."""
        if (found := self.follow(node)) is None:
            raise BadDocument(f"the reference {node.value['$ref']!r} leads nowhere", "document")
        return found

    def _target(self, reference: str, home: str) -> Node | None:
        address, _, pointer = reference.partition("#")
        url = urljoin(home, address) if address else home
        if url not in self._documents:
            self._documents[url] = self._fetch(url, reference)
        value = self._documents[url]
        if pointer and not pointer.startswith("/"):
            return None  # an anchor
        for part in pointer.split("/")[1:]:
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            else:
                return None
        return None if value is None else Node(value, url)

    def _fetch(self, url: str, reference: str) -> Any:
        if self._resolve is None:
            raise BadDocument(f"only references inside the document are followed, not {reference!r}", "document")
        if len(self._documents) > MAX_DOCUMENTS:
            raise BadDocument(f"the document refers to more than {MAX_DOCUMENTS} others", "document")
        try:
            return self._resolve(url)
        except UmiError as error:
            raise BadDocument(f"the reference {reference!r} cannot be followed: {error}", "document") from error
