"""OpenAPI 3 and Swagger 2.0 documents as operations, and a report of what became of each."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from umi.errors import BadDocument
from umi.openapi.model import Operation
from umi.openapi.names import Names
from umi.openapi.operation import Source, read_operation
from umi.openapi.references import Node, References, Resolver
from umi.openapi.report import Imported, Losses, OperationReport, Report, Status
from umi.openapi.selection import Budget, Selection

METHODS = ("get", "put", "post", "delete", "patch", "head")
_MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError)
"""What reading a document raises that has something of the wrong type somewhere."""


def read_document(document: Any, location: str | None = None, base_url: str | None = None) -> list[Operation]:
    """The usable operations of an OpenAPI 3 or Swagger 2.0 document, in its own order.

    `location` is the URL that the document was fetched from: a relative server URL starts there. `base_url` overrides
    the document's servers. Raises BadDocument when the document is something else, or none of its operations is
    usable.
    """
    return import_document(document, location, base_url).usable()


def import_document(
    document: Any,
    location: str | None = None,
    base_url: str | None = None,
    *,
    selection: Selection = Selection(),
    resolve: Resolver | None = None,
    budget: Budget = Budget(),
) -> Imported:
    """The same with a report of every operation; none being usable is not an error here.

    `resolve` is asked for documents that this one refers to; without it such an operation is refused. Raises
    BadDocument when the document as a whole is not usable.
    """
    paths = _paths(document)
    source = Source(document, location, base_url, References(document, location, resolve, budget.nodes), budget)
    names = Names()
    operations: list[Operation] = []
    reports: list[OperationReport] = []
    for found in _found(source.references, paths):
        if len(operations) >= budget.operations or len(reports) >= budget.listed:
            raise BadDocument("too many operations; select some by tag, path or method", "document.paths")
        if isinstance(found, OperationReport):
            reports.append(found)
            continue
        operation, report = _import(source, found, names, selection)
        reports.append(report)
        if operation is not None:
            operations.append(operation)
    return Imported(operations=tuple(operations), report=Report(operations=tuple(reports)))


class _Found(NamedTuple):
    """One operation of a document and where it stands."""

    method: str
    path: str
    shared: Node
    own: Node


def _paths(document: Any) -> dict[Any, Any]:
    if not isinstance(document, dict) or not (
        str(document.get("openapi", "")).startswith("3.") or str(document.get("swagger", "")) == "2.0"
    ):
        raise BadDocument('neither "openapi": "3.…" nor "swagger": "2.0" stands in the document', "document")
    paths: Any = document.get("paths")
    if not isinstance(paths, dict) or not paths:
        raise BadDocument("the document has no paths", "document.paths")
    return paths


def _found(references: References, paths: dict[Any, Any]) -> Iterator[_Found | OperationReport]:
    """All operations, and a refusal for each path that is none."""
    for path, item in paths.items():
        if str(path).startswith("x-"):
            continue
        try:
            shared = references.find(references.root.child(item))
            if not isinstance(shared.value, dict):
                raise BadDocument(f"{path} is not an object")
        except (BadDocument, *_MALFORMED) as error:
            yield _refused("", str(path), None, error)
            continue
        for method in METHODS:
            if isinstance(own := shared.value.get(method), dict):
                yield _Found(method.upper(), str(path), shared, shared.child(own))


def _import(
    source: Source, found: _Found, names: Names, selection: Selection
) -> tuple[Operation | None, OperationReport]:
    method, path, _, own = found
    name: str | None = None
    try:
        # Also for what is left out: another selection must not give the other tools other names.
        name = names.take(_identity(own.value), f"{method.lower()}_{path}")
        if objection := selection.objection(method, path, own.value):
            left = OperationReport(method=method, path=path, name=name, status=Status.LEFT_OUT, reason=objection)
            return None, left
        losses = Losses()
        operation = read_operation(source, name, method, path, found.shared, own, losses)
    except (BadDocument, *_MALFORMED) as error:
        return None, _refused(method, path, name, error)
    status = Status.WITH_LOSS if losses.texts else Status.IMPORTED
    report = OperationReport(method=method, path=path, name=name, status=status, losses=losses.texts)
    return operation, report


def _identity(operation: dict[str, Any]) -> str | None:
    identity = operation.get("operationId")
    if identity is not None and not isinstance(identity, str):
        raise TypeError("operationId is not a text")
    return identity


def _refused(method: str, path: str, name: str | None, error: Exception) -> OperationReport:
    if isinstance(error, BadDocument):
        reason, field = str(error), error.field
    else:
        reason, field = f"cannot be understood: {type(error).__name__}: {error}", None
    return OperationReport(
        method=method,
        path=path,
        name=name,
        status=Status.REFUSED,
        reason=reason if len(reason) <= 300 else reason[:299] + "…",
        field=field or f"document.paths.{path}",
    )
