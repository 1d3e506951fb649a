"""Batching on the log: one owner, the same batches whoever decides them, and take-over."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from support.logs import POLICY, Stage, all_of, box, detected, new, opened, quick, until
from support.servers import PrivateValkey

import agents.batch as batch_module
import domain.batching as rules
from agents.batch import Batch
from domain.batching import CameraBatches
from domain.events import BatchClosed, BatchEscalated, EntryParked, Event, PictureBatched
from domain.ids import batch_id
from streams.archive import Archive
from streams.channel import ChannelOptions
from streams.envelope import Envelope, Position
from streams.log import EventLog
from streams.names import stream_key
from streams.trim import Bound, trim

pytestmark = pytest.mark.usefixtures("quick")
__all__ = ["quick"]


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[EventLog]:
    async with opened(valkey_url) as log:
        yield log


def stage_of(log: EventLog, consumer: str, batch: Batch) -> Stage:
    options = ChannelOptions(run_size=5, on_owned=batch.on_owned)
    return Stage(log, "batch", consumer, options, on_run=batch.handle)


@contextlib.asynccontextmanager
async def batching(log: EventLog, consumer: str = "one") -> AsyncIterator[tuple[Batch, Stage]]:
    batch = Batch(log, POLICY)
    async with stage_of(log, consumer, batch) as stage:
        yield batch, stage


async def given(log: EventLog, *seconds: float, camera: str = "porch") -> None:
    await log.append_all(
        [new(detected(f"{camera}{s:g}", s, camera=camera), f"{camera}{s:g}") for s in seconds]
    )


async def idle(log: EventLog) -> bool:
    backlog = next(b for b in await log.backlog() if b.group == "batch")
    return backlog.pending == 0 and backlog.lag == 0


async def batches(log: EventLog) -> list[Event]:
    return [e.event for e in await all_of(log, "batches")]


async def closed(log: EventLog) -> list[tuple[int, str]]:
    events = await batches(log)
    return [(len(e.members), e.reason) for e in events if isinstance(e, BatchClosed)]


async def refolded(log: EventLog, archive: Path | None = None) -> dict[str, CameraBatches]:
    """Return what a new owner would make of the log."""
    fresh = Batch(log, POLICY, archive_dir=archive)
    await fresh.on_owned(0)
    return fresh.partitions[0].cameras


async def test_pictures_become_batches_and_the_state_is_a_fold_of_the_log(log: EventLog) -> None:
    await given(log, *(float(s) for s in range(0, 200, 10)))
    await given(log, 0.0, 100.0, camera="yard")
    async with batching(log) as (batch, _stage):
        await until(lambda: idle(log))
        assert sorted(await closed(log)) == [(1, "idle"), (9, "window"), (9, "window")]
        assert batch.partitions[0].cameras == await refolded(log)
    envelopes = await all_of(log, "batches")
    causes = {e.id for e in await all_of(log, "detections")}
    assert {e.causation_id for e in envelopes} <= causes
    assert len({e.id for e in envelopes}) == len(envelopes)


async def test_a_sure_person_is_escalated_before_the_batch_ends(log: EventLog) -> None:
    await log.append(new(detected("a", 0, box("person", 0.9))))
    async with batching(log):
        await until(lambda: idle(log))
    assert [type(e) for e in await batches(log)] == [PictureBatched, BatchEscalated]


async def test_the_logs_clock_closes_a_batch_once(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    quickly = timedelta(milliseconds=80)
    monkeypatch.setattr("domain.batching.GRACE", -POLICY.idle + quickly)
    async with batching(log) as (batch, stage):
        await given(log, 0.0)
        await until(lambda: idle(log))
        while not await closed(log):
            await batch.tick(stage.channel)
        await batch.tick(stage.channel)
        assert await closed(log) == [(1, "idle")]
        assert batch.partitions[0].cameras == await refolded(log)
        joined, close = await all_of(log, "batches")
        assert close.recorded_at >= joined.recorded_at
        assert close.correlation_id == batch_id("porch", "porch0")
        # The next picture finds it closed; nothing is closed twice.
        await given(log, 1.0)
        await until(lambda: idle(log))
        assert len([e for e in await batches(log) if isinstance(e, PictureBatched)]) == 2
        assert len(await closed(log)) == 1


async def test_the_clock_waits_for_pictures_that_were_there_first(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.batching.GRACE", -POLICY.idle + timedelta(milliseconds=200))
    async with batching(log) as (batch, stage):
        await given(log, 0.0)
        await until(lambda: idle(log))
        partition = batch.partitions[0]
        deadline = partition.next_deadline()
        assert deadline is not None
        # A picture that was recorded in time and is not decided yet.
        await partition.lock.acquire()
        await given(log, 1.0)
        (_, second) = await all_of(log, "detections")
        assert second.recorded_at < deadline
        ticking = asyncio.create_task(batch.tick(stage.channel))
        await until(lambda: datetime.now(UTC) >= deadline)
        assert await log.handled_until("batch", 0) == second.recorded_at
        partition.lock.release()
        await ticking
        await until(lambda: idle(log))
        while not await closed(log):
            await batch.tick(stage.channel)
        assert await closed(log) == [(2, "idle")]


async def test_a_second_process_waits_and_takes_over_with_the_same_batches(log: EventLog) -> None:
    first, second = Batch(log, POLICY), Batch(log, POLICY)
    one, two = stage_of(log, "one", first), stage_of(log, "two", second)
    await given(log, 0.0, 10.0, 20.0)
    await one.start()
    await until(lambda: idle(log))
    await two.start()
    assert not two.channel.owners[0].owned
    await one.stop()
    await until(lambda: two.channel.owners[0].owned)
    await given(log, 30.0, 100.0)
    await until(lambda: idle(log))
    assert second.partitions[0].cameras == await refolded(log)
    await two.stop()
    assert await closed(log) == [(4, "idle")]
    names = {e.batch_id for e in await batches(log) if isinstance(e, PictureBatched)}
    assert names == {batch_id("porch", "porch0"), batch_id("porch", "porch100")}


async def test_a_refused_settlement_is_decided_again_on_the_state_of_the_log(
    log: EventLog,
) -> None:
    async with batching(log) as (batch, stage):
        await given(log, 0.0)
        await until(lambda: idle(log))
        await log.client.set(stage.channel.owners[0].lease.key, "another")
        await given(log, 10.0, 20.0)
        await until(lambda: batch.partitions[0].stale)
        assert len(await batches(log)) == 1
        await log.client.delete(stage.channel.owners[0].lease.key)
        await until(lambda: idle(log))
        assert batch.partitions[0].cameras == await refolded(log)
    assert len(await batches(log)) == 3


async def test_what_only_the_batcher_remembers_joins_no_batch(log: EventLog) -> None:
    """As after a restart that lost the log's end, before this process has noticed it."""
    async with batching(log) as (batch, _stage):
        await given(log, 0.0)
        await until(lambda: idle(log))
        batches_0 = batch.partitions[0]
        (first, *_) = await batches(log)
        assert isinstance(first, PictureBatched)

        async def remember(lost: str) -> None:
            async with batches_0.lock:
                member = msgspec.structs.replace(first.member, picture_id=lost)
                batches_0.apply(msgspec.structs.replace(first, member=member))
                batches_0.position = Position(batches_0.position.ms + 60_000, 0)

        await remember("lost before a picture")
        await given(log, 10.0)
        await until(lambda: idle(log))
        assert batches_0.cameras == await refolded(log)
        await remember("lost before a close")
        await given(log, 100.0)
        await until(lambda: idle(log))
    (close,) = [e for e in await batches(log) if isinstance(e, BatchClosed)]
    assert [m.picture_id for m in close.members] == ["porch0", "porch10"]


async def test_an_unreadable_entry_is_parked_and_leaves_the_state_right(log: EventLog) -> None:
    await given(log, 0.0)
    await log.client.xadd(stream_key(0, "detections"), {"data": "{"})
    await given(log, 10.0)
    async with batching(log) as (batch, _stage):
        await until(lambda: idle(log))
        await given(log, 20.0)
        await until(lambda: idle(log))
        assert batch.partitions[0].cameras == await refolded(log)
    (parked,) = await all_of(log, "parked")
    assert isinstance(parked.event, EntryParked)
    assert len(await batches(log)) == 3


async def test_a_decision_that_fails_spares_the_others(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = rules.decide

    def failing(*args: object) -> tuple[Event, ...]:
        if getattr(args[2], "picture_id", "") == "porch10":
            raise ZeroDivisionError("a bug")
        return decide(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("domain.policies.decide", failing)
    await given(log, 0.0, 10.0, 20.0)
    async with batching(log) as (batch, _stage):
        await until(lambda: idle(log))
        assert batch.partitions[0].cameras == await refolded(log)
    members = [e.member.picture_id for e in await batches(log) if isinstance(e, PictureBatched)]
    assert members == ["porch0", "porch20"]
    (parked,) = await all_of(log, "parked")
    assert isinstance(parked.event, EntryParked)
    assert parked.event.cause == "ZeroDivisionError"


async def test_a_snapshot_shortens_the_fold_and_is_never_needed(
    log: EventLog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(batch_module, "SNAPSHOT_EVERY", 7)
    await given(log, *(float(s) for s in range(0, 400, 8)))
    async with batching(log):
        await until(lambda: idle(log))
    stored = await log.load_snapshot("batch", 0)
    assert stored is not None
    reads: list[object] = []
    read = log.read

    async def counted(*args: object) -> list[Envelope]:
        envelopes = await read(*args)  # type: ignore[arg-type]
        reads.extend(envelopes)
        return envelopes

    monkeypatch.setattr(log, "read", counted)
    short = await refolded(log)
    assert len(reads) < 10
    # Trimmed up to that snapshot: without it, the archive has the rest, or nothing is decided.
    folder = tmp_path / "archive"
    await Archive(log, folder).run()
    place = msgspec.json.decode(stored, type=batch_module.Snapshot)
    await trim(log, Bound("batches", 0, Position(place.ms, place.seq), "test"))
    for useless in (b"{", b'{"incarnation": "old", "ms": 9, "seq": 0, "cameras": {}}'):
        await log.store_snapshot("batch", 0, useless)
        assert await refolded(log, folder) == short
    caplog.clear()
    waiting = asyncio.create_task(refolded(log))

    async def said() -> bool:
        return "set ARCHIVE_DIR" in caplog.text

    await until(said)
    assert not waiting.done()
    waiting.cancel()


async def test_a_killed_process_is_followed_by_another_with_the_same_batches(
    private_valkey: PrivateValkey,
) -> None:
    async with opened(private_valkey.url) as log:
        moments = [float(s) for s in range(0, 600, 4)]
        async with process(private_valkey.url, "one"):
            for start in range(0, 100, 10):
                await given(log, *moments[start : start + 10])

            async def some() -> bool:
                return len(await batches(log)) > 30

            await until(some)
        async with process(private_valkey.url, "two"):
            await given(log, *moments[100:])
            await until(lambda: idle(log))
        # The whole log again, in one process that nobody disturbed.
        expected = Batch(log, POLICY)
        wanted: list[Event] = []
        for envelope in await all_of(log, "detections"):
            wanted += expected.partitions[0].decide(envelope)
        assert await batches(log) == wanted


@contextlib.asynccontextmanager
async def process(url: str, name: str) -> AsyncIterator[None]:
    """Run a batching process and end it with SIGKILL."""
    tests = Path(__file__).parent.parent
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        str(tests / "support" / "batch_process.py"),
        url,
        name,
        env={**os.environ, "PYTHONPATH": str(tests)},
    )
    try:
        yield
    finally:
        child.kill()
        await child.wait()
