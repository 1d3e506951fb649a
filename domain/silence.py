"""When a camera was silent for longer than it usually is.

A camera that sends only when something moves is silent for hours and well; one that is broken is
silent, too. What tells them apart here is the camera's own habit: its usual longest silence of a
day, and twice that is more than usual. Where there is too little to know the habit from, nothing
is said.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median
from typing import Final

LEAST_SILENCE: Final = timedelta(hours=1)
"""A shorter silence is no silence, for whatever camera."""
HABIT_DAYS: Final = 28
"""Days before a silence from which the habit is taken."""
LEAST_DAYS: Final = 7
"""With fewer days on which the camera sent something, it has no habit yet."""
MORE_THAN_USUAL: Final = 2


@dataclass(frozen=True, slots=True)
class Span:
    """From one moment to a later one."""

    since: datetime
    until: datetime

    def within(self, other: "Span") -> timedelta:
        """Return how much of this lies in another span."""
        shared = min(self.until, other.until) - max(self.since, other.since)
        return max(timedelta(0), shared)


def longest_by_day(
    sent_on: Iterable[date], silences: Iterable[tuple[date, timedelta]]
) -> dict[date, timedelta]:
    """Return the longest silence that ended on each day on which the camera sent something.

    `silences` are those above LEAST_SILENCE, each with the day on which it ended.
    """
    longest = dict.fromkeys(sent_on, LEAST_SILENCE)
    for day, length in silences:
        if day in longest:
            longest[day] = max(longest[day], length)
    return longest


def usual_silence(day: date, longest: Mapping[date, timedelta]) -> timedelta | None:
    """Return the usual longest silence before `day`; None: there is no habit yet."""
    days = (day - timedelta(days=back) for back in range(1, HABIT_DAYS + 1))
    known = [longest[each].total_seconds() for each in days if each in longest]
    return timedelta(seconds=median(known)) if len(known) >= LEAST_DAYS else None


def overdue(silence: Span, usual: timedelta) -> Span | None:
    """Return the part of a silence in which the camera should have been heard of."""
    due = silence.since + MORE_THAN_USUAL * usual
    return Span(due, silence.until) if due < silence.until else None
