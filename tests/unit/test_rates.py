"""Rates of the stages: measured between looks, null where nothing was measured."""

import pytest

from api.rates import Rate, Rates, clears_in
from streams.log import GroupBacklog


def look(left: int, handled: int | None) -> list[GroupBacklog]:
    return [GroupBacklog("detect", "files", 0, left, None, handled)]


def test_nothing_is_known_before_the_second_look() -> None:
    rates = Rates()
    assert (rates.of("detect"), rates.handled("detect")) == (Rate(), None)
    rates.see(0, look(10, 5))
    rates.see(1, look(0, 15))
    assert rates.of("detect") == Rate()
    assert rates.handled("detect") == 15


def test_a_rate_counts_what_was_handled_and_what_is_left() -> None:
    rates = Rates()
    rates.see(0, look(100, 0))
    rates.see(10, look(80, 50))
    assert rates.of("detect") == Rate(5.0, 2.0)
    # only the last minute counts
    for second in range(20, 200, 10):
        rates.see(second, look(80, 50))
    assert rates.of("detect") == Rate(0.0, 0.0)


def test_a_count_that_was_lost_or_began_anew_is_no_rate() -> None:
    rates = Rates()
    rates.see(0, look(100, 50))
    rates.see(10, look(90, None))
    assert rates.of("detect") == Rate(None, 1.0)
    rates.see(20, look(80, 3))
    assert rates.of("detect") == Rate(None, 1.0)


@pytest.mark.parametrize(
    ("left", "rate", "paused", "seconds"),
    [
        (0, Rate(), False, 0.0),
        (0, Rate(), True, 0.0),
        (10, Rate(5.0, 2.0), False, 5.0),
        (10, Rate(5.0, 2.0), True, None),
        (10, Rate(5.0, 0.0), False, None),
        (10, Rate(5.0, -1.0), False, None),
        (10, Rate(), False, None),
    ],
)
def test_when_it_is_done_is_told_only_where_it_can_be(
    left: int, rate: Rate, paused: bool, seconds: float | None
) -> None:
    assert clears_in(left, rate, paused=paused) == seconds
