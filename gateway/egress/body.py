"""Reading a response within limits, those before and those after decompression."""

import zlib
from collections.abc import Callable

import aiohttp

from umi.errors import NotReached, TooLarge

ACCEPTED = "gzip, deflate"
Decoder = Callable[[bytes, int], bytes]


async def read_body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The decoded body of a response.

    Never holds more than `max_bytes` and one chunk, however small the body was compressed. Raises TooLarge;
    NotReached when it is encoded in a way that was not asked for, or not as it says.
    """
    decode = _decoder(response.headers.get("content-encoding", "identity"))
    length = response.headers.get("content-length", "")
    if response.method == "HEAD":
        return b""
    if length.isascii() and length.isdigit() and int(length[:19]) > max_bytes:
        raise TooLarge(max_bytes, response.status)
    received, body = 0, bytearray()
    async for chunk in response.content.iter_any():
        received += len(chunk)
        body += decode(chunk, max_bytes - len(body) + 1)
        if max(received, len(body)) > max_bytes:
            raise TooLarge(max_bytes, response.status)
    return bytes(body)


def _decoder(encoding: str) -> Decoder:
    """What makes of a chunk its content, of which at most so many bytes are wanted."""
    match encoding.strip().lower():
        case "" | "identity":
            return lambda chunk, _: chunk
        case "gzip" | "x-gzip" | "deflate":
            return _inflater()
        case _:
            raise NotReached("answered in an encoding that was not asked for")


def _inflater() -> Decoder:
    state = zlib.decompressobj(wbits=47)  # gzip or zlib, by its header

    def inflate(chunk: bytes, room: int) -> bytes:
        try:
            return b"" if state.eof else state.decompress(chunk, room)
        except zlib.error as error:
            raise NotReached("answered with something that is not compressed as it says") from error

    return inflate
