"""Queries about files and pictures: where each stands, and why."""

from dataclasses import asdict
from datetime import datetime
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

PICTURES_BETWEEN: Final = SQL(
    """SELECT {} FROM picture_states
    WHERE picture_id = ANY(ARRAY(
        SELECT picture_id FROM pictures
        WHERE camera_id = %(camera_id)s AND captured_at BETWEEN %(since)s AND %(until)s
        ORDER BY captured_at, picture_id LIMIT %(limit)s))
    ORDER BY captured_at, picture_id"""
).format(PICTURE_COLUMNS)

MOST_BETWEEN: Final = 5_000
"""Pictures of one camera that are looked at to choose some of them."""

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

AMONG: Final = {name: FILE_CONDITIONS[name] for name in ("camera_id", "after_id")}
"""What can be said of a file before it is known where it stands."""

# Files that are on their way or parked are few among all, and their pictures lie in an index of
# their own (parked ones: the entries that lie there). Only their files are asked where they stand,
# the last taken in first, until the page is full: one by one, hence the inner LIMIT. A file is
# known by its first picture, since the same picture may have come with two files.
OPEN_PICTURES: Final = SQL(
    """SELECT picture_id, file_id, uri FROM pictures
    WHERE received_at IS NOT NULL AND assessed_at IS NULL
      AND (batch_id IS NOT NULL OR detection_count > 0
           OR (detected_at IS NULL AND filtered_reason IS NULL))"""
)

PARKED_PICTURES: Final = SQL(
    """SELECT picture_id, file_id, uri FROM pictures
    WHERE picture_id = ANY (ARRAY(
        SELECT picture_id FROM parked_entries
        WHERE resolution IS NULL AND stage IS NOT NULL AND picture_id IS NOT NULL))
    UNION ALL
    SELECT picture_id, file_id, uri FROM pictures
    WHERE batch_id = ANY (ARRAY(
        SELECT batch_id FROM parked_entries
        WHERE resolution IS NULL AND stage IS NOT NULL AND picture_id IS NULL))"""
)

OPEN_FILES_PAGE: Final = SQL(
    """
WITH wanted AS MATERIALIZED ({pictures}),
videos AS MATERIALIZED (
    SELECT picture_ids[1] AS picture_id FROM files
    WHERE file_id = ANY (ARRAY(SELECT file_id FROM wanted WHERE uri LIKE 'frame:%%')))
SELECT s.* FROM (
    SELECT file_id, received_at FROM (
        SELECT file_id, received_at, camera_id FROM files
        WHERE media IS NOT NULL AND picture_ids[1] = ANY (ARRAY(
            SELECT picture_id FROM wanted UNION ALL SELECT picture_id FROM videos))
        UNION ALL
        SELECT file_id, received_at, camera_id FROM files
        WHERE media = 'video' AND picture_ids = '{{}}' AND frames IS DISTINCT FROM 0) known
    WHERE {among}
    ORDER BY received_at DESC, file_id DESC) newest
CROSS JOIN LATERAL (
    SELECT {columns} FROM file_states WHERE file_id = newest.file_id AND {conditions} LIMIT 1) s
ORDER BY newest.received_at DESC, newest.file_id DESC LIMIT %(limit)s
"""
)

PICTURES_IN: Final = {"pending": OPEN_PICTURES, "parked": PARKED_PICTURES}

# Files in another rare state are not looked for among all: first those that are plainly at their
# end are left out.
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

    async def pictures_between(
        self, camera_id: str, since: datetime, until: datetime
    ) -> list[PictureRow]:
        """Return what a camera took from one moment to another, the first MOST_BETWEEN of it."""
        values = {"camera_id": camera_id, "since": since, "until": until, "limit": MOST_BETWEEN}
        return await self._all(PictureRow, PICTURES_BETWEEN, values)

    async def files(
        self, wanted: FileFilter, *, limit: int, after: str | None = None
    ) -> Page[FileRow]:
        """Return a page of files, the last taken in first."""
        values = page_values(asdict(wanted), limit, after)
        conditions = page_conditions(FILE_CONDITIONS, values)
        parts = {"columns": FILE_COLUMNS, "conditions": conditions}
        if (pictures := PICTURES_IN.get(wanted.state or "")) is not None:
            among = page_conditions(AMONG, values)
            statement = OPEN_FILES_PAGE.format(pictures=pictures, among=among, **parts)
        else:
            if wanted.state in ("duplicate", "rejected"):
                parts["conditions"] += SQL(" AND ") + WITHOUT_MEDIA
            elif _is_rare(wanted):
                parts["conditions"] += SQL(" AND ") + NOT_PLAIN
            statement = FILES_PAGE.format(**parts)
        rows = await self._all(FileRow, statement, values)
        return page_of(rows, limit, lambda row: Cursor(row.received_at, row.file_id))


def _is_rare(wanted: FileFilter) -> bool:
    return wanted.state == "filtered" and wanted.reason not in (None, NOTHING_SEEN)
