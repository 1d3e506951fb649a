"""The breaker of a stage as a state machine, and the waits between tries, for any history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from domain.errors import ServiceUnavailableError
from domain.outcomes import Retry
from streams import gate as gate_module
from streams.deadletter import (
    BACKOFF_BASE_SECONDS,
    BACKOFF_CAP_SECONDS,
    BACKOFF_JITTER,
    backoff_seconds,
)
from streams.gate import FIRST_WAIT_SECONDS, Gate


class Clock:
    """The time that the gate reads."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class GateMachine(RuleBasedStateMachine):
    """Runs that meet an outage, that go through, that end without asking, and that are lost."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.clock = Clock()
        self.told: list[bool] = []
        self.answered_at = 0.0
        self.closed = False
        self.outages = 0
        self.silent_until = 0.0
        """Until then somebody has the probe, and nothing else may pass."""

    @initialize()
    def begin(self) -> None:
        self.patch.setattr(gate_module, "time", self.clock)
        self.gate = Gate(
            lambda service, answers, message: self.told.append(answers),
            lambda: self.answered_at,
        )

    def teardown(self) -> None:
        self.patch.undo()

    @rule(seconds=st.floats(0.0, 100.0))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(asked=st.none() | st.floats(0.01, 5000.0))
    def a_run_meets_the_outage(self, asked: float | None) -> None:
        error = ServiceUnavailableError("detector", "no answer")
        wait = self.gate.closed_by("detect/0", Retry(error, asked))
        self.outages += 1
        self.closed = True
        self.silent_until = self.clock.now + wait + BACKOFF_CAP_SECONDS
        assert 0 < wait <= BACKOFF_CAP_SECONDS
        if asked is None:
            doubled = FIRST_WAIT_SECONDS * 2.0 ** (self.outages - 1)
            assert wait == min(BACKOFF_CAP_SECONDS, doubled)

    @rule()
    def a_run_goes_through(self) -> None:
        self.gate.opened_by("detect/0")
        self.closed, self.outages = False, 0

    @precondition(lambda self: self.closed)
    @rule()
    def a_probe_is_sent(self) -> None:
        self.gate.probed()
        self.silent_until = self.clock.now + BACKOFF_CAP_SECONDS

    @precondition(lambda self: self.closed)
    @rule()
    def a_probe_ends_without_asking(self) -> None:
        self.gate.unproven()
        self.silent_until = 0.0

    @rule()
    def a_check_has_an_answer(self) -> None:
        before = self.clock.now
        self.clock.now += 1.0
        self.answered_at = self.clock.now
        assert self.gate.seen_to_answer(before)
        assert not self.gate.seen_to_answer(self.clock.now)

    @invariant()
    def it_is_closed_from_an_outage_until_something_went_through(self) -> None:
        if hasattr(self, "gate"):
            assert self.gate.closed is self.closed
            assert self.gate.failures == self.outages

    @invariant()
    def while_a_probe_is_out_nothing_else_passes_and_never_for_ever(self) -> None:
        if hasattr(self, "gate"):
            passes = self.gate.lets_through()
            assert passes is (not self.closed or self.clock.now >= self.silent_until)
            assert self.silent_until <= self.clock.now + 2 * BACKOFF_CAP_SECONDS

    @invariant()
    def closing_and_opening_are_told_in_turn(self) -> None:
        assert self.told == [bool(number % 2) for number in range(len(self.told))]
        assert bool(self.told and not self.told[-1]) is self.closed


TestGate = GateMachine.TestCase


@given(attempts=st.integers(-5, 10_000), jitter=st.none() | st.floats(0.0, 1.0))
def test_the_wait_stays_in_its_envelope(attempts: int, jitter: float | None) -> None:
    wait = backoff_seconds(attempts, jitter)
    doubled = BACKOFF_BASE_SECONDS * 2.0 ** min(max(attempts - 1, 0), 30)
    base = min(BACKOFF_CAP_SECONDS, doubled)
    assert base <= wait <= base * (1 + BACKOFF_JITTER)
    assert backoff_seconds(attempts, 0.0) <= backoff_seconds(attempts + 1, 0.0)
