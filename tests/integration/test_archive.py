"""Archive and trim: nothing a reader needs is dropped, archive and stream read as one."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.logs import all_of, new, opened, received

from domain.errors import HsiError
from streams.archive import Archive, verify
from streams.consumer import ConsumerGroup
from streams.envelope import START, Envelope, Position
from streams.history import History, MissingHistoryError, trimmed_below
from streams.holding import HeldElsewhereError, holding
from streams.lease import Lease
from streams.log import EventLog
from streams.names import stream_key
from streams.segments import ArchiveError, load_manifest
from streams.trim import Bound, _folded, bound_of, trim

FILES = ("files", 0)


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[EventLog]:
    async with opened(valkey_url) as log:
        yield log


def later() -> datetime:
    """Return a moment behind everything: no entry is kept for its age."""
    return datetime.now(UTC) + timedelta(days=1)


async def given(log: EventLog, count: int, first: int = 0) -> list[Position]:
    news = [new(received(f"p{k}")) for k in range(first, first + count)]
    return await log.append_all(news)


async def handle_all(log: EventLog, group: str = "detect") -> None:
    """Let a group read and acknowledge everything."""
    name = stream_key(0, "files")
    await log.client.xreadgroup(group, "c", {name: ">"}, count=100_000)
    pending = await log.client.xpending_range(name, group, "-", "+", 100_000)
    await log.client.xack(name, group, *(row["message_id"] for row in pending))


async def history(log: EventLog, folder: Path | None, after: Position = START) -> list[Envelope]:
    runs = [run async for run in History(log, folder).read_all(*FILES, after, count=7)]
    return [envelope for run in runs for envelope in run]


async def test_archive_and_stream_read_as_one(log: EventLog, tmp_path: Path) -> None:
    positions = await given(log, 30)
    before = await all_of(log, "files")
    archive = Archive(log, tmp_path, segment_entries=8)
    done = await archive.run()
    assert (done.entries, done.segments) == (30, 4)
    assert (await archive.run()).entries == 0
    await given(log, 5, first=30)
    for below in (positions[0], positions[3], positions[13], positions[29].next()):
        await trim(log, Bound("files", 0, below, ""))
        both = await history(log, tmp_path)
        assert [e.id for e in both[:30]] == [e.id for e in before]
        assert both[:30] == before
        assert len(both) == 35
        assert await history(log, tmp_path, positions[10]) == both[11:]
    assert len(await all_of(log, "files")) == 5
    assert verify(tmp_path).problem is None


async def test_without_the_archive_a_gap_is_an_error_and_not_silence(
    log: EventLog, tmp_path: Path
) -> None:
    positions = await given(log, 10)
    await Archive(log, tmp_path).run()
    await trim(log, Bound("files", 0, positions[5], ""))
    with pytest.raises(MissingHistoryError, match="ARCHIVE_DIR"):
        await history(log, None)
    with pytest.raises(MissingHistoryError, match="ARCHIVE_DIR"):
        await history(log, tmp_path / "empty")
    assert len(await history(log, None, positions[4])) == 5


async def test_a_reader_that_is_overtaken_by_the_trim_misses_nothing(
    log: EventLog, tmp_path: Path
) -> None:
    positions = await given(log, 40)
    await Archive(log, tmp_path).run()
    seen: list[str] = []
    async for run in History(log, tmp_path).read_all(*FILES, count=5):
        seen += [envelope.id for envelope in run]
        await trim(log, Bound("files", 0, positions[min(39, len(seen) + 12)], ""))
    assert seen == [new(received(f"p{k}")).id for k in range(40)]


async def bound(log: EventLog, folder: Path, applied: Position, keep: datetime) -> Bound:
    manifest = Archive(log, folder).manifest()
    return await bound_of(log, FILES, manifest, {FILES: {"ledger": applied}}, keep)


async def test_trimming_never_passes_a_group_a_checkpoint_the_archive_or_the_time(
    log: EventLog, tmp_path: Path
) -> None:
    positions = await given(log, 20)
    end = positions[-1]
    assert (await bound(log, tmp_path, end, later())).below == START
    await Archive(log, tmp_path).run()
    nothing_read = await bound(log, tmp_path, end, later())
    assert (nothing_read.below, nothing_read.held_by) == (START, "group detect")
    group = ConsumerGroup(log, "detect", 0, "c")
    deliveries = await group.read(12, 10)
    await log.client.xack(group.key, "detect", *(str(p) for p in positions[:4]))
    oldest_pending = await bound(log, tmp_path, end, later())
    assert (oldest_pending.below, oldest_pending.held_by) == (positions[4], "group detect")
    await log.client.xack(group.key, "detect", *(str(d.envelope.position) for d in deliveries))
    assert (await bound(log, tmp_path, end, later())).below == positions[11].next()
    await handle_all(log)
    slow = await bound(log, tmp_path, positions[6], later())
    assert (slow.below, slow.held_by) == (positions[6].next(), "read model ledger")
    assert (await bound(log, tmp_path, START, later())).below == START
    kept = await bound(log, tmp_path, end, datetime(2026, 1, 1, tzinfo=UTC))
    assert kept.held_by == "time to keep"
    assert kept.below < positions[0]
    await given(log, 3, first=20)
    await handle_all(log)
    newer = await log.newest(*FILES)
    unarchived = await bound(log, tmp_path, newer, later())
    assert (unarchived.below, unarchived.held_by) == (end.next(), "archive")
    assert await trim(log, unarchived) == 20
    assert await log.oldest(*FILES) > end
    assert await trimmed_below(log, *FILES) == end.next()


async def test_a_missing_group_blocks_and_an_unknown_one_counts(
    log: EventLog, tmp_path: Path
) -> None:
    positions = await given(log, 5)
    await Archive(log, tmp_path).run()
    await handle_all(log)
    name = stream_key(0, "files")
    await log.client.xgroup_create(name, "visitor", id=str(positions[1]))
    visited = await bound(log, tmp_path, positions[-1], later())
    assert (visited.below, visited.held_by) == (positions[1].next(), "group visitor")
    await log.client.xgroup_destroy(name, "detect")
    missing = await bound(log, tmp_path, positions[-1], later())
    assert (missing.below, missing.held_by) == (START, "group detect")


async def test_a_folded_stream_keeps_what_stands_behind_its_snapshot(
    log: EventLog, tmp_path: Path
) -> None:
    lane = ("batches", 0)
    manifest = Archive(log, tmp_path).manifest()
    without = await bound_of(log, lane, manifest, {}, later())
    assert without.below == START
    for stored, below in (
        (b'{"incarnation":"%s","ms":7,"seq":1,"cameras":{}}' % log.incarnation.encode(), (7, 2)),
        (b'{"incarnation":"another","ms":7,"seq":1}', (0, 0)),
        (b"broken", (0, 0)),
    ):
        await log.store_snapshot("batch", 0, stored)
        assert await _folded(log, lane) == Position(*below)


async def test_another_log_is_refused(log: EventLog, tmp_path: Path) -> None:
    await given(log, 3)
    await Archive(log, tmp_path).run()
    other = EventLog(log.client, cluster=False, partitions=1, incarnation="another")
    with pytest.raises(ArchiveError, match="another log"):
        await Archive(other, tmp_path).run()


async def test_a_log_that_lost_its_end_is_refused(log: EventLog, tmp_path: Path) -> None:
    await given(log, 3)
    await Archive(log, tmp_path).run()
    name = stream_key(0, "files")
    await log.client.delete(name)
    await log.client.xadd(name, {"id": "x"}, id="5-1")
    with pytest.raises(ArchiveError, match="lost its end"):
        await Archive(log, tmp_path).run()


async def test_only_one_process_archives(log: EventLog, tmp_path: Path) -> None:
    async with holding(Lease(log, "archive", 0), "archiving") as lost:
        assert not lost.is_set()
        with pytest.raises(HeldElsewhereError, match="another process"):
            await Archive(log, tmp_path).run()
    await Archive(log, tmp_path).run()


async def test_bytes_that_are_no_text_come_back_as_they_were(
    log: EventLog, tmp_path: Path
) -> None:
    fields = {b"id": b"\xff\x00", b"position": b"p", b"odd": b'"\\\xc3\x28'}
    entry = await log.client.xadd(stream_key(0, "files"), fields)
    await Archive(log, tmp_path).run()
    await given(log, 1)
    before = await all_of(log, "files")
    await trim(log, Bound("files", 0, Position.parse(entry).next(), ""))
    assert await history(log, tmp_path) == before


async def test_a_full_disk_is_said_and_nothing_is_trimmed(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await given(log, 3)
    (tmp_path / "files").write_text("a file where the folder should be")
    with pytest.raises(ArchiveError, match="ARCHIVE_DIR"):
        await Archive(log, tmp_path).run()
    assert load_manifest(tmp_path) is None
    assert issubclass(ArchiveError, HsiError)


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from streams import archive, segments, trim
from streams.log import EventLog

async def main(url, folder, point):
    def die(*_): os.kill(os.getpid(), signal.SIGKILL)
    if point == "segment": archive.store_manifest = die
    if point == "draft": Path.replace = die
    if point == "manifest":
        store = archive.store_manifest
        def stored(*given):
            store(*given)
            die()
        archive.store_manifest = stored
    log = await EventLog.open(url, partitions=1)
    await archive.Archive(log, Path(folder), segment_entries=8).run()
    die()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("point", ["draft", "segment", "manifest", "end"])
async def test_killed_at_any_point_the_next_run_completes_the_archive(
    log: EventLog, valkey_url: str, tmp_path: Path, point: str
) -> None:
    await given(log, 20)
    before = await all_of(log, "files")
    command = [sys.executable, "-c", KILLED, valkey_url, str(tmp_path), point]
    child = await asyncio.create_subprocess_exec(*command, cwd=os.getcwd())
    assert await child.wait() == -signal.SIGKILL
    found = load_manifest(tmp_path)
    assert (found is None) == (point in ("draft", "segment"))
    await given(log, 4, first=20)
    await log.client.delete("hsi:{0}:lease:archive")  # what its time would do
    await Archive(log, tmp_path, segment_entries=8).run()
    assert verify(tmp_path).problem is None
    assert verify(tmp_path).entries == 24
    end = await log.newest(*FILES)
    await trim(log, Bound("files", 0, end.next(), ""))
    assert (await history(log, tmp_path))[:20] == before
