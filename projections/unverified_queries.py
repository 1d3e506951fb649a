"""Queries about what was told as unverified, and what became of each picture since."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from psycopg.sql import SQL

from projections.cursor import Cursor
from projections.paging import page_conditions, page_of, page_values
from projections.reading import Reader
from projections.rows import Page, Row, State

# The page first, then the state of its pictures only. NULL: the ledger has not reached it yet.
UNVERIFIED_PAGE: Final = SQL(
    """SELECT u.*, COALESCE(p.state, 'pending') AS state, p.event_id
    FROM (
        SELECT id, camera_id, picture_id, file_id, captured_at, recorded_at AS told_at, service,
            reason
        FROM unverified WHERE {conditions}
        ORDER BY recorded_at DESC, id DESC LIMIT %(limit)s) u
    LEFT JOIN LATERAL (
        SELECT state, CASE WHEN state = 'assessed' THEN event_id END AS event_id
        FROM picture_states WHERE picture_id = u.picture_id) p ON true
    ORDER BY u.told_at DESC, u.id DESC"""
)

CONDITIONS: Final = {
    "camera_id": SQL("camera_id = %(camera_id)s"),
    "start": SQL("captured_at >= %(start)s"),
    "end": SQL("captured_at < %(end)s"),
    "after_id": SQL("(recorded_at, id) < (%(after_at)s, %(after_id)s)"),
}


class UnverifiedRow(Row, frozen=True, kw_only=True):
    """A picture that people were told of before anybody had looked at it."""

    id: str
    camera_id: str
    picture_id: str
    file_id: str
    captured_at: datetime
    told_at: datetime
    service: str
    """What was away."""
    reason: str
    state: State
    """Where the picture stands now: pending while nobody has looked at it."""
    event_id: str | None
    """The event that it became part of, once that is assessed."""


@dataclass(frozen=True, slots=True)
class UnverifiedFilter:
    """Which tellings to list; None does not restrict."""

    camera_id: str | None = None
    start: datetime | None = None
    """Pictures captured at this moment or later."""
    end: datetime | None = None
    """Pictures captured before this moment."""


class UnverifiedQueries(Reader):
    """Reads of what was told as unverified."""

    async def unverified(
        self, wanted: UnverifiedFilter, *, limit: int, after: str | None = None
    ) -> Page[UnverifiedRow]:
        """Return a page of tellings, the newest first."""
        values = page_values(asdict(wanted), limit, after)
        statement = UNVERIFIED_PAGE.format(conditions=page_conditions(CONDITIONS, values))
        rows = await self._all(UnverifiedRow, statement, values)
        return page_of(rows, limit, lambda row: Cursor(row.told_at, row.id))
