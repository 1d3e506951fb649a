"""Processes that tell of waiting pictures, die and start anew, against a model of what is due.

Whatever they look at, how often and in whatever order, each camera is told of once an outage, and
never by a picture that somebody has handled.
"""

import asyncio
from collections.abc import Coroutine, Iterator
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
from support.histories import unverified
from support.logs import all_of, detected, new, received

from domain.errors import PermanentError
from domain.events import ActivityUnverified, ImageReceived
from domain.outcomes import Done, Park
from streams.consumer import ConsumerGroup, Delivery
from streams.envelope import Envelope
from streams.log import EventLog
from streams.names import GROUPS
from streams.waiting import Waiting

CAMERAS = ("garden", "porch")
Result = TypeVar("Result")


def picture(envelope: Envelope) -> ImageReceived:
    assert isinstance(envelope.event, ImageReceived)
    return envelope.event


class Outages(RuleBasedStateMachine):
    """A detect group that goes on and stops, and tellers beside it, on a real server."""

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
        self.group = ConsumerGroup(self.log, "detect", 0, "one")
        self.count = 0
        self.waits: list[str] = []
        self.in_hand: dict[str, Delivery] = {}
        self.finished = 0
        self.last: dict[str, tuple[str, int]] = {}
        """Camera → the picture told of last, and how many the group had finished then."""
        self.due: list[str] = []

    @rule(camera=st.sampled_from(CAMERAS))
    def arrives(self, camera: str) -> None:
        self.count += 1
        name = f"p{self.count:04}"
        self.wait(self.log.append(new(received(name, camera))))
        self.waits.append(name)

    @rule(count=st.integers(1, 3))
    def taken(self, count: int) -> None:
        for delivery in self.wait(self.group.read(count, 1)):
            self.in_hand[picture(delivery.envelope).picture_id] = delivery

    @rule(data=st.data(), parks=st.booleans())
    def handled(self, data: st.DataObject, parks: bool) -> None:
        if not self.in_hand:
            return
        name = data.draw(st.sampled_from(sorted(self.in_hand)))
        delivery = self.in_hand.pop(name)
        parked = Park(PermanentError("no"))
        outcome = parked if parks else Done((detected(name),))
        self.wait(self.group.settle([(delivery, outcome)]))
        self.waits.remove(name)
        self.finished += not parks

    @rule()
    def looked_through(self) -> None:
        """Do what a process does that has just begun: all that waits, from the oldest on."""
        for name, camera, told in self.wait(self._through()):
            self._is_right(name, camera, told)

    @rule(data=st.data())
    def looked_at_anything(self, data: st.DataObject) -> None:
        """Do what a process does that was stopped meanwhile: it asks of what it read then."""
        every = self.wait(all_of(self.log, "files"))
        if every:
            envelope = data.draw(st.sampled_from(every))
            told = self.wait(self._tell(envelope))
            self._is_right(picture(envelope).picture_id, envelope.event.camera_id, told)

    def _is_right(self, name: str, camera: str, told: bool) -> None:
        assert told == (name in self.waits)
        before, finished = self.last.get(camera, ("", -1))
        if told and name > before and self.finished != finished:
            self.due.append(name)
            self.last[camera] = (name, self.finished)

    async def _through(self) -> list[tuple[str, str, bool]]:
        waiting = Waiting(self.log, "detect", "detections")
        begin = await waiting.begin(0)
        found = []
        for envelope in await self.log.read("files", 0, begin, 1000):
            event = picture(envelope)
            found.append((event.picture_id, event.camera_id, await self._tell(envelope)))
        assert {name for name, *_ in found} >= set(self.waits)
        return found

    async def _tell(self, envelope: Envelope) -> bool:
        return await Waiting(self.log, "detect", "detections").tell(
            envelope, unverified(picture(envelope))
        )

    @invariant()
    def each_is_told_once(self) -> None:
        if not hasattr(self, "due"):
            return
        entries = self.wait(all_of(self.log, "assessments"))
        told = [e.event for e in entries if isinstance(e.event, ActivityUnverified)]
        assert [event.picture_id for event in told] == self.due
        assert len({entry.id for entry in entries}) == len(entries)


@pytest.fixture
def machine(valkey_url: str) -> Iterator[type[Outages]]:
    with asyncio.Runner() as runner:

        class Machine(Outages):
            pass

        Machine.runner = runner
        Machine.log = runner.run(EventLog.open(valkey_url, partitions=1))
        yield Machine
        runner.run(Machine.log.close())


def test_a_camera_is_told_of_once_an_outage(machine: type[Outages]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
