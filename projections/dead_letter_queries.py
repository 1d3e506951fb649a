"""Queries about parked entries: grouped by cause, listed, one by its id."""

from dataclasses import asdict
from typing import Final

from psycopg.sql import SQL

from projections.cursor import Cursor
from projections.paging import page_conditions, page_of, page_values
from projections.reading import Reader
from projections.rows import DeadLetterFilter, DeadLetterGroup, DeadLetterRow, Page

ENTRIES: Final = SQL(
    """(SELECT partition || '-' || ms || '-' || seq AS id, camera_id, source_stream,
        source_position, group_name, event_id, event_tag, cause, error, attempts, service_version,
        model, model_version, parked_at, picture_id, file_id, batch_id, resolution, resolved_at,
        resolved_by, COALESCE(last_failed_at, parked_at) AS last_failed_at,
        COALESCE(retry_delays, '{}') AS retry_delays, partition
     FROM parked_entries) entries"""
)

# An entry that was redriven and parked again first failed before its first parking. Where nobody
# wrote down when it failed, it had failed when it was parked.
WITH_FIRST: Final = SQL(
    """SELECT id, camera_id, source_stream, source_position, group_name, event_id, event_tag,
        cause, error, attempts, service_version, model, model_version, parked_at, picture_id,
        file_id, batch_id, resolution, resolved_at, resolved_by, first_parked_at, first_failed_at,
        first_error_type, last_failed_at, retry_delays
    FROM ({chosen}) chosen
    CROSS JOIN LATERAL (
        SELECT f.parked_at AS first_parked_at,
            COALESCE(f.first_failed_at, f.parked_at) AS first_failed_at,
            COALESCE(f.first_cause, f.cause) AS first_error_type
        FROM parked_entries f
        WHERE f.group_name = chosen.group_name AND f.event_id = chosen.event_id
          AND f.partition = chosen.partition
        ORDER BY f.ms, f.seq LIMIT 1) first
    ORDER BY parked_at, id"""
)

CONDITIONS: Final = {
    "groups": SQL("group_name = ANY (%(groups)s)"),
    "cause": SQL("cause = %(cause)s"),
    "camera_id": SQL("camera_id = %(camera_id)s"),
    "after_id": SQL("(parked_at, id) > (%(after_at)s, %(after_id)s)"),
}

GROUPED: Final = SQL(
    """
SELECT group_name, cause, service_version, model, model_version, count(*) AS entries,
       min(parked_at) AS oldest_at, max(parked_at) AS newest_at,
       (array_agg(error ORDER BY parked_at DESC))[1] AS error
FROM parked_entries
WHERE resolution IS NULL AND {conditions}
GROUP BY group_name, cause, service_version, model, model_version
ORDER BY entries DESC, group_name, cause, service_version, model, model_version
"""
)

PAGE: Final = SQL(
    """SELECT * FROM {entries} WHERE resolution IS NULL AND {conditions}
    ORDER BY parked_at, id OFFSET %(start)s LIMIT %(limit)s"""
)

ONE: Final = WITH_FIRST.format(
    chosen=SQL("SELECT * FROM {entries} WHERE id = %(id)s").format(entries=ENTRIES)
)


class DeadLetterQueries(Reader):
    """Reads of what was parked and lies there, oldest first."""

    async def dead_letter_groups(self, wanted: DeadLetterFilter) -> list[DeadLetterGroup]:
        """Return the parked entries by stage, cause and versions, the largest group first."""
        values = page_values(asdict(wanted), 0, None)
        statement = GROUPED.format(conditions=page_conditions(CONDITIONS, values))
        return await self._all(DeadLetterGroup, statement, values)

    async def dead_letters(
        self, wanted: DeadLetterFilter, *, limit: int, start: int = 0, after: str | None = None
    ) -> Page[DeadLetterRow]:
        """Return a page of parked entries behind `after`, leaving out the first `start` of it."""
        values = page_values(asdict(wanted), limit, after) | {"start": start}
        conditions = page_conditions(CONDITIONS, values)
        chosen = PAGE.format(entries=ENTRIES, conditions=conditions)
        statement = WITH_FIRST.format(chosen=chosen)
        rows = await self._all(DeadLetterRow, statement, values)
        return page_of(rows, limit, lambda row: Cursor(row.parked_at, row.id))

    async def dead_letter(self, wanted: str) -> DeadLetterRow | None:
        """Return one parked entry, also one that was redriven or discarded."""
        return await self._first(DeadLetterRow, ONE, {"id": wanted})
