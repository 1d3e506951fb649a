"""Events counted: by level, camera and day, and how long each stage took."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from psycopg.sql import SQL, Composed

from domain.events import Level
from projections.event_rows import EVENT_CONDITIONS
from projections.paging import page_conditions, page_values
from projections.reading import Reader
from projections.rows import EventFilter, Row

EVENT_COUNTS: Final = SQL(
    """SELECT camera_id, risk_level, reviewed, is_fast_path, count(*) AS events
    FROM {table} AND {conditions} GROUP BY 1, 2, 3, 4"""
)

RISK_BY_DAY: Final = SQL(
    """SELECT date_trunc('day', started_at, %(zone)s) AS day, risk_level, count(*) AS events,
        sum(risk_score)::bigint AS points, max(risk_score) AS highest_score
    FROM events WHERE stage IS NOT NULL AND {conditions} GROUP BY 1, 2 ORDER BY 1, 2"""
)

DETECTIONS_BY_DAY: Final = SQL(
    """SELECT date_trunc('day', captured_at, %(zone)s) AS day, label, count(*) AS detections
    FROM detections WHERE captured_at >= %(start)s AND captured_at < %(end)s AND {conditions}
    GROUP BY 1, 2 ORDER BY 1, 2"""
)

# The newest pictures that came in during the window, and when each step was done with them.
STAGE_TIMES: Final = SQL(
    """SELECT captured_at, received_at, detected_at, batch_id, assessed_at FROM pictures
    WHERE received_at >= %(since)s ORDER BY received_at DESC LIMIT %(limit)s"""
)


class EventCount(Row, frozen=True, kw_only=True):
    """How many events of one kind there are."""

    camera_id: str
    risk_level: Level
    reviewed: bool
    is_fast_path: bool
    events: int


class RiskDay(Row, frozen=True, kw_only=True):
    """The events of one day and level."""

    day: datetime
    risk_level: Level
    events: int
    points: int
    """All scores added up."""
    highest_score: int


class DetectionDay(Row, frozen=True, kw_only=True):
    """The detections of one day and kind of object."""

    day: datetime
    label: str
    detections: int


class StageTimes(Row, frozen=True, kw_only=True):
    """When each step was done with a picture."""

    captured_at: datetime | None
    received_at: datetime
    detected_at: datetime | None
    batch_id: str | None
    assessed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Days:
    """A span of time that is counted by the days of a time zone."""

    start: datetime
    end: datetime
    zone: str


class EventQueries(Reader):
    """Counts of events and detections."""

    async def event_counts(self, wanted: EventFilter) -> list[EventCount]:
        """Return how many events there are of each camera, level and state of review."""
        values = page_values(asdict(wanted), 0, None)
        statement = _counts_statement(values)
        return await self._all(EventCount, statement, values)

    async def risk_by_day(self, days: Days) -> list[RiskDay]:
        """Return the events of each day by level."""
        values = page_values({"start": days.start, "end": days.end, "zone": days.zone}, 0, None)
        statement = RISK_BY_DAY.format(conditions=page_conditions(EVENT_CONDITIONS, values))
        return await self._all(RiskDay, statement, values)

    async def detections_by_day(self, days: Days) -> list[DetectionDay]:
        """Return the detections of each day by kind of object."""
        values = page_values({"start": days.start, "end": days.end, "zone": days.zone}, 0, None)
        statement = DETECTIONS_BY_DAY.format(conditions=page_conditions({}, values))
        return await self._all(DetectionDay, statement, values)

    async def stage_times(self, since: datetime, limit: int) -> list[StageTimes]:
        """Return the newest pictures that came in since a moment, with the times of their way."""
        return await self._all(StageTimes, STAGE_TIMES, {"since": since, "limit": limit})


def _counts_statement(values: Mapping[str, object]) -> Composed:
    """Return the statement that counts events, of one label from the table of labels alone."""
    if "object_type" in values:
        label = {"object_type": SQL("label = %(object_type)s")}
        table, known = SQL("event_labels WHERE true"), {**EVENT_CONDITIONS, **label}
    else:
        table, known = SQL("events WHERE stage IS NOT NULL"), EVENT_CONDITIONS
    return EVENT_COUNTS.format(table=table, conditions=page_conditions(known, values))
