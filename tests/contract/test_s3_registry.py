"""The registry on the API of S3, as moto serves it; where s3fs and moto[server] are installed (docs/releases.md)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from remote import open_registry
from tests.unit.test_registry import BY, add, serve
from umi.errors import NoRegistry, Outdated
from umi.release import Release, released
from umi.roles import Role

pytest.importorskip("s3fs", reason="pip install s3fs 'moto[server]'")
server: Any = pytest.importorskip("moto.server", reason="pip install s3fs 'moto[server]'")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    store = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    store.start()
    host, port = store.get_host_and_port()
    yield f"http://{host}:{port}"
    store.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    name = f"weights-{uuid4()}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}/umi"


def test_versions_and_releases_go_through_s3(bucket: str, tmp_path: Path) -> None:
    operator, replica = open_registry(bucket, tmp_path / "a"), open_registry(bucket, tmp_path / "b")
    assert (replica.stamp(Role.PLANNER), replica.release(Role.PLANNER), replica.versions(Role.PLANNER)) == (
        None,
        None,
        [],
    )
    for version in ("v2", "v1"):
        add(operator, tmp_path, version)
        serve(operator, version)
    assert replica.stamp(Role.PLANNER) == 2
    assert (found := replica.release(Role.PLANNER)) and found.stable == "v1"
    assert sorted(replica.versions(Role.PLANNER)) == ["v1", "v2"]
    assert replica.open(Role.PLANNER, "v1").manifest.version == "v1"


def test_of_eight_operators_seven_are_told_that_they_lost(bucket: str, tmp_path: Path) -> None:
    first = open_registry(bucket, tmp_path)
    add(first, tmp_path, "v1")
    serve(first, "v1")

    def operator(number: int) -> str:
        by = BY.model_copy(update={"who": f"operator-{number}"})

        def make(before: Release | None) -> Release:
            assert before is not None
            return released(before, "v1", by)

        try:
            return open_registry(bucket, tmp_path).change(Role.PLANNER, make, expected=1).who
        except Outdated:
            return "lost"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(operator, range(8)))
    assert outcomes.count("lost") == 7
    assert (won := first.release(Role.PLANNER)) and won.generation == 2
    assert won.who in outcomes


def test_a_bucket_that_is_not_there_is_named(bucket: str, tmp_path: Path) -> None:
    missing = open_registry("s3://elsewhere/umi", tmp_path / "cache")
    with pytest.raises(NoRegistry, match=r"s3://elsewhere/umi cannot be used: .*bucket"):
        add(missing, tmp_path, "v1")
