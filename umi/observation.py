"""From what a tool answered to the text that a model reads.

Pure: the same bytes give the same observation in training and in serving. The gateway shortens to characters; a role
shortens further, to tokens of its own (`within`).
"""

import html
import json
import re
from collections.abc import Callable
from typing import Any

MAX_CHARS = 1500
_ITEMS, _STRING = 20, 300
_MORE, _CUT = re.compile(r"… (\d{1,12}) more"), re.compile(r"… \((\d{1,12}) characters\)\Z")
"""The notes of what was left out. What is shortened again tells of all that was left out."""
_ERROR_FIELDS = ("detail", "message", "error", "title", "reason", "description")
# None of these can be made to read a page more than once: a hostile megabyte must not hold up the event loop.
_HEAD, _HEAD_END = re.compile(r"(?i)<head\b"), re.compile(r"(?i)</head\s*>")
_UNSEEN = re.compile(r"(?is)<(script|style)\b.*?(?:</\1\s*>|\Z)")
_TAG = re.compile(r"<[^<>]*>")


def observe(status: int, content_type: str, body: bytes, max_chars: int = MAX_CHARS) -> str:
    """What the planner is told of a response.

    JSON is kept compact and shortened by structure (long arrays and strings first); an error keeps its status and its
    message; HTML becomes text; anything binary is named by type and size.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if status >= 400:
        return cut(f"Error {status}: {_message(kind, body) or 'no reason given'}", max_chars)
    if not body:
        return f"Done ({status}, no content)."
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return shorten(json.loads(body), max_chars)
        except RecursionError:
            return "The response is nested too deeply; not shown."
        except ValueError:
            return cut("Not valid JSON: " + _text(body), max_chars)
    if kind == "text/html":
        return cut(_plain(_text(body)), max_chars)
    if kind.startswith("text/") or kind in {"application/xml", "application/yaml"}:
        return cut(_text(body), max_chars)
    return f"Binary response of type {kind or 'unknown'}, {len(body)} bytes; not shown."


def observe_result(content: list[Any], structured: Any, is_error: bool, max_chars: int = MAX_CHARS) -> str:
    """The same of what an MCP tool answered: its structured content if there is some, else its blocks of content."""
    if is_error:
        text = _dump(structured) if structured is not None and not content else _blocks(content)
        text = text or "no reason given"
        return cut(text if text.lower().startswith("error") else f"Error: {text}", max_chars)
    if structured is None and len(content) == 1 and _kind(content[0]) == "text":
        structured = _document(str(content[0].get("text", "")))
    if structured is not None:
        return shorten(structured, max_chars)
    return cut(_blocks(content) or "Done (no content).", max_chars)


def shorten(value: Any, max_chars: int = MAX_CHARS) -> str:
    """Compact JSON of at most `max_chars` characters; arrays and strings are halved until it fits, saying so."""
    items, string = _ITEMS, _STRING
    while len(text := _dump(_trim(value, items, string))) > max_chars and (items > 1 or string > 20):
        items, string = max(1, items // 2), max(20, string // 2)
    return cut(text, max_chars)


def within(text: str, tokens: Callable[[str], int], budget: int) -> str:
    """An observation of at most `budget` tokens, as `tokens` counts them: JSON by structure, other text from its end.

    It depends on nothing else, so that an observation reads the same at every step that follows it.
    """
    shown, chars, document = text, len(text), _document(text)
    while chars and (counted := tokens(shown)) > budget:
        chars = min(chars, len(shown)) * budget // counted
        try:
            shown = cut(text, chars) if document is None else shorten(document, chars)
        except RecursionError:  # what can be read may still be nested too deeply to be written
            document = None
    return shown


def cut(text: str, max_chars: int) -> str:
    """The beginning of a text, with a note of its whole length; the text when it is not longer than `max_chars`."""
    if len(text) <= max_chars:
        return text
    noted = _CUT.search(text)
    return f"{text[:max_chars]}… ({noted[1] if noted else len(text)} characters)"


def _blocks(content: list[Any]) -> str:
    return _sendable("\n".join(_block(block) for block in content if isinstance(block, dict)))


def _block(block: dict[str, Any]) -> str:
    resource = block.get("resource")
    match _kind(block):
        case "text":
            return str(block.get("text", ""))
        case "resource" if isinstance(resource, dict) and isinstance(resource.get("text"), str):
            return resource["text"]
        case "resource" if isinstance(resource, dict):
            return _binary(resource, "blob")
        case "resource_link":
            return f"Resource {block.get('name', '')}: {block.get('uri', '')}"
        case _:
            return _binary(block, "data")


def _binary(holder: dict[str, Any], key: str) -> str:
    size = len(str(holder.get(key, ""))) * 3 // 4  # base64
    return f"Binary content of type {holder.get('mimeType') or 'unknown'}, about {size} bytes; not shown."


def _kind(block: Any) -> Any:
    return block.get("type") if isinstance(block, dict) else None


def _document(text: str) -> Any:
    """The object or array that a text is as a whole; None when it is something else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def _dump(value: Any) -> str:
    return _sendable(json.dumps(value, ensure_ascii=False))


def _sendable(text: str) -> str:
    """JSON can escape lone surrogates, which nothing can store or send."""
    return text.encode("utf-8", "replace").decode()


def _trim(value: Any, items: int, string: int) -> Any:
    match value:
        case str() if len(value) > string:
            return cut(value, string)
        case list():
            noted = _MORE.fullmatch(value[-1]) if value and isinstance(value[-1], str) else None
            listed = value[:-1] if noted else value
            kept = [_trim(item, items, string) for item in listed[:items]]
            more = len(listed) - len(kept) + (int(noted[1]) if noted else 0)
            return [*kept, f"… {more} more"] if more else kept
        case dict():
            return {key: _trim(item, items, string) for key, item in value.items()}
        case _:
            return value


def _message(kind: str, body: bytes) -> str:
    if kind == "text/html":
        return _plain(_text(body))
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return _text(body)
    if isinstance(data, dict):
        for field in _ERROR_FIELDS:
            if found := data.get(field):
                return _sendable(found) if isinstance(found, str) else _dump(found)
    return _dump(data)


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def _plain(page: str) -> str:
    if (start := _HEAD.search(page)) and (end := _HEAD_END.search(page, start.end())):
        page = page[: start.start()] + page[end.end() :]
    page = _UNSEEN.sub(" ", page)
    return " ".join(html.unescape(_TAG.sub(" ", page)).split())
