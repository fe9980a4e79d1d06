"""Requests that UMi builds beside those of FastMCP's director, for operations and arguments drawn from the corpus."""

import json
import random
import re
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.corpus import samples
from benchmarks.corpus.causes import Difference, cause_of
from benchmarks.corpus.documents import FOLDER, imported, read
from benchmarks.corpus.requests import Read
from benchmarks.corpus.requests import read as read_request
from gateway.egress.permission import Permission
from gateway.tools.http_tools import HttpTool
from umi.errors import CallRejected, UmiError
from umi.openapi import HttpRequest, Operation, Place
from umi.trajectory import JsonObject

PEER = "fastmcp==4.1.6"
MAX_BYTES, PER_DOCUMENT, TRIES = 1_000_000, 12, 5


@dataclass
class Case:
    """One operation, arguments by place, and the request that UMi makes of them."""

    operation: Operation
    arguments: dict[str, Any]
    ours: Read


@dataclass
class Comparison:
    """What came of all cases."""

    equal: int = 0
    explained: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[str] = field(default_factory=Counter[str])
    """By the other side."""
    unsampled: Counter[str] = field(default_factory=Counter[str])
    """Operations for which no valid arguments were found, by the last objection."""
    unexplained: list[str] = field(default_factory=list[str])

    @property
    def compared(self) -> int:
        return self.equal + self.explained.total() + len(self.unexplained)


def compare(files: list[Path], wanted: int, seed: int = 7) -> Comparison:
    """Compare until `wanted` operations were built by both sides, and print the table."""
    chance = random.Random(seed)
    files = [file for file in files if file.stat().st_size <= MAX_BYTES]
    chance.shuffle(files)
    comparison = Comparison()
    with _peer() as director, tqdm(total=wanted, desc="operations") as bar:
        for file in files:
            if comparison.compared >= wanted:
                break
            cases = list(_cases(file, chance, comparison))
            for case, theirs in zip(cases, _asked(director, file, cases), strict=True):
                _judge(case, theirs, comparison, file)
            bar.update(comparison.compared - bar.n)
    print(table(comparison))
    return comparison


def _cases(file: Path, chance: random.Random, comparison: Comparison) -> Iterator[Case]:
    try:
        document = read(file)
        if not str(document.get("openapi", "")).startswith("3."):
            return  # the other side reads no Swagger 2.0
        operations = list(imported(file, document).operations)
    except UmiError:
        return
    for operation in chance.sample(operations, min(PER_DOCUMENT, len(operations))):
        try:
            yield _case(operation, chance)
        except CallRejected as error:
            comparison.unsampled[re.sub(r"'.*?'|\d+", "…", str(error))[:60]] += 1


def _case(operation: Operation, chance: random.Random) -> Case:
    """A case. Raises CallRejected when no try was admitted."""
    tool = HttpTool(operation, "corpus", Permission(frozenset()))
    for left in reversed(range(TRIES)):
        arguments = samples.arguments(operation.tool.parameters, chance)
        try:
            return Case(operation, _by_place(operation, arguments), _read(tool.request(arguments)))
        except CallRejected:
            if not left:
                raise
    raise AssertionError


def _by_place(operation: Operation, arguments: JsonObject) -> dict[str, Any]:
    placed: dict[str, Any] = {}
    for name, value in arguments.items():
        place, target = operation.places[name]
        if place is Place.WHOLE_BODY:
            placed["body"] = value
        else:
            placed.setdefault(place.value, {})[target] = value
    return placed


def _read(request: HttpRequest) -> Read:
    headers, body = request.headers, request.text_body or ""
    if request.json_body is not None:
        headers = {"content-type": "application/json", **headers}
        body = json.dumps(request.json_body)
    return read_request(request.method, request.url, headers, body)


def _judge(case: Case, theirs: JsonObject, comparison: Comparison, file: Path) -> None:
    if "refused" in theirs:
        comparison.refused[theirs["refused"].partition(":")[0]] += 1
        return
    other = read_request(**theirs)
    if not (fields := case.ours.differs_from(other)):
        comparison.equal += 1
    elif cause := cause_of(Difference(case.operation, case.ours, other)):
        comparison.explained[cause] += 1
    else:
        different = "\n".join(
            f"  {name}: {getattr(case.ours, name)!r}\n     not {getattr(other, name)!r}" for name in fields
        )
        where = f"{file.name}: {case.operation.method} {case.operation.path}"
        comparison.unexplained.append(f"{where}\n{different}"[:1500])


def _peer() -> subprocess.Popen[str]:
    """The director in its own environment, made the first time."""
    folder = FOLDER / "fastmcp"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"installing {PEER} into {folder}", flush=True)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PEER], check=True)
        (folder / "ready").touch()
    return subprocess.Popen(
        [python, "-W", "ignore", Path(__file__).with_name("peer.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        text=True,
    )


def _asked(director: subprocess.Popen[str], file: Path, cases: list[Case]) -> list[JsonObject]:
    if not cases:
        return []
    assert director.stdin is not None and director.stdout is not None
    jobs = [
        {
            "method": case.operation.method,
            "path": case.operation.path,
            "arguments": case.arguments,
            "base_url": case.operation.base_url,
        }
        for case in cases
    ]
    print(json.dumps({"file": str(file), "cases": jobs}), file=director.stdin, flush=True)
    return json.loads(director.stdout.readline())


def table(comparison: Comparison) -> str:
    """The counts in Markdown."""
    rows: list[tuple[str, object]] = [
        ("operations built by both", comparison.compared),
        ("read alike", comparison.equal),
    ]
    rows += [(f"differs: {cause}", count) for cause, count in comparison.explained.most_common()]
    rows += [("**not explained**", f"**{len(comparison.unexplained)}**")]
    rows += [(f"not built by FastMCP: {reason}", count) for reason, count in comparison.refused.most_common()]
    rows += [(f"no valid arguments drawn: {reason}", count) for reason, count in comparison.unsampled.most_common(12)]
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])
