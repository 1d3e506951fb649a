"""Queries about files and pictures: where each stands, and why."""

from dataclasses import asdict
from typing import Final

from psycopg.sql import SQL

from projections.cursor import Cursor
from projections.ledger_counts import FILES_AND_PICTURES, NOTHING_SEEN, PLAIN_STATE, LedgerCounts
from projections.paging import page_conditions, page_of, page_values
from projections.rows import FileDetail, FileFilter, FileRow, Page, PictureRow

FILE_COLUMNS: Final = SQL(
    """file_id, camera_id, path, sha256, size_bytes, media, captured_at, captured_from,
    received_at, width, height, duration_seconds, frames, duplicate_of, rejected_reason,
    rejected_detail, state, reason,
    (SELECT m.redacted_at FROM redacted_files m
     WHERE m.file_id = file_states.file_id) AS redacted_at"""
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
    parked_at, parked_group, parked_cause, parked_error, state, reason,
    (SELECT m.redacted_at FROM redacted_pictures m
     WHERE m.picture_id = picture_states.picture_id) AS redacted_at,
    (SELECT f.sha256 FROM files f
     WHERE f.file_id = picture_states.file_id AND f.media = 'image') AS sha256"""
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

FILES_PAGE: Final = SQL(
    """SELECT {columns} FROM file_states WHERE {conditions}
    ORDER BY received_at DESC, file_id DESC LIMIT %(limit)s"""
)

FILE_CONDITIONS: Final = {
    "state": SQL("state = %(state)s"),
    "camera_id": SQL("camera_id = %(camera_id)s"),
    "reason": SQL("reason = %(reason)s"),
    "after_id": SQL("(received_at, file_id) < (%(after_at)s, %(after_id)s)"),
}

# Files in a rare state are not looked for among all: first those that are plainly at their end
# are left out.
NOT_PLAIN: Final = SQL(
    "file_id = ANY (ARRAY(SELECT f.file_id FROM {tables} WHERE ({plain}) IS NULL))"
).format(tables=FILES_AND_PICTURES, plain=PLAIN_STATE)

WITHOUT_MEDIA: Final = SQL("media IS NULL")


class LedgerQueries(LedgerCounts):
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

    async def files(
        self, wanted: FileFilter, *, limit: int, after: str | None = None
    ) -> Page[FileRow]:
        """Return a page of files, the last taken in first."""
        values = page_values(asdict(wanted), limit, after)
        conditions = page_conditions(FILE_CONDITIONS, values)
        if wanted.state in ("duplicate", "rejected"):
            conditions += SQL(" AND ") + WITHOUT_MEDIA
        elif wanted.state in ("pending", "parked") or _is_rare(wanted):
            conditions += SQL(" AND ") + NOT_PLAIN
        statement = FILES_PAGE.format(columns=FILE_COLUMNS, conditions=conditions)
        rows = await self._all(FileRow, statement, values)
        return page_of(rows, limit, lambda row: Cursor(row.received_at, row.file_id))


def _is_rare(wanted: FileFilter) -> bool:
    return wanted.state == "filtered" and wanted.reason not in (None, NOTHING_SEEN)
