"""A quiet camera is not down; one that is silent for longer than its habit is overdue."""

from datetime import UTC, date, datetime, timedelta

from domain.silence import LEAST_SILENCE, Span, longest_by_day, overdue, usual_silence

DAY = date(2026, 3, 10)
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


def days_before(*lengths: float) -> dict[date, timedelta]:
    """Return a longest silence a day, the last one on the day before DAY."""
    return {DAY - timedelta(days=n + 1): hours(x) for n, x in enumerate(reversed(lengths))}


def test_the_habit_is_the_median_of_the_days_with_pictures_and_needs_a_week() -> None:
    assert usual_silence(DAY, days_before(8, 8, 8, 8, 8, 8)) is None
    # One long outage does not become the habit.
    assert usual_silence(DAY, days_before(8, 8, 8, 60, 8, 9, 7)) == hours(8)
    old = {DAY - timedelta(days=29 + n): hours(8) for n in range(20)}
    assert usual_silence(DAY, old) is None
    assert usual_silence(DAY, {**days_before(8, 8, 8, 8, 8, 8, 8), DAY: hours(99)}) == hours(8)


def test_a_day_without_pictures_says_nothing_and_short_silences_count_as_the_least() -> None:
    before = DAY - timedelta(days=1)
    found = longest_by_day([DAY], [(DAY, hours(3)), (DAY, hours(9)), (before, hours(50))])
    assert found == {DAY: hours(9)}
    assert longest_by_day([DAY], []) == {DAY: LEAST_SILENCE}


def test_overdue_begins_at_twice_the_usual() -> None:
    assert overdue(Span(NOON, NOON + hours(16)), hours(8)) is None
    late = overdue(Span(NOON, NOON + hours(20)), hours(8))
    assert late == Span(NOON + hours(16), NOON + hours(20))
    assert late.within(Span(NOON + hours(19), NOON + hours(99))) == hours(1)
    assert late.within(Span(NOON - hours(9), NOON)) == timedelta(0)
