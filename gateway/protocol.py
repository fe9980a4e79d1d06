"""HTTP as uvicorn reads it; what it cannot read is answered like every other error."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.openai.errors import is_ours, reshaped
from gateway.problems import respond
from umi.wire import Problem

_LONGEST_URL = 65_535
"""Bytes; what http-parser can count."""


class Http(HttpToolsProtocol):
    """For uvicorn's setting `http`."""

    def send_400_response(self, msg: str) -> None:
        """Say what is wrong, and close the connection: it is unknown where a next request would begin."""
        url: bytes = getattr(self, "url", b"")  # not there before the first request
        too_long = len(url) > _LONGEST_URL
        detail = f"The URL is longer than {_LONGEST_URL} bytes." if too_long else f"{msg} This port speaks HTTP/1.1."
        problem = Problem(type="unreadable", title="Unreadable request", status=400, detail=detail)
        response = respond(problem, {"connection": "close"})
        if is_ours(url.partition(b"?")[0].decode("latin-1")):
            response = reshaped(bytes(response.body), response.status_code, dict(response.headers))
        head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + head + b"\r\n" + bytes(response.body))
        self.transport.close()
