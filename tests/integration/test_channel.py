"""A faust agent over a channel: every entry is settled by its outcome, whatever happens."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from itertools import pairwise

import pytest
from support.logs import Stage, all_of, detected, new, opened, quick, received, rejected, until
from support.servers import PrivateValkey

from domain.errors import HsiError, PermanentError, ServiceUnavailableError, TransientError
from domain.events import EntryParked, FileRejected, ImageReceived
from domain.outcomes import Done, Outcome, Park, Retry
from runtime.deadline import Deadline
from runtime.service import DrainingService
from streams.channel import ChannelOptions, Handler, each
from streams.consumer import ConsumerGroup
from streams.deadletter import MAX_ATTEMPTS, MAX_DELIVERIES
from streams.envelope import START, Envelope
from streams.feed import SUSPECT_DELIVERIES
from streams.log import EventLog
from streams.names import stream_key

pytestmark = pytest.mark.usefixtures("quick")
__all__ = ["quick"]


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[EventLog]:
    async with opened(valkey_url) as log:
        yield log


async def given(log: EventLog, count: int, prefix: str = "p") -> list[str]:
    names = [f"{prefix}{number:04}" for number in range(count)]
    await log.append_all([new(received(name)) for name in names])
    return names


def name_of(envelope: Envelope) -> str:
    assert isinstance(envelope.event, ImageReceived)
    return envelope.event.picture_id


async def handled(log: EventLog) -> list[str]:
    return [e.event.picture_id for e in await all_of(log, "detections")]  # type: ignore[attr-defined]


async def parked(log: EventLog) -> list[EntryParked]:
    return [e.event for e in await all_of(log, "parked") if isinstance(e.event, EntryParked)]


async def settled(log: EventLog) -> bool:
    backlog = next(b for b in await log.backlog() if b.group == "detect")
    return backlog.pending == 0 and backlog.lag == 0


async def the_partition(log: EventLog) -> int:
    """Return the partition that the generated pictures' one camera belongs to."""
    found = [p for p in range(log.partitions) if await log.newest("files", p) != START]
    assert len(found) == 1
    return found[0]


async def detect(envelope: Envelope) -> Outcome:
    if isinstance(envelope.event, FileRejected):
        return Done()
    return Done((detected(name_of(envelope)),))


async def test_every_entry_goes_through_once_and_in_order(log: EventLog) -> None:
    names = await given(log, 500)
    async with Stage(log, "detect", "one", handler=each(detect)):
        await until(lambda: settled(log))
        assert await handled(log) == names
        more = await given(log, 10, "q")
        await until(lambda: settled(log))
        assert await handled(log) == names + more


async def test_two_consumers_share_the_work(log: EventLog) -> None:
    names = await given(log, 400)
    options = ChannelOptions(run_size=10, concurrency=2)
    async with (
        Stage(log, "detect", "one", options, handler=each(detect)),
        Stage(log, "detect", "two", options, handler=each(detect)),
    ):
        await until(lambda: settled(log))
    assert sorted(await handled(log)) == names


async def test_a_failing_entry_is_tried_again_then_parked_and_spares_the_others(
    log: EventLog,
) -> None:
    names = await given(log, 20)
    tries: dict[str, int] = {}

    async def handler(envelope: Envelope) -> Outcome:
        name = name_of(envelope)
        tries[name] = tries.get(name, 0) + 1
        if name == "p0007":
            raise ZeroDivisionError("a bug")
        if name == "p0003" and tries[name] < 3:
            raise TransientError("not now")
        return await detect(envelope)

    async with Stage(log, "detect", "one", handler=each(handler)):
        await until(lambda: settled(log))
    assert sorted(await handled(log)) == [n for n in names if n != "p0007"]
    (event,) = await parked(log)
    assert (event.picture_id, event.cause, event.attempts) == ("p0007", "ZeroDivisionError", 5)
    assert tries["p0007"] == MAX_ATTEMPTS
    assert tries["p0003"] == 3
    causes = [(f.attempt, f.cause, f.retry_seconds is None) for f in event.failures]
    assert causes == [(n, "ZeroDivisionError", n == 5) for n in range(1, 6)]
    for before, after in pairwise(event.failures):
        assert after.at - before.at >= timedelta(seconds=before.retry_seconds or 0)
    assert await log.client.keys("*failures*") == []


async def test_what_failed_first_is_known_to_whoever_takes_an_entry_over(log: EventLog) -> None:
    await given(log, 1)
    failed_in: list[str] = []

    def failing(name: str, error: type[Exception]) -> Handler:
        async def handler(envelope: Envelope) -> Outcome:
            failed_in.append(name)
            raise error(name)

        return each(handler)

    first = Stage(log, "detect", "first", handler=failing("first", ZeroDivisionError))
    await first.start()
    await until(lambda: len(failed_in) >= 2)
    await first.crash()
    async with Stage(log, "detect", "second", handler=failing("second", KeyError)):
        await until(lambda: settled(log))
    (event,) = await parked(log)
    assert event.failures[0].attempt == 1
    assert event.failures[0].cause == "ZeroDivisionError"
    assert (event.failures[-1].attempt, event.failures[-1].cause) == (event.attempts, "KeyError")
    assert [f.at for f in event.failures] == sorted(f.at for f in event.failures)
    assert await log.client.keys("*failures*") == []


async def test_more_failing_entries_than_fit_in_hand_do_not_stop_the_stage(log: EventLog) -> None:
    names = await given(log, 60)
    options = ChannelOptions(run_size=2, concurrency=1)
    tries: dict[str, int] = {}

    async def handler(envelope: Envelope) -> Outcome:
        name = name_of(envelope)
        tries[name] = tries.get(name, 0) + 1
        if tries[name] < 2:
            raise TransientError("not at the first try")
        return await detect(envelope)

    async with Stage(log, "detect", "one", options, handler=each(handler)):
        await until(lambda: settled(log))
    assert sorted(await handled(log)) == names


async def test_a_permanent_error_parks_at_once(log: EventLog) -> None:
    await given(log, 1)

    async def handler(envelope: Envelope) -> Outcome:
        raise PermanentError("no picture")

    async with Stage(log, "detect", "one", handler=each(handler)):
        await until(lambda: settled(log))
    (event,) = await parked(log)
    assert (event.cause, event.error, event.attempts) == ("PermanentError", "no picture", 1)


async def test_a_run_answered_wrongly_is_not_acknowledged(log: EventLog) -> None:
    await given(log, 3)

    async def handler(envelopes: Sequence[Envelope]) -> list[Outcome]:
        return [Done()] * (len(envelopes) + 1)

    async with Stage(log, "detect", "one", handler=handler):
        await until(lambda: settled(log))
    events = await parked(log)
    assert len(events) == 3
    assert all("outcomes for" in event.error for event in events)


async def test_an_outage_pauses_the_stage_and_charges_no_attempt(log: EventLog) -> None:
    names = await given(log, 30)
    states: list[tuple[str, bool]] = []
    asked: list[str] = []
    away = True

    async def handler(envelopes: Sequence[Envelope]) -> list[Outcome]:
        asked.extend(name_of(e) for e in envelopes)
        if away:
            raise ServiceUnavailableError("detector", "no answer", retry_after=0.02)
        return [await detect(e) for e in envelopes]

    options = ChannelOptions(
        run_size=4, on_state=lambda service, up, message: states.append((service, up))
    )
    async with Stage(log, "detect", "one", options, handler=handler) as stage:
        await until(lambda: len(asked) > 40)
        # Only what was in hand when it began is asked for again; nothing new is taken.
        assert set(asked) <= set(names[:12])
        assert states == [("detector", False)]
        assert stage.channel.gate.closed
        away = False
        await until(lambda: settled(log))
    assert sorted(await handled(log)) == names
    assert await parked(log) == []
    assert states == [("detector", False), ("detector", True)]


async def test_a_service_seen_to_answer_is_asked_again_before_the_long_wait_is_over(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.feed.EARLY_PROBE_SECONDS", 0.1)
    names = await given(log, 5)
    asked = 0
    away, answered_at = True, 0.0

    async def handler(envelopes: Sequence[Envelope]) -> list[Outcome]:
        nonlocal asked
        asked += 1
        if away:
            raise ServiceUnavailableError("detector", "no answer", retry_after=30)
        return [await detect(e) for e in envelopes]

    options = ChannelOptions(answered=lambda: answered_at)
    async with Stage(log, "detect", "one", options, handler=handler):
        await until(lambda: asked == 1)
        # A check that lies is believed no more often than EARLY_PROBE_SECONDS.
        answered_at = time.monotonic()
        began = time.monotonic()
        await until(lambda: asked == 2)
        assert time.monotonic() - began >= 0.05
        # No check has had an answer since: the wait counts.
        await asyncio.sleep(0.3)
        assert asked == 2
        away, answered_at = False, time.monotonic()
        await until(lambda: settled(log), seconds=10)
    assert sorted(await handled(log)) == names


async def test_what_never_asks_the_service_does_not_say_that_it_is_back(log: EventLog) -> None:
    states: list[bool] = []
    away = True

    async def handler(envelope: Envelope) -> Outcome:
        if isinstance(envelope.event, ImageReceived) and away:
            raise ServiceUnavailableError("detector", "no answer")
        return await detect(envelope)

    await log.append_all(
        [new(received(f"a{n}") if n % 2 else rejected(f"r{n}")) for n in range(10)]
    )
    options = ChannelOptions(on_state=lambda service, up, message: states.append(up))
    async with Stage(log, "detect", "one", options, handler=each(handler)) as stage:
        await until(lambda: stage.channel.gate.failures > 2)
        assert states == [False]
        away = False
        await until(lambda: settled(log))
    assert states == [False, True]


async def test_a_probe_that_is_parked_makes_the_next_entry_the_probe(log: EventLog) -> None:
    away = True

    async def handler(envelope: Envelope) -> Outcome:
        if away:
            raise ServiceUnavailableError("detector", "no answer", retry_after=0.1)
        if name_of(envelope) == "gone":
            return Park(PermanentError("the picture is gone"))
        return await detect(envelope)

    await log.append(new(received("gone")))
    options = ChannelOptions(run_size=1)
    async with Stage(log, "detect", "one", options, handler=each(handler)) as stage:
        await until(lambda: stage.channel.gate.closed)
        away = False
        await given(log, 4)
        await until(lambda: settled(log))
        assert not stage.channel.gate.closed


async def test_lost_probes_do_not_close_the_gate_for_ever(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.gate.BACKOFF_CAP_SECONDS", 0.3)
    names = await given(log, 4)
    away = True

    async def handler(envelopes: Sequence[Envelope]) -> list[Outcome]:
        if away:
            raise ServiceUnavailableError("detector", "no answer", retry_after=0.2)
        return [await detect(e) for e in envelopes]

    options = ChannelOptions(run_size=4)
    async with Stage(log, "detect", "one", options, handler=handler) as stage:
        await until(lambda: stage.channel.gate.closed)
        thief = ConsumerGroup(log, "detect", 0, "thief")
        stolen, _ = await thief.claim_stale(0, 10, START)
        assert all((await thief.settle([(d, await detect(d.envelope)) for d in stolen])).flags)
        away = False
        names += await given(log, 4, "q")
        await until(lambda: settled(log))
        assert not stage.channel.gate.closed
    assert await handled(log) == names


async def test_an_entry_that_does_not_decode_is_parked_and_the_stream_goes_on(
    log: EventLog,
) -> None:
    names = await given(log, 2)
    await log.client.xadd(stream_key(0, "files"), {"data": b"\x00\xff", "odd": "1"})
    newer = {"id": "e9", "type": "image.received/9", "cor": "c", "cau": "", "data": "{}"}
    await log.client.xadd(stream_key(0, "files"), newer)
    names += await given(log, 2, "q")
    async with Stage(log, "detect", "one", handler=each(detect)):
        await until(lambda: settled(log))
    assert await handled(log) == names
    odd, new_version = await parked(log)
    assert (odd.cause, odd.event_tag, odd.payload) == ("UndecodableError", "?", "\x00\\xff")
    assert (new_version.event_tag, new_version.event_version) == ("image.received", 9)
    assert "is newer than this software knows (1)" in new_version.error


async def test_stopping_settles_what_is_in_hand(log: EventLog) -> None:
    names = await given(log, 3)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handler(envelopes: Sequence[Envelope]) -> list[Outcome]:
        begun.set()
        await go_on.wait()
        return [await detect(e) for e in envelopes]

    stage = Stage(log, "detect", "one", ChannelOptions(run_size=3), handler=handler)
    await stage.start()
    await begun.wait()
    stopping = asyncio.create_task(stage.stop())
    await until(lambda: stage.channel.stopping.is_set())
    assert not stopping.done()
    go_on.set()
    await stopping
    assert await handled(log) == names
    assert await settled(log)


async def test_what_is_not_finished_in_time_is_left_to_others(log: EventLog) -> None:
    names = await given(log, 3)
    begun = asyncio.Event()

    async def never(envelopes: Sequence[Envelope]) -> list[Outcome]:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    stage = Stage(log, "detect", "one", handler=never)
    stage.channel.drain_seconds = 0.05
    await stage.start()
    await begun.wait()
    await stage.stop()
    assert await handled(log) == []
    async with Stage(log, "detect", "two", handler=each(detect)):
        await until(lambda: settled(log))
    assert await handled(log) == names


async def test_a_heartbeat_keeps_what_takes_long(log: EventLog) -> None:
    names = await given(log, 2)
    asked: list[str] = []

    async def slow(envelopes: Sequence[Envelope]) -> list[Outcome]:
        asked.extend(name_of(e) for e in envelopes)
        await asyncio.sleep(1.2)  # Twice the time after which an entry without heartbeat is stale.
        return [await detect(e) for e in envelopes]

    async with Stage(log, "detect", "one", handler=slow):
        await until(lambda: bool(asked))
        async with Stage(log, "detect", "two", handler=slow):
            await until(lambda: settled(log))
    assert asked == names
    assert await handled(log) == names


async def test_an_emptied_log_ends_the_channel_with_its_reason(log: EventLog) -> None:
    async with Stage(log, "detect", "one", handler=each(detect)) as stage:
        watching = asyncio.create_task(stage.channel.watch(asyncio.Event()))
        await log.client.delete(stream_key(0, "files"))
        with pytest.raises(HsiError, match="emptied or replaced"):
            await asyncio.wait_for(watching, 10)


async def test_redis_killed_in_the_middle_loses_and_doubles_nothing(
    private_valkey: PrivateValkey,
) -> None:
    async with opened(private_valkey.url) as log:
        failed: set[str] = set()

        async def handler(envelope: Envelope) -> Outcome:
            name = name_of(envelope)
            if name.endswith("5") and name not in failed:
                failed.add(name)
                return Retry(TransientError("once"), after=0.1)
            return await detect(envelope)

        names = await given(log, 300)
        await log.client.waitaof(1, 0, 5000)
        options = ChannelOptions(run_size=5)
        async with Stage(log, "detect", "one", options, handler=each(handler)):
            for _ in range(2):
                count = len(await handled(log))

                async def gone_on(before: int = count) -> bool:
                    return len(await handled(log)) > before + 20

                await until(gone_on)
                await asyncio.to_thread(private_valkey.kill)
                await asyncio.sleep(0.1)
                private_valkey.start()  # Children are started from the main thread only.
                await until(lambda: answers(log))
            await until(lambda: settled(log))
        assert sorted(await handled(log)) == names
        assert await parked(log) == []


async def answers(log: EventLog) -> bool:
    try:
        await log.newest("files", 0)
    except ServiceUnavailableError:
        return False
    return True


async def test_a_service_drains_under_one_deadline() -> None:
    order: list[str] = []

    class Slow(DrainingService):
        drain_seconds = 0.05

        async def drain(self) -> None:
            order.append("drain")
            assert self.stopping.is_set()
            await asyncio.Event().wait()

        async def on_shutdown(self) -> None:
            order.append("shut down")

    service = Slow()
    await service.start()
    await service.stop()
    assert order == ["drain", "shut down"]


def test_a_deadline_never_goes_below_zero() -> None:
    assert Deadline(-1.0).remaining == 0.0
    assert 9.0 < Deadline(10.0).remaining <= 10.0


async def test_an_entry_whose_consumers_keep_dying_comes_alone(log: EventLog) -> None:
    # given three entries of one partition that three consumers took and died with
    names = await given(log, 3)
    partition = await the_partition(log)
    await ConsumerGroup(log, "detect", partition, "dead0").read(10, 1)
    for number in range(1, SUSPECT_DELIVERIES - 1):
        await ConsumerGroup(log, "detect", partition, f"dead{number}").claim_stale(0, 10, START)
    runs: list[list[str]] = []

    async def note(envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
        runs.append([name_of(envelope) for envelope in envelopes])
        return [await detect(envelope) for envelope in envelopes]

    # when a fourth takes them over, then each comes in a run of its own
    async with Stage(log, "detect", "alive", handler=note):
        await until(lambda: settled(log))
    assert sorted(runs) == [[name] for name in names]


async def test_an_entry_that_nobody_answers_for_is_parked_in_the_end(log: EventLog) -> None:
    (name,) = await given(log, 1)
    partition = await the_partition(log)
    await ConsumerGroup(log, "detect", partition, "dead").read(10, 1)
    for number in range(MAX_DELIVERIES):
        await ConsumerGroup(log, "detect", partition, f"dead{number}").claim_stale(0, 10, START)
    async with Stage(log, "detect", "alive", handler=each(detect)):
        await until(lambda: settled(log))
    (entry,) = await parked(log)
    assert (entry.picture_id, entry.cause) == (name, "NeverAnsweredError")
    assert await handled(log) == []
