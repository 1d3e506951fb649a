"""Consumers that read, claim, hold, settle and park against a model of who owns what.

Whatever they do, and in whatever order, each entry is settled once, by the consumer that owned it
then, and its follow-up is in the log once.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from support.logs import all_of, detected, new, received

from domain.errors import PermanentError
from domain.events import EntryParked, ImageReceived, ObjectsDetected
from domain.outcomes import Done, Outcome, Park
from streams.consumer import ConsumerGroup, Delivery
from streams.envelope import START
from streams.log import EventLog
from streams.names import GROUPS

CONSUMERS = ("one", "two", "three")
Result = TypeVar("Result")


@dataclass
class Model:
    """What the group's pending list must say."""

    unread: list[str] = field(default_factory=list)
    owner: dict[str, str] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    parked: list[str] = field(default_factory=list)


def name_of(delivery: Delivery) -> str:
    event = delivery.envelope.event
    assert isinstance(event, ImageReceived)
    return event.picture_id


def outcome(delivery: Delivery, park: bool) -> Outcome:
    if park:
        return Park(PermanentError("no"))
    return Done((detected(name_of(delivery)),))


class Consumers(RuleBasedStateMachine):
    """Three consumers of one group on a real server."""

    log: EventLog
    runner: asyncio.Runner

    def wait(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(coroutine)

    @initialize()
    def empty(self) -> None:
        async def emptied() -> None:
            await self.log.client.flushdb()
            await self.log.use_groups(GROUPS)

        self.wait(emptied())
        self.model = Model()
        self.count = 0
        self.groups = {name: ConsumerGroup(self.log, "detect", 0, name) for name in CONSUMERS}
        self.in_hand: dict[str, dict[str, Delivery]] = {name: {} for name in CONSUMERS}

    @rule(count=st.integers(1, 4))
    def append(self, count: int) -> None:
        for _ in range(count):
            self.count += 1
            name = f"p{self.count:04}"
            self.wait(self.log.append(new(received(name))))
            self.model.unread.append(name)

    @rule(who=st.sampled_from(CONSUMERS), count=st.integers(1, 4))
    def read(self, who: str, count: int) -> None:
        deliveries = self.wait(self.groups[who].read(count, 1)) if self.model.unread else []
        expected, self.model.unread = self.model.unread[:count], self.model.unread[count:]
        assert [name_of(d) for d in deliveries] == expected
        for delivery in deliveries:
            self._taken(who, delivery, attempts=1)

    @rule(who=st.sampled_from(CONSUMERS), count=st.integers(1, 4))
    def claim(self, who: str, count: int) -> None:
        claimed, _ = self.wait(self.groups[who].claim_stale(0, count, START))
        assert [name_of(d) for d in claimed] == sorted(self.model.owner)[:count]
        for delivery in claimed:
            self._taken(who, delivery, attempts=self.model.attempts[name_of(delivery)] + 1)

    def _taken(self, who: str, delivery: Delivery, attempts: int) -> None:
        name = name_of(delivery)
        assert delivery.attempts == attempts
        self.model.owner[name] = who
        self.model.attempts[name] = attempts
        self.in_hand[who][name] = delivery

    @rule(who=st.sampled_from(CONSUMERS), counts=st.booleans())
    def hold(self, who: str, counts: bool) -> None:
        """Hold everything this consumer ever got, lost and settled entries included."""
        positions = {d.envelope.position: name for name, d in self.in_hand[who].items()}
        held = self.wait(self.groups[who].hold(list(positions), count_delivery=counts))
        mine = {name for name, owner in self.model.owner.items() if owner == who}
        assert {positions[p] for p in held} == mine
        for name in mine if counts else ():
            self.model.attempts[name] += 1

    @rule(who=st.sampled_from(CONSUMERS), data=st.data())
    def settle(self, who: str, data: st.DataObject) -> None:
        """Settle any of what this consumer ever got, some of it perhaps lost long ago."""
        known = self.in_hand[who]
        if not known:
            return
        names = sorted(data.draw(st.sets(st.sampled_from(sorted(known)), min_size=1)))
        parks = {name: data.draw(st.booleans()) for name in names}
        settled = self.wait(
            self.groups[who].settle([(known[n], outcome(known[n], parks[n])) for n in names])
        )
        assert settled.flags == tuple(self.model.owner.get(name) == who for name in names)
        for name, ours in zip(names, settled.flags, strict=True):
            if ours:
                del self.model.owner[name]
                (self.model.parked if parks[name] else self.model.done).append(name)

    @invariant()
    def the_log_agrees(self) -> None:
        if not hasattr(self, "model"):
            return
        done, parked, pending = self.wait(self._state())
        assert done == self.model.done
        assert parked == self.model.parked
        assert pending == self.model.owner

    async def _state(self) -> tuple[list[str], list[str], dict[str, str]]:
        files = {str(e.position): e.event for e in await all_of(self.log, "files")}
        done = [e.event for e in await all_of(self.log, "detections")]
        parked = [e.event for e in await all_of(self.log, "parked")]
        rows = await self.log.client.xpending_range(
            self.groups["one"].key, "detect", min="-", max="+", count=1000
        )
        pending = {
            event.picture_id: row["consumer"].decode()
            for row in rows
            if isinstance(event := files[row["message_id"].decode()], ImageReceived)
        }
        return (
            [e.picture_id for e in done if isinstance(e, ObjectsDetected)],
            [str(e.picture_id) for e in parked if isinstance(e, EntryParked)],
            pending,
        )


@pytest.fixture
def machine(valkey_url: str) -> Iterator[type[Consumers]]:
    with asyncio.Runner() as runner:

        class Machine(Consumers):
            pass

        Machine.runner = runner
        Machine.log = runner.run(EventLog.open(valkey_url, partitions=1))
        yield Machine
        runner.run(Machine.log.close())


def test_each_entry_is_settled_once_by_its_owner(machine: type[Consumers]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
