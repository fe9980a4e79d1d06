"""Retrieval over every operation of the corpus: is the operation among the first five for a query in other words?

A query is an operation's own summary with its words changed: synonyms from a table, another order, a frame around it,
and one word in five left out. Among tens of thousands several are the same to any reader (a hundred services "list
users"), so finding one with an equal summary is reported beside it. With an embedding endpoint (UMI_EMBEDDING_URL and
its like, as for the gateway) nearness in meaning counts as well.
"""

import asyncio
import random
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.corpus.documents import imported, read
from gateway.settings import Settings
from gateway.tools.embedder import Embedder, Vectors
from gateway.tools.endpoint import Endpoint
from gateway.tools.retrieval import Retriever
from gateway.transport import RoleClient
from umi.errors import UmiError

SYNONYMS = {
    "get": "fetch", "list": "show all", "create": "make", "delete": "remove", "update": "change", "add": "put in",
    "retrieve": "look up", "returns": "gives", "return": "give", "find": "look for", "search": "seek",
    "modify": "alter", "remove": "drop", "details": "particulars", "information": "facts", "all": "every",
    "new": "fresh", "user": "person", "users": "people", "specified": "given", "existing": "present",
    "send": "deliver", "upload": "hand in", "cancel": "call off",
}  # fmt: skip
_FRAMES = ("I want to {}", "please {}", "how can I {}?", "{} for me", "could you {} now", "we need to {}")
K = 5
_BATCH = 32


def recall(files: list[Path], queries: int, seed: int = 7) -> str:
    """The table of one run over all operations, in Markdown."""
    texts, summaries = {}, {}
    for name, text, summary in tqdm(_operations(files), desc="operations"):
        texts[name], summaries[name] = text, summary
    started = time.monotonic()
    retriever = Retriever(texts)
    built = time.monotonic() - started
    chance = random.Random(seed)
    asked = chance.sample([name for name, summary in summaries.items() if len(summary.split()) >= 3], queries)
    wordings = [reworded(summaries[name], chance) for name in asked]
    endpoint = Settings().embedding_endpoint
    rows = asyncio.run(_vectors([*texts.values(), *wordings], endpoint)) if endpoint else None
    found, same, spent = 0, 0, []
    for number, (name, query) in enumerate(zip(tqdm(asked, desc="queries"), wordings, strict=True)):
        before = time.perf_counter()
        near = None if rows is None else 1 + rows[: len(texts)] @ rows[len(texts) + number]
        best = retriever.fitting(query, K, near=near)
        spent.append(1000 * (time.perf_counter() - before))
        found += name in best
        same += any(summaries[each].lower() == summaries[name].lower() for each in best)
    spent.sort()
    rows = [
        ("found by", f"words, and meaning as {endpoint.model} tells it" if endpoint else "words"),
        ("operations in the index", len(texts)),
        ("seconds to build it", f"{built:.1f}"),
        ("queries", len(asked)),
        (f"Recall@{K}, the very operation", f"{found / len(asked):.1%}"),
        (f"Recall@{K}, or one with the same summary", f"{same / len(asked):.1%}"),
        ("milliseconds a query, median / 99 %", f"{spent[len(spent) // 2]:.1f} / {spent[int(0.99 * len(spent))]:.1f}"),
    ]
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])


async def _vectors(texts: Sequence[str], endpoint: Endpoint) -> Vectors:
    async with RoleClient(1) as client:
        embedder = Embedder(client, endpoint)
        batches = [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]
        return np.concatenate([await embedder.embed(batch) for batch in tqdm(batches, desc="vectors")])


def reworded(summary: str, chance: random.Random) -> str:
    """The summary as somebody else would say it."""
    words = [word.lower() for word in re.findall(r"[A-Za-z][A-Za-z'-]*", summary)]
    words = [SYNONYMS.get(word, word) for word in words]
    kept = [word for word in words if chance.random() > 0.2] or words
    cut = chance.randrange(len(kept))
    return chance.choice(_FRAMES).format(" ".join(kept[cut:] + kept[:cut] if chance.random() < 0.3 else kept))


def _operations(files: list[Path]) -> Iterator[tuple[str, str, str]]:
    """Name, words and summary of every operation; names are made unique by the document's."""
    for number, file in enumerate(files):
        try:
            operations = imported(file, read(file)).operations
        except UmiError:
            continue
        for operation in operations:
            tool = operation.tool
            yield f"{number}:{tool.name}", operation.search_text, tool.description
