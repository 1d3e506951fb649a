"""A feed's books when Redis or an entry goes away at a bad moment."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest
from support.logs import NOON, detected, quick, received

from domain.errors import ServiceUnavailableError, TransientError
from domain.outcomes import Done, Outcome, Retry
from streams.consumer import ConsumerGroup, Delivery, Settled
from streams.envelope import START, Envelope, Position
from streams.failures import Failed
from streams.feed import PartitionFeed, Run
from streams.gate import Gate

pytestmark = pytest.mark.usefixtures("quick")
__all__ = ["quick"]


def delivery(number: int, attempts: int = 1) -> Delivery:
    position = Position(number, 0)
    event = received(f"p{number}")
    return Delivery(Envelope(f"e{number}", event, "files", 0, position, NOON, "c", ""), attempts)


class ScriptedGroup:
    """A consumer group whose answers a test decides; the real one is tested on a server."""

    group, partition = "detect", 0

    def __init__(self) -> None:
        self.new: list[Delivery] = []
        self.stale: list[Delivery] = []
        self.lost: set[Position] = set()
        self.hold_fails = 0
        self.settled: list[Position] = []
        self.failures = self
        self.noted: list[tuple[Position, int, str, float | None]] = []

    async def note(self, failed: Sequence[Failed]) -> None:
        self.noted += [(f.position, f.attempt, str(f.error), f.retry_seconds) for f in failed]

    async def read(self, count: int, block_ms: int) -> list[Delivery]:
        taken, self.new = self.new[:count], self.new[count:]
        if not taken:
            await asyncio.sleep(block_ms / 1000)
        return taken

    async def claim_stale(
        self, min_idle_ms: int, count: int, start: Position
    ) -> tuple[list[Delivery], Position]:
        claimed, self.stale = self.stale, []
        return claimed, START

    async def hold(
        self, positions: Sequence[Position], *, count_delivery: bool = False
    ) -> set[Position]:
        if positions and self.hold_fails:
            self.hold_fails -= 1
            raise ServiceUnavailableError("redis", "gone for a moment")
        return set(positions) - self.lost

    async def settle(
        self, settlements: Sequence[tuple[Delivery, Outcome]], *, lease: object = None
    ) -> Settled:
        positions = [d.envelope.position for d, _ in settlements]
        self.settled += positions
        return Settled(tuple(p not in self.lost for p in positions), {})


class Fed:
    """A feed over a scripted group, and the runs it hands out."""

    def __init__(self, in_hand_limit: int = 10) -> None:
        self.group = ScriptedGroup()
        self.feed = PartitionFeed(
            cast(ConsumerGroup, self.group), Gate(), run_size=2, in_hand_limit=in_hand_limit
        )
        self.runs: asyncio.Queue[Run] = asyncio.Queue()
        self.stopping = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Fed":
        self.task = asyncio.create_task(self.feed.serve(self.runs.put, self.stopping))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stopping.set()
        assert self.task is not None
        await asyncio.wait_for(self.task, 5)

    async def next(self) -> list[Delivery]:
        return list((await asyncio.wait_for(self.runs.get(), 5)).deliveries)


async def test_an_entry_whose_hold_met_a_lost_redis_comes_back() -> None:
    async with Fed() as fed:
        fed.group.new = [delivery(1)]
        (first,) = await fed.next()
        fed.group.hold_fails = 2
        await fed.feed.settle([(first, Retry(TransientError("once"), after=0.01))])
        (again,) = await fed.next()
        assert (again.envelope, again.attempts) == (first.envelope, 2)


async def test_a_probe_whose_hold_met_a_lost_redis_comes_back() -> None:
    async with Fed() as fed:
        fed.group.new = [delivery(1)]
        (first,) = await fed.next()
        fed.group.hold_fails = 2
        outage = Retry(ServiceUnavailableError("detector", "away"), after=0.01)
        await fed.feed.settle([(first, outage)])
        assert await fed.next() == [first]
        await fed.feed.settle([(first, Done())])
        assert not fed.feed.gate.closed
        assert fed.feed.in_hand == {}


async def test_an_entry_lost_while_it_waits_is_forgotten_and_may_come_anew() -> None:
    async with Fed() as fed:
        fed.group.new = [delivery(1)]
        (first,) = await fed.next()
        await fed.feed.settle([(first, Retry(TransientError("once"), after=0.2))])
        fed.group.lost = {first.envelope.position}
        await fed.feed.beat()
        assert fed.feed.in_hand == {}
        # Claimed again before its old wait is over: it is handed out once, not twice.
        fed.group.lost = set()
        fed.group.stale = [delivery(1, attempts=3)]
        assert [d.attempts for d in await fed.next()] == [3]
        await asyncio.sleep(0.3)
        assert fed.runs.empty()


async def test_a_full_hand_stops_reading_but_not_what_is_due_nor_the_end() -> None:
    async with Fed(in_hand_limit=2) as fed:
        fed.group.new = [delivery(number) for number in range(1, 7)]
        first = await fed.next()
        assert len(first) == 2
        await asyncio.sleep(0.1)
        assert fed.runs.empty()
        later = Retry(TransientError("once"), after=0.01)
        await fed.feed.settle([(d, later) for d in first])
        again = await fed.next()
        assert [d.envelope.position for d in again] == [d.envelope.position for d in first]
        await fed.feed.settle([(d, Done((detected("x"),))) for d in again])
        following = await fed.next()
        assert [d.envelope.position.ms for d in following] == [3, 4]


@pytest.mark.parametrize("lost", [False, True])
async def test_a_probe_that_passed_by_opens_nothing(lost: bool) -> None:
    """Also one that goes out in place of a probe that another consumer has taken."""
    async with Fed() as fed:
        fed.group.new = [delivery(1)]
        (first,) = await fed.next()
        outage = Retry(ServiceUnavailableError("detector", "away"), after=0.05)
        await fed.feed.settle([(first, outage)])
        if lost:
            fed.group.lost = {first.envelope.position}
            await fed.feed.beat()
            fed.feed.gate.unproven()
            fed.group.new = [delivery(2)]
        (probe,) = await fed.next()
        fed.group.new = [delivery(3)]
        await fed.feed.settle([(probe, Done(passed_by=True))])
        assert fed.feed.gate.closed
        # It proved nothing, so what comes next asks; a real answer opens the gate.
        (asking,) = await fed.next()
        await fed.feed.settle([(asking, Done((detected("x"),)))])
        assert not fed.feed.gate.closed


async def test_one_outage_of_a_run_waits_once_and_ends_for_all_at_once() -> None:
    async with Fed() as fed:
        fed.group.new = [delivery(number) for number in range(1, 5)]
        first, second = await fed.next(), await fed.next()
        outage = Retry(ServiceUnavailableError("detector", "away"), after=0.05)
        await fed.feed.settle([(d, outage) for d in first])
        await fed.feed.settle([(d, outage) for d in second])
        assert fed.feed.gate.failures == 2
        # One run probes; the other follows as soon as that went through.
        assert await fed.next() == first
        await asyncio.sleep(0.15)
        assert fed.runs.empty()
        await fed.feed.settle([(d, Done()) for d in first])
        assert await fed.next() == second


async def test_what_others_left_is_taken_over_during_an_outage_and_goes_in_its_order() -> None:
    async with Fed() as fed:
        fed.group.new = [delivery(3)]
        (first,) = await fed.next()
        outage = Retry(ServiceUnavailableError("detector", "away"), after=0.3)
        await fed.feed.settle([(first, outage)])
        # What a killed process had in hand; one of them may be what kills.
        fed.group.stale = [delivery(1, attempts=2), delivery(2, attempts=3)]
        assert [d.envelope.position.ms for d in await fed.next()] == [1, 3]
        await fed.feed.settle([(delivery(1), Done()), (first, Done())])
        assert [d.envelope.position.ms for d in await fed.next()] == [2]
