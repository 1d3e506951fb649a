"""Batching while settings change: the same batches with a timer, without one, and again."""

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.logs import NOON, POLICY, detected

from domain.batching import CameraBatches, evolve
from domain.events import BatchClosed, Event
from domain.policies import Policies

seconds = st.integers(0, 400)
changes = st.lists(st.tuples(seconds, st.integers(1, 120), st.integers(1, 60)), max_size=4)


def at(second: float) -> datetime:
    return NOON + timedelta(seconds=second)


def policies(told: list[tuple[int, int, int]]) -> Policies:
    made = Policies(POLICY)
    for second, window, idle in sorted(told):
        made.set(
            at(second + 0.5),
            replace(POLICY, window=timedelta(seconds=window), idle=timedelta(seconds=idle)),
        )
    return made


def played(pictures: list[int], told: list[tuple[int, int, int]], *, timer: bool) -> list[Event]:
    """Return what is decided; with a timer the clock is looked at every second."""
    known, state = policies(told), CameraBatches()
    events: list[Event] = []
    for second in range(700):
        found: tuple[Event, ...] = ()
        if second in pictures:
            found = known.decide(state, detected(f"p{second}", second), at(second))
        elif timer:
            found = known.expire(state, "porch", at(second))
        for event in found:
            state = evolve(state, POLICY, event)
        events += found
    for event in known.expire(state, "porch", at(100_000)):
        events.append(event)
    return events


@given(st.lists(seconds, unique=True, max_size=12), changes)
def test_a_timer_changes_nothing(pictures: list[int], told: list[tuple[int, int, int]]) -> None:
    assert played(pictures, told, timer=True) == played(pictures, told, timer=False)


@given(st.lists(seconds, unique=True, min_size=1, max_size=12), changes)
def test_the_deadline_is_when_the_clock_closes(
    pictures: list[int], told: list[tuple[int, int, int]]
) -> None:
    known, state = policies(told), CameraBatches()
    for second in sorted(pictures):
        for event in known.decide(state, detected(f"p{second}", second), at(second)):
            state = evolve(state, POLICY, event)
    deadline = known.next_deadline(state)
    assert deadline is not None
    later = max(deadline, at(1000))
    (closed,) = known.expire(state, "porch", later)
    assert isinstance(closed, BatchClosed)


def test_a_change_does_not_reach_back() -> None:
    known, state = policies([(40, 3600, 3600)]), CameraBatches()
    for event in known.decide(state, detected("a", 0), at(0)):
        state = evolve(state, POLICY, event)
    # Due at 31 s under the old gap of 30 s, before the change at 40 s.
    assert known.next_deadline(state) == at(31)
    first, second = known.decide(state, detected("b", 50), at(50))
    assert isinstance(first, BatchClosed)
    assert first.reason == "idle"
    assert not isinstance(second, BatchClosed)


def test_a_shorter_gap_closes_what_is_open_already() -> None:
    known, state = policies([(10, 90, 3)]), CameraBatches()
    for event in known.decide(state, detected("a", 0), at(0)):
        state = evolve(state, POLICY, event)
    assert known.next_deadline(state) == at(4)
    assert known.expire(state, "porch", at(10)) == ()
    (closed,) = known.expire(state, "porch", at(11))
    assert isinstance(closed, BatchClosed)
