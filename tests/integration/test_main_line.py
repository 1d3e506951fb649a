"""How busy the main line is, read off the real log, and a trial that holds back while it is."""

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.logs import Stage, all_of, box, detected, new, opened, quick, received, until
from support.trials import FixedDetector, Pictures

from agents import main_line_first
from agents.main_line_first import MainLineFirst
from agents.trial import Pair, Trial
from domain.events import CandidateCompared
from domain.outcomes import Done
from inference.ports import Detected, Picture
from streams.channel import ChannelOptions, each
from streams.consumer import ConsumerGroup
from streams.log import EventLog
from streams.main_line import rest_of
from streams.names import stream_key

__all__ = ["quick"]

pytestmark = pytest.mark.usefixtures("quick")

CAMERAS = [f"cam{number}" for number in range(8)]
NAMES = [f"pic{number}" for number in range(24)]


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[EventLog]:
    async with opened(valkey_url, partitions=4) as log:
        await log.use_groups(["trial_detector"])
        yield log


async def handle(log: EventLog, group: str) -> None:
    """Let a stage handle everything that it has to do, with nothing that follows."""
    for partition in range(log.partitions):
        consumer = ConsumerGroup(log, group, partition, "stage")
        while deliveries := await consumer.read(100, 1):
            await consumer.settle([(each, Done()) for each in deliveries])


async def test_the_main_line_is_busy_until_every_stage_has_settled(log: EventLog) -> None:
    fresh = await rest_of(log)
    assert (fresh.busy, fresh.newest_ms) == (False, 0)
    assert fresh.quiet_ms == fresh.now_ms > 0
    for camera in CAMERAS:
        await log.append(new(received(f"of-{camera}", camera)))
    assert (await rest_of(log)).busy
    partition = log.partition_of(CAMERAS[0])
    consumer = ConsumerGroup(log, "detect", partition, "stage")
    in_hand = await consumer.read(100, 1)
    assert in_hand
    await handle(log, "detect")
    assert (await rest_of(log)).busy  # Read, and not settled yet.
    await consumer.settle([(each, Done()) for each in in_hand])
    rests = await rest_of(log)
    newest = max([envelope.position.ms for envelope in await all_of(log, "files")])
    assert (rests.busy, rests.newest_ms, rests.quiet_ms) == (
        *(False, newest),
        rests.now_ms - newest,
    )
    await log.append(new(detected("of-porch")))
    assert (await rest_of(log)).busy
    await handle(log, "batch")
    assert not (await rest_of(log)).busy


async def test_a_group_below_which_something_was_deleted_is_read_right(log: EventLog) -> None:
    _, gone, _ = await log.append_all([new(received(name)) for name in ("one", "gone", "two")])
    files = stream_key(log.partition_of("porch"), "files")
    await log.client.xdel(files, str(gone))
    (group,) = await log.client.xinfo_groups(files)
    assert group["lag"] is None
    assert (await rest_of(log)).busy
    await handle(log, "detect")
    assert not (await rest_of(log)).busy


async def test_a_trial_waits_for_the_main_line_and_compares_each_picture_once(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main_line_first, "YOUNG_MS", 0)
    monkeypatch.setattr(main_line_first, "PATIENCE_MS", 3_600_000)
    candidate = Interrupted(log)
    await log.append_all(
        [new(detected(name, camera=CAMERAS[n % 8])) for n, name in enumerate(NAMES)]
    )
    async with shadow(log, candidate) as stage:
        # What the batch stage has in hand holds the trial back, which has entries in hand, too.
        await until(lambda: any(feed.in_hand for feed in stage.channel.feeds))
        await log.append(new(received("live")))
        await handle(log, "batch")
        assert (candidate.calls, await all_of(log, "trials")) == (0, [])
        await handle(log, "detect")
        await until(lambda: candidate.calls == Interrupted.AFTER)
        await stage.crash()
    assert len(await all_of(log, "trials")) < len(NAMES)
    async with shadow(log, FixedDetector("new", box())):
        await handle(log, "detect")
        await until(functools.partial(compared, log, len(NAMES)))
    told = [envelope.event for envelope in await all_of(log, "trials")]
    pictures = [event.picture_id for event in told if isinstance(event, CandidateCompared)]
    assert sorted(pictures) == sorted(NAMES)


async def test_a_main_line_that_never_rests_does_not_stop_a_trial(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main_line_first, "YOUNG_MS", 0)
    monkeypatch.setattr(main_line_first, "PATIENCE_MS", 100)
    monkeypatch.setattr(main_line_first, "LATE_MS", 1)
    await log.append(new(received("live")))
    await log.append_all([new(detected(name)) for name in NAMES])
    async with shadow(log, FixedDetector("new", box())):
        await until(functools.partial(compared, log, len(NAMES)))
        assert (await rest_of(log)).busy


async def compared(log: EventLog, number: int) -> bool:
    return len(await all_of(log, "trials")) >= number


class Interrupted(FixedDetector):
    """A candidate during whose third answer the main line gets something to do."""

    AFTER = 3

    def __init__(self, log: EventLog) -> None:
        super().__init__("new", box())
        self._log = log

    async def detect(self, pictures: list[Picture]) -> list[Detected]:
        answer = await super().detect(pictures)
        if self.calls == self.AFTER:
            await self._log.append(new(received("again")))
        return answer


@asynccontextmanager
async def shadow(log: EventLog, candidate: FixedDetector) -> AsyncIterator[Stage]:
    """Run the trial of a detector as its role does."""
    first = MainLineFirst(functools.partial(rest_of, log))
    pair = Pair(FixedDetector("rt-detr", box()), candidate)
    trial = Trial(pair, Pictures(), limit_seconds=5.0, turn=first.turn)
    options = ChannelOptions(run_size=4)
    async with Stage(log, "trial_detector", "t", options, handler=each(trial)) as stage:
        first.stopping = stage.channel.stopping
        yield stage
