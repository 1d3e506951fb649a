"""When a picture was taken: from EXIF, else from its name, else from the file's own time.

Each source is asked in turn; a value that cannot be true (before 2000, or more than a day ahead
of the clock: a camera without a battery, a wrong EXIF block) makes room for the next one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from domain.events import CapturedFrom
from domain.exif import ExifTime

EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
AHEAD: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class NamePattern:
    """One way in which cameras write the time into a file's path."""

    made_by: str
    example: str
    expression: re.Pattern[str]


def _pattern(made_by: str, example: str, expression: str) -> NamePattern:
    return NamePattern(made_by, example, re.compile(expression, re.ASCII))


NAME_PATTERNS: Final = (
    _pattern(
        "Foscam, Reolink, Hikvision, Dahua, Amcrest, Ring and most others",
        "MDAlarm_20240101-120000.jpg",
        r"(?<!\d)(?P<year>(?:19|20)\d\d)[-_.]?(?P<month>\d\d)[-_.]?(?P<day>\d\d)[-_.T @]{0,2}"
        r"(?P<hour>\d\d)[-_.:h]?(?P<minute>\d\d)[-_.:m]?(?P<second>\d\d)"
        r"(?:[-_.,]?(?P<fraction>\d{3}))?(?P<utc>Z)?(?!\d)[^/]*$",
    ),
    _pattern(
        "Axis",
        "image24-01-01_12-00-00-50.jpg",
        r"(?<!\d)(?P<year>\d\d)-(?P<month>\d\d)-(?P<day>\d\d)[_ ]"
        r"(?P<hour>\d\d)-(?P<minute>\d\d)-(?P<second>\d\d)"
        r"(?:-(?P<fraction>\d\d))?(?!\d)[^/]*$",
    ),
    _pattern(
        "Dahua and Amcrest uploads: the day is a folder, the time folders or the name",
        "2024-01-01/001/jpg/12/00/00[M][0@0][0].jpg",
        r"(?<!\d)(?P<year>20\d\d)-?(?P<month>\d\d)-?(?P<day>\d\d)/(?:.*/)?"
        r"(?P<hour>\d\d)[-_.:/]?(?P<minute>\d\d)[-_.:/]?(?P<second>\d\d)(?!\d)[^/]*$",
    ),
)
"""Tried in this order. The first is looked for in the file's own name only."""


@dataclass(frozen=True, slots=True)
class CaptureTime:
    """When a picture was taken, in UTC, and how that is known."""

    at: datetime
    source: CapturedFrom


@dataclass(frozen=True, slots=True)
class Clues:
    """All that may tell when a file's picture was taken."""

    path: str
    """Below the camera's base folder, with `/`."""
    modified_at: datetime
    exif: ExifTime | None = None


def capture_time(clues: Clues, *, zone: tzinfo, now: datetime) -> CaptureTime:
    """Return the first plausible time; `zone` is the camera's, `now` the time of arrival."""
    for at, source in _candidates(clues, zone):
        if EARLIEST <= at <= now + AHEAD:
            return CaptureTime(at.astimezone(UTC), source)
    return CaptureTime(now.astimezone(UTC), "arrival")


def _candidates(clues: Clues, zone: tzinfo) -> Iterator[tuple[datetime, CapturedFrom]]:
    if clues.exif is not None:
        yield clues.exif.local.replace(tzinfo=clues.exif.zone or zone), "exif"
    for pattern in NAME_PATTERNS:
        for match in pattern.expression.finditer(clues.path):
            at = _moment(match.groupdict(), zone)
            if at is not None:
                yield at, "name"
    yield clues.modified_at, "mtime"


def _moment(parts: dict[str, str | None], zone: tzinfo) -> datetime | None:
    """Build the moment that a name spells; None for the 31st of February and its like."""
    year = parts["year"] or ""
    fraction = (parts.get("fraction") or "").ljust(6, "0")
    try:
        return datetime(
            int(year) + (2000 if len(year) == 2 else 0),
            int(parts["month"] or 0),
            int(parts["day"] or 0),
            int(parts["hour"] or 0),
            int(parts["minute"] or 0),
            int(parts["second"] or 0),
            int(fraction),
            tzinfo=UTC if parts.get("utc") else zone,
        )
    except ValueError:
        return None
