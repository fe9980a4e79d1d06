"""Registries of weights below an fsspec URL: s3://bucket/weights, gs://, abfs://.

objects.py    the registry as objects that are created once and never changed
cache.py      versions fetched from there, in files of this machine
"""

from pathlib import Path

from umi.errors import NoRegistry
from umi.registry import Registry

CACHE = Path("var/cache/registry")
_FILE = "file://"


def open_registry(place: str, cache: Path = CACHE) -> Registry:
    """The registry in a directory or below a URL, whose versions are served from copies in `cache`.

    Raises NoRegistry when there is nothing here that speaks to the URL.
    """
    if place.startswith(_FILE):
        place = place.removeprefix(_FILE)
    if "://" not in place:
        return Registry(Path(place))
    try:
        from remote.objects import Objects
    except ImportError as error:
        raise NoRegistry(f"{place}: a registry on a URL needs fsspec: pip install 'umi-agent[remote]'") from error
    return Registry(Objects(place, cache))
