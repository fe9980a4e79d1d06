"""The commands of `python -m benchmarks.corpus`."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.corpus.conformance import compare
from benchmarks.corpus.documents import files_in, installed
from benchmarks.corpus.imports import import_all
from benchmarks.corpus.recall import recall as find

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
Paths = Annotated[list[Path] | None, typer.Argument(help="Files and folders; the npm package's by default.")]


@app.command()
def imports(
    paths: Paths = None,
    sample: Annotated[int, typer.Option(help="Take only so many documents, evenly spread.")] = 0,
    schemas: Annotated[bool, typer.Option(help="Check every tool's schema as the gateway does; slow.")] = False,
) -> None:
    """Import every document; exit code 1 after a crash or when less than 99 % of the operations are usable."""
    tally = import_all(files_in(paths or [installed()], sample), schemas)
    raise typer.Exit(1 if tally.crashes or tally.usable < 0.99 else 0)


@app.command()
def conformance(
    paths: Paths = None,
    operations: Annotated[int, typer.Option(help="How many operations to compare.")] = 5000,
) -> None:
    """Compare requests with FastMCP's, an independent builder; exit code 1 when a difference is not explained."""
    comparison = compare(files_in(paths or [installed()]), operations)
    for text in comparison.unexplained[:20]:
        print(text)
    raise typer.Exit(1 if comparison.unexplained else 0)


@app.command()
def recall(
    paths: Paths = None, queries: Annotated[int, typer.Option(help="How many operations to look for.")] = 2000
) -> None:
    """Look for operations among all of the corpus, by their summaries in other words."""
    print(find(files_in(paths or [installed()]), queries))


if __name__ == "__main__":
    app()
