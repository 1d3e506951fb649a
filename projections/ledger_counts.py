"""The ledger in numbers: how many files are in each state, counted in one statement.

Most files are at their end, and one look at one picture says so: they are counted by one join of
two tables. Whatever is not so plain (videos, pictures on their way, what was parked or set aside)
is asked of the view `file_states`, which decides. A test holds both to the same answer.
"""

import asyncio
import time
from typing import Final

from psycopg.rows import kwargs_row
from psycopg.sql import SQL, Literal

from projections.database import Pool
from projections.reading import Reader
from projections.rows import LedgerRow, StateCount

AGES: Final = (60, 3_600, 86_400, 604_800)
"""Seconds since a file was taken in at which the next age bucket begins."""

NOTHING_SEEN: Final = "no object at or above the threshold"
"""Why the view calls a picture filtered in which nothing was found."""

PLAIN_STATE: Final = SQL(
    """CASE
        WHEN f.media IS NULL AND f.duplicate_of IS NOT NULL THEN 'duplicate'
        WHEN f.media IS NULL THEN 'rejected'
        WHEN p.assessed_at IS NOT NULL THEN 'assessed'
        WHEN p.detection_count = 0 AND p.batch_id IS NULL THEN 'filtered'
    END"""
)
"""The state of a file that is plainly at its end, NULL for every other."""

FILES_AND_PICTURES: Final = SQL(
    """files f LEFT JOIN pictures p
        ON p.picture_id = CASE WHEN f.media = 'image' THEN f.picture_ids[1] END
        AND p.received_at IS NOT NULL"""
)

_AGE: Final = SQL("width_bucket(extract(epoch FROM now() - {column}), {ages}::float8[])")

# A duplicate's reason is a file id, different for each: they are counted together.
LEDGER: Final = SQL(
    """
WITH counted AS MATERIALIZED (
    SELECT camera_id, state, reason, age, count(*) AS files, min(received_at) AS oldest_at,
           array_agg(file_id) FILTER (WHERE state IS NULL) AS others
    FROM (
        SELECT f.file_id, f.camera_id, f.received_at, {plain} AS state, {file_age} AS age,
               CASE
                   WHEN f.media IS NULL AND f.duplicate_of IS NOT NULL THEN ''
                   WHEN f.media IS NULL THEN COALESCE(f.rejected_reason, '')
                   WHEN p.assessed_at IS NOT NULL THEN ''
                   WHEN p.detection_count = 0 AND p.batch_id IS NULL THEN {nothing}
               END AS reason
        FROM {tables}
        WHERE %(camera_id)s::text IS NULL OR f.camera_id = %(camera_id)s
    ) plain
    GROUP BY camera_id, state, reason, age)
SELECT camera_id, state, reason, age, files, oldest_at, NULL AS oldest_id
FROM counted WHERE state IS NOT NULL
UNION ALL
SELECT camera_id, state, reason, {state_age}, count(*), min(received_at),
       (array_agg(file_id ORDER BY received_at, file_id))[1]
FROM file_states s
WHERE file_id = ANY (ARRAY(SELECT unnest(others) FROM counted))
GROUP BY 1, 2, 3, 4
"""
).format(
    plain=PLAIN_STATE,
    tables=FILES_AND_PICTURES,
    nothing=Literal(NOTHING_SEEN),
    file_age=_AGE.format(column=SQL("f.received_at"), ages=Literal(list(AGES))),
    state_age=_AGE.format(column=SQL("s.received_at"), ages=Literal(list(AGES))),
)

# Two tables of a million rows join in memory with this; without it they go through the disk.
ROOM: Final = SQL("SET LOCAL work_mem = '128MB'")

REST_FACTOR: Final = 10.0
"""A count is answered again for so many times the seconds that it took …"""

CHEAP_SECONDS: Final = 0.1
"""… unless it took less than this: then every question is counted anew."""


class LedgerCounts(Reader):
    """Counts files by state, reason, camera and age."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._counted: dict[str | None, tuple[float, list[LedgerRow]]] = {}
        self._counting = asyncio.Lock()

    async def ledger(self, *, camera_id: str | None = None) -> list[LedgerRow]:
        """Return the counts of one moment; their sum is every file seen.

        Where counting is slow (hundreds of thousands of files), the same counts are answered for
        a while, so that those who ask often do not keep the database busy with it.
        """
        async with self._counting:
            fresh_until, rows = self._counted.get(camera_id, (0.0, []))
            began = time.monotonic()
            if began < fresh_until:
                return rows
            async with self._connected() as connection, connection.transaction():
                await connection.execute(ROOM)
                cursor = connection.cursor(row_factory=kwargs_row(LedgerRow))
                await cursor.execute(LEDGER, {"camera_id": camera_id})
                rows = await cursor.fetchall()
            now = time.monotonic()
            self._counted.clear()
            if (took := now - began) >= CHEAP_SECONDS:
                self._counted[camera_id] = (now + took * REST_FACTOR, rows)
            return rows

    async def file_counts(self, *, camera_id: str | None = None) -> list[StateCount]:
        """Return how many files are in each state, by reason; the sum is every file seen."""
        counts: dict[tuple[str, str], int] = {}
        for row in await self.ledger(camera_id=camera_id):
            counts[row.state, row.reason] = counts.get((row.state, row.reason), 0) + row.files
        return [
            StateCount(state=state, reason=reason, files=files)  # type: ignore[arg-type]  # of rows
            for (state, reason), files in sorted(counts.items())
        ]
