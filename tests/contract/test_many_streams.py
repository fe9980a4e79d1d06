"""Many event streams, open at the same time on one gateway; `make load` does the same with 2,000."""

from pathlib import Path

from benchmarks.load import servers, streams


async def test_streams_that_are_all_open_at_once_get_all_of_their_events(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with servers.scripted_backend(log) as backend, servers.gateway(backend.url, tmp_path, log) as gateway:
        seen = await streams.watch(gateway, backend, 100, patience=90)
    assert (seen.open, seen.whole) == (100, 100)
