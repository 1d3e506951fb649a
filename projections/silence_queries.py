"""What tells how often a camera sends something: pictures by day, and its long silences."""

from datetime import datetime, timedelta
from typing import Final

from psycopg.sql import SQL

from projections.event_queries import Days
from projections.reading import Reader
from projections.rows import Row

PICTURES_BY_DAY: Final = SQL(
    """SELECT camera_id, date_trunc('day', captured_at, %(zone)s) AS day, count(*) AS pictures,
        min(captured_at) AS first_at, max(captured_at) AS last_at
    FROM pictures WHERE captured_at >= %(start)s AND captured_at < %(end)s
    GROUP BY 1, 2 ORDER BY 1, 2"""
)

# The last picture of a camera has no next one: that silence goes on.
SILENCES: Final = SQL(
    """SELECT camera_id, captured_at AS since, next_at AS until FROM (
        SELECT camera_id, captured_at,
            lead(captured_at) OVER (PARTITION BY camera_id ORDER BY captured_at) AS next_at
        FROM pictures WHERE captured_at >= %(start)s AND captured_at < %(end)s) p
    WHERE next_at IS NULL OR next_at - captured_at > %(least)s ORDER BY 1, 2"""
)


class PictureDay(Row, frozen=True, kw_only=True):
    """What one camera took on one day."""

    camera_id: str
    day: datetime
    pictures: int
    first_at: datetime
    last_at: datetime


class SilenceRow(Row, frozen=True, kw_only=True):
    """A time in which a camera took nothing; None: it goes on."""

    camera_id: str
    since: datetime
    until: datetime | None


class SilenceQueries(Reader):
    """Reads of when cameras sent something, and when not."""

    async def pictures_by_day(self, days: Days) -> list[PictureDay]:
        """Return how many pictures each camera took on each day on which it took one."""
        values = {"start": days.start, "end": days.end, "zone": days.zone}
        return await self._all(PictureDay, PICTURES_BY_DAY, values)

    async def silences(self, start: datetime, end: datetime, least: timedelta) -> list[SilenceRow]:
        """Return each camera's times of at least `least` without a picture, in their order."""
        return await self._all(SilenceRow, SILENCES, {"start": start, "end": end, "least": least})
