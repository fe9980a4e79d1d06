"""What the planner is told of an HTTP response."""

import json
import random
import time
from typing import Any

import pytest

from umi.observation import MAX_CHARS, observe, shorten, within

JSON, HTML = "application/json", "text/html; charset=utf-8"
NOTE = len("… (999999999 characters)")


def test_short_json_is_kept_whole() -> None:
    data = {"city": "Åre", "days": [1, 2.5, None, True], "deep": {"a": []}}
    for kind in (JSON, "application/json; charset=utf-8", "application/vnd.api+json", "Application/JSON"):
        assert json.loads(observe(200, kind, json.dumps(data).encode())) == data


def test_json_is_compact_and_not_escaped() -> None:
    assert observe(200, JSON, b'{\n  "city":   "\\u00c5re"\n}') == '{"city": "Åre"}'


@pytest.mark.parametrize(
    ("kind", "body", "told"),
    [
        (JSON, b'{"detail": "No city named \'Olso\'."}', "Error 404: No city named 'Olso'."),
        (JSON, b'{"title": "Gone", "code": 7}', "Error 404: Gone"),
        (JSON, b'{"error": {"message": "bad", "at": "x"}}', 'Error 404: {"message": "bad", "at": "x"}'),
        (JSON, b'{"detail": [{"loc": ["query"], "msg": "required"}]}',
         'Error 404: [{"loc": ["query"], "msg": "required"}]'),
        (JSON, b'["wrong"]', 'Error 404: ["wrong"]'),
        ("text/plain", b"nope", "Error 404: nope"),
        (HTML, b"<html><head><title>x</title></head><body><h1>Not&nbsp;found</h1></body>", "Error 404: Not found"),
        ("", b"", "Error 404: no reason given"),
    ],
)  # fmt: skip
def test_an_error_keeps_its_status_and_its_message(kind: str, body: bytes, told: str) -> None:
    assert observe(404, kind, body) == told


def test_html_becomes_its_text() -> None:
    page = b"""<html><head><title>t</title><style>p {color: red}</style></head><body><SCRIPT>let a = "<p>";</SCRIPT>
    <p class="x">Rates: 1 &lt; 2 &amp;
    more</p><br/>end</body></html>"""
    assert observe(200, HTML, page) == "Rates: 1 < 2 & more end"


def test_what_is_no_text_is_named_by_type_and_size() -> None:
    assert observe(200, "image/png", b"\x89PNG\x00") == "Binary response of type image/png, 5 bytes; not shown."
    assert observe(200, "", b"\x00") == "Binary response of type unknown, 1 bytes; not shown."


def test_no_content_is_said_to_be_done() -> None:
    assert observe(204, "", b"") == "Done (204, no content)."


def test_broken_json_is_shown_as_text() -> None:
    assert observe(200, JSON, b'{"a": \xff') == 'Not valid JSON: {"a": �'


def test_long_arrays_are_shortened_and_say_how_many_were_left_out() -> None:
    rows = [{"name": f"city {i}"} for i in range(500)]
    told = json.loads(observe(200, JSON, json.dumps({"count": 500, "rows": rows}).encode()))
    kept = len(told["rows"]) - 1
    assert told["rows"] == [*rows[:kept], f"… {500 - kept} more"]
    assert told["count"] == 500
    assert kept >= 10


def test_long_strings_are_shortened_and_say_how_long_they_were() -> None:
    told = json.loads(observe(200, JSON, json.dumps({"text": "ab" * 5000, "id": 7}).encode()))
    assert told["text"].startswith("abab")
    assert told["text"].endswith("… (10000 characters)")
    assert told["id"] == 7


@pytest.mark.parametrize("kind", [JSON, HTML, "text/plain"])
@pytest.mark.parametrize("status", [200, 500])
def test_no_observation_is_longer_than_the_limit_and_its_note(kind: str, status: int) -> None:
    for seed in range(12):
        body = json.dumps(arbitrary(random.Random(seed), 6)).encode()
        for limit in (50, 200, MAX_CHARS):
            assert len(observe(status, kind, body, limit)) <= limit + NOTE


def test_an_object_with_thousands_of_keys_is_cut() -> None:
    text = shorten({f"key {i}": i for i in range(5000)})
    assert len(text) <= MAX_CHARS + NOTE
    assert text.endswith("characters)")


@pytest.mark.parametrize("status", [200, 404])
def test_a_hostile_body_is_an_observation_like_any_other(status: int) -> None:
    for body in (b"[" * 200_000, b'{"detail": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", b"1" * 50_000, b"[NaN, 1e999]"):
        assert len(observe(status, JSON, body)) <= MAX_CHARS + NOTE + 30
    surrogate = observe(status, JSON, b'{"detail": "\\ud800"}')
    assert surrogate.encode("utf-8")  # a lone surrogate could be neither stored nor sent


@pytest.mark.parametrize("page", [b"<script " * 60_000, b"<" * 300_000, b"<head" * 60_000])
def test_a_hostile_page_takes_no_time(page: bytes) -> None:
    start = time.process_time()
    observe(200, HTML, page)
    assert time.process_time() - start < 2


def arbitrary(rng: random.Random, depth: int) -> Any:
    match rng.randrange(6 if depth else 3):
        case 0:
            return rng.randrange(10**9)
        case 1 | 2:
            return "é<x> " * rng.randrange(200)
        case 3 | 4:
            return [arbitrary(rng, depth - 1) for _ in range(rng.randrange(40 // (7 - depth) + 2))]
        case _:
            return {f"k{i}": arbitrary(rng, depth - 1) for i in range(rng.randrange(6))}


def words(text: str) -> int:
    """Tokens of a tokenizer that knows words and gives every other character one of its own."""
    return sum(len(piece) if not piece.isascii() else 1 for piece in text.split())


@pytest.mark.parametrize("budget", [32, 50, 200])
@pytest.mark.parametrize(
    "text",
    [
        "plain words " * 200,
        "天気は晴れです。" * 100,
        json.dumps({"days": [{"text": "晴れ" * 30, "n": n} for n in range(40)]}, ensure_ascii=False),
    ],
)
def test_an_observation_is_within_a_budget_of_tokens_and_says_what_is_left_out(text: str, budget: int) -> None:
    shown = within(text, words, budget)
    assert words(shown) <= budget
    assert shown.startswith(text[:8])
    assert "… (" in shown or " more" in shown
    assert within(shown, words, budget) == shown
    assert within(text, words, words(text)) == text


def test_what_is_shortened_again_tells_of_all_that_was_left_out() -> None:
    data = {"rows": list(range(100)), "text": "word " * 200}
    once = shorten(data)
    again = json.loads(within(once, len, 150))
    assert again["rows"] == [0, 1, 2, 3, 4, "… 95 more"]
    assert again["text"].endswith("… (1000 characters)")
    assert within("x" * 3000, len, 1000) == within(within("x" * 3000, len, 2000), len, 1000)


def test_nesting_that_cannot_be_shortened_by_structure_is_cut() -> None:
    deep = "[" * 740 + "]" * 740
    assert len(within(deep, len, 300)) <= 300
    assert within(deep, len, 300).endswith("… (1480 characters)")


def test_a_budget_too_small_for_any_note_ends_too() -> None:
    assert within("x" * 100, len, 1) == "… (100 characters)"
