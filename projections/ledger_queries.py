"""Queries about files and pictures: where each stands, and why."""

from typing import Final

from psycopg.sql import SQL

from projections.reading import Reader
from projections.rows import FileDetail, FileRow, PictureRow, StateCount

FILE_COLUMNS: Final = SQL(
    """file_id, camera_id, path, sha256, size_bytes, media, captured_at, captured_from,
    received_at, width, height, duration_seconds, frames, duplicate_of, rejected_reason,
    rejected_detail, state, reason"""
)

FILE: Final = SQL("SELECT {} FROM file_states WHERE file_id = %(file_id)s").format(FILE_COLUMNS)

FILES: Final = SQL(
    "SELECT {} FROM file_states WHERE file_id = ANY(%(file_ids)s) ORDER BY received_at, file_id"
).format(FILE_COLUMNS)

DUPLICATES: Final = SQL(
    "SELECT {} FROM file_states WHERE duplicate_of = %(file_id)s ORDER BY received_at, file_id"
).format(FILE_COLUMNS)

PICTURE_COLUMNS: Final = SQL(
    """picture_id, file_id, camera_id, uri, captured_at, frame, width, height, received_at,
    detected_at, detection_count, model, model_version, batch_id, event_id, assessed_at,
    parked_at, parked_group, parked_cause, parked_error, state, reason"""
)

PICTURE: Final = SQL("SELECT {} FROM picture_states WHERE picture_id = %(picture_id)s").format(
    PICTURE_COLUMNS
)

PICTURES: Final = SQL(
    """SELECT {} FROM picture_states WHERE picture_id = ANY(%(picture_ids)s)
    ORDER BY captured_at, picture_id"""
).format(PICTURE_COLUMNS)

PICTURES_OF_FILE: Final = SQL(
    """SELECT {} FROM picture_states
    WHERE picture_id = ANY(
        ARRAY(SELECT unnest(picture_ids) FROM files WHERE file_id = %(file_id)s))
    ORDER BY frame, picture_id"""
).format(PICTURE_COLUMNS)

# By capture time among the newest files: a camera's late pictures come in runs.
NEWEST_PICTURE: Final = SQL(
    """SELECT {} FROM picture_states
    WHERE picture_id = ANY(ARRAY(
        SELECT unnest(f.picture_ids) FROM (
            SELECT picture_ids FROM files
            WHERE camera_id = %(camera_id)s AND media IS NOT NULL
            ORDER BY received_at DESC LIMIT 20) f))
    ORDER BY captured_at DESC, picture_id DESC LIMIT 1"""
).format(PICTURE_COLUMNS)

# A duplicate's reason is a file id, different for each: they are counted together.
COUNTS: Final = SQL(
    """
SELECT state, CASE WHEN state = 'duplicate' THEN '' ELSE reason END AS reason, count(*) AS files
FROM file_states
WHERE %(camera_id)s::text IS NULL OR camera_id = %(camera_id)s
GROUP BY 1, 2 ORDER BY 1, 2
"""
)


class LedgerQueries(Reader):
    """Reads of the ledger."""

    async def file(self, file_id: str) -> FileDetail | None:
        """Return a file with its state, its pictures, and the files that were the same bytes."""
        wanted = {"file_id": file_id}
        file = await self._first(FileRow, FILE, wanted)
        if file is None:
            return None
        return FileDetail(
            file=file,
            pictures=await self._all(PictureRow, PICTURES_OF_FILE, wanted),
            duplicates=await self._all(FileRow, DUPLICATES, wanted),
        )

    async def picture(self, picture_id: str) -> PictureRow | None:
        """Return a picture with its state."""
        return await self._first(PictureRow, PICTURE, {"picture_id": picture_id})

    async def newest_picture(self, camera_id: str) -> PictureRow | None:
        """Return the newest picture that a camera sent."""
        return await self._first(PictureRow, NEWEST_PICTURE, {"camera_id": camera_id})

    async def file_counts(self, *, camera_id: str | None = None) -> list[StateCount]:
        """Return how many files are in each state; the sum is every file seen."""
        return await self._all(StateCount, COUNTS, {"camera_id": camera_id})
