"""Whatever the main line does, a picture waits a bounded time, and else only ever for its work."""

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.main_line_first import LATE_MS, PATIENCE_MS, QUIET_MS, YOUNG_MS, MainLineFirst
from streams.main_line import Rest

BEGIN = 10_000_000
"""The log's clock when the picture comes to hand."""
SPANS = st.lists(st.tuples(st.integers(1, 400), st.integers(1, 900)), max_size=40)


@dataclass
class House:
    """A main line that rests and works in turns, and clocks that only waiting moves."""

    spans: list[tuple[int, int]]
    """Milliseconds that it rests, then works."""
    log_jumps: list[int] = field(default_factory=list)
    """What is added to the log's clock at each look."""
    passed: int = 0
    set_by: int = 0
    waits: list[float] = field(default_factory=list)

    async def look(self) -> Rest:
        if self.log_jumps:
            self.set_by += self.log_jumps.pop()
        return self.at(self.passed)

    def at(self, passed: int) -> Rest:
        time, busy, newest = 0, False, -10_000
        for resting, working in self.spans:
            begin, end = time + resting, time + resting + working
            if begin <= passed:
                newest, busy = min(passed, end), passed < end
            time = end
        now = BEGIN + self.set_by + passed
        return Rest(now, now - (passed - newest), busy)

    async def pause(self, stopping: asyncio.Event, seconds: float) -> bool:
        assert seconds > 0
        self.waits.append(seconds)
        self.passed += round(seconds * 1000)
        return stopping.is_set()

    def turn(self, recorded_ms: int) -> None:
        first = MainLineFirst(self.look, lambda: self.passed / 1000, self.pause)
        asyncio.run(first.turn(recorded_ms))


@given(spans=SPANS, age=st.integers(0, 20_000))
@settings(max_examples=40, deadline=None)
def test_it_is_a_pictures_turn_while_the_main_line_rests_or_once_patience_ends(
    spans: list[tuple[int, int]], age: int
) -> None:
    house = House(spans)
    house.turn(BEGIN - age)
    most = max(PATIENCE_MS - age, LATE_MS)
    assert house.passed <= most
    if house.passed < most:
        assert age + house.passed >= YOUNG_MS
        assert house.at(house.passed).quiet_ms >= QUIET_MS
    # It goes at the first moment that it sees: each look before found a reason to wait.
    looks = [0, *_sums(house.waits)]
    for one, _ in pairwise(looks):
        young = age + one < YOUNG_MS
        assert young or house.at(one).quiet_ms < QUIET_MS


@given(
    spans=SPANS,
    ahead=st.integers(-100_000_000, 100_000_000),
    jumps=st.lists(st.integers(-50_000_000, 50_000_000), max_size=20),
)
@settings(max_examples=40, deadline=None)
def test_no_clock_that_is_set_makes_a_picture_wait_for_ever(
    spans: list[tuple[int, int]], ahead: int, jumps: list[int]
) -> None:
    house = House(spans, jumps)
    house.turn(BEGIN + ahead)
    assert house.passed <= PATIENCE_MS


def _sums(waits: list[float]) -> list[int]:
    found, passed = [], 0
    for wait in waits:
        passed += round(wait * 1000)
        found.append(passed)
    return found
