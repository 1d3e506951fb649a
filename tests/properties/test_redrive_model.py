"""Parking, redriving, discarding and handling in any order: each entry is in one place, once."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.logs import all_of, opened
from support.parking import BrokenError, finish, lying, park, pending

from domain.events import EntryDiscarded, EntryParked, EntryRedriven
from streams.log import EventLog
from streams.redrive import DeadLetterId, DeadLetters

NAMES = ("a", "b", "c")

Step = tuple[str, str]
STEPS = st.lists(
    st.tuples(st.sampled_from(("redrive", "discard", "handle", "refuse")), st.sampled_from(NAMES)),
    max_size=14,
)


class Model:
    """Where each entry must be: parked, pending, handled or discarded."""

    def __init__(self) -> None:
        self.where = dict.fromkeys(NAMES, "parked")
        self.parks = dict.fromkeys(NAMES, 1)

    def expect(self, action: str, name: str) -> str:
        """Move as the step says; return the verdict that a decision must get."""
        if self.where[name] != "parked":
            return "already"
        self.where[name] = {"redrive": "pending", "discard": "discarded"}[action]
        return {"redrive": "redriven", "discard": "discarded"}[action]

    def settle(self, refused: str | None) -> None:
        """Move everything that is pending on."""
        for name, where in self.where.items():
            if where == "pending":
                self.where[name] = "parked" if name == refused else "handled"
                self.parks[name] += name == refused


@pytest.mark.usefixtures("valkey_url")
@given(steps=STEPS)
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_every_order_of_steps_leaves_each_entry_in_one_place(
    valkey_url: str, steps: list[Step]
) -> None:
    asyncio.run(_walk(valkey_url, steps))


async def _walk(url: str, steps: list[Step]) -> None:
    async with opened(url) as log:
        await log.client.flushall()
    async with opened(url) as log:
        model = Model()
        newest = dict(await park(log, dict.fromkeys(NAMES, BrokenError)))
        for action, name in steps:
            await _step(log, model, newest, action, name)
            newest |= await lying(log)
            await _check(log, model)


async def _step(
    log: EventLog, model: Model, newest: dict[str, DeadLetterId], action: str, name: str
) -> None:
    letters = DeadLetters(log)
    if action in ("redrive", "discard"):
        decide = letters.redrive if action == "redrive" else letters.discard
        assert (await decide(newest[name])).verdict == model.expect(action, name)
        return
    refused = name if action == "refuse" else None
    await finish(log, refuse=[refused] if refused else [])
    model.settle(refused)


async def _check(log: EventLog, model: Model) -> None:
    def those(where: str) -> list[str]:
        return sorted(name for name, at in model.where.items() if at == where)

    told = await all_of(log, "parked")
    handled = await all_of(log, "detections")
    assert sorted(await lying(log)) == those("parked")
    assert sorted(await pending(log)) == those("pending")
    assert sorted(e.event.picture_id for e in handled) == those("handled")  # type: ignore[attr-defined]
    kinds = dict.fromkeys((EntryParked, EntryRedriven, EntryDiscarded), 0)
    for envelope in told:
        kinds[type(envelope.event)] += 1
    assert kinds[EntryParked] == sum(model.parks.values())
    assert kinds[EntryDiscarded] == len(those("discarded"))
    # Every id once, in all of the log.
    ids = [e.id for stream in ("files", "detections", "parked") for e in await all_of(log, stream)]
    assert len(set(ids)) == len(ids)
