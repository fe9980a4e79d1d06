"""OpenAPI operations as tools: a document becomes `Operation`s, an operation and arguments become an HTTP request.

Both directions are pure functions; fetching documents and sending requests happen elsewhere.
"""

from umi.openapi.document import import_document, read_document
from umi.openapi.model import SAFE, HttpRequest, Operation, Place, Style, Written
from umi.openapi.references import MAX_DOCUMENTS, Resolver, outside
from umi.openapi.report import Imported, OperationReport, Report, Status
from umi.openapi.request import build_request
from umi.openapi.selection import Budget, Selection
from umi.openapi.servers import moved

__all__ = [
    "MAX_DOCUMENTS",
    "SAFE",
    "Budget",
    "HttpRequest",
    "Imported",
    "Operation",
    "OperationReport",
    "Place",
    "Report",
    "Resolver",
    "Selection",
    "Status",
    "Style",
    "Written",
    "build_request",
    "import_document",
    "moved",
    "outside",
    "read_document",
]
