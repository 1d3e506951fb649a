"""The gate: closed by an outage, probed after growing waits, opened by what goes through."""

import pytest

from domain.errors import ServiceUnavailableError
from domain.outcomes import Retry
from streams import gate as gate_module
from streams.gate import Gate


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(gate_module, "time", clock)
    return clock


def away(after: float | None = None) -> Retry:
    return Retry(ServiceUnavailableError("detector", "no answer"), after)


def test_waits_grow_to_their_cap_and_begin_anew(clock: Clock) -> None:
    gate = Gate()
    assert [gate.closed_by("detect/0", away()) for _ in range(8)] == [
        0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0,
    ]  # fmt: skip
    gate.opened_by("detect/0")
    assert gate.closed_by("detect/0", away()) == 0.5


def test_the_service_may_say_when_to_ask_again_within_the_cap(clock: Clock) -> None:
    gate = Gate()
    assert gate.closed_by("detect/0", away(7.0)) == 7.0
    assert gate.closed_by("detect/0", away(3600.0)) == 30.0


def test_it_tells_once_when_it_closes_and_once_when_it_opens(clock: Clock) -> None:
    told: list[tuple[str, bool, str]] = []
    gate = Gate(lambda *args: told.append(args))
    gate.opened_by("detect/0")
    gate.closed_by("detect/0", away())
    gate.closed_by("detect/1", away())
    closed = [gate.closed]
    gate.opened_by("detect/1")
    gate.opened_by("detect/0")
    assert [*closed, gate.closed] == [True, False]
    assert told == [
        ("detector", False, "detect/0 pauses: no answer"),
        ("detector", True, "detect/1 goes on"),
    ]


def test_lost_probes_let_a_run_through_in_their_place(clock: Clock) -> None:
    gate = Gate()
    assert gate.lets_through()
    gate.closed_by("detect/0", away(10.0))
    assert not gate.lets_through()
    clock.now += 39.9
    assert not gate.lets_through()
    clock.now += 0.2
    assert gate.lets_through()
    assert gate.lets_through()  # A feed that finds nothing to hand out spoils no other's turn.
    gate.probed()
    assert not gate.lets_through()


def test_probes_that_never_asked_let_the_next_run_through_at_once(clock: Clock) -> None:
    gate = Gate()
    gate.closed_by("detect/0", away(10.0))
    gate.unproven()
    assert gate.closed
    assert gate.lets_through()
    gate.probed()
    assert not gate.lets_through()


def test_a_check_that_had_an_answer_counts_only_when_it_came_later(clock: Clock) -> None:
    answered = 0.0
    gate = Gate(answered=lambda: answered)
    assert not Gate().seen_to_answer(0.0)
    assert not gate.seen_to_answer(clock.now)
    answered = clock.now + 1
    assert gate.seen_to_answer(clock.now)
    assert not gate.seen_to_answer(clock.now + 1)
