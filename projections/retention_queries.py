"""Queries of retention and archive: what is due, what is held, what has been done."""

from datetime import datetime
from typing import Final

from psycopg.sql import SQL

from projections.reading import Reader
from projections.rows import Row
from streams.envelope import Position

# The same conditions as in projections/redaction.py.
_OLD_EVENTS: Final = """e.stage IS NOT NULL AND e.ended_at < %(cutoff)s
    AND e.assessed_at < %(cutoff)s AND e.id <> ALL (%(events)s)"""
_OLD_DETECTIONS: Final = """d.captured_at < %(cutoff)s AND d.recorded_at < %(cutoff)s
    AND d.picture_id <> ALL (%(pictures)s)"""
_OLD_UNVERIFIED: Final = """u.captured_at < %(cutoff)s AND u.recorded_at < %(cutoff)s
    AND u.picture_id <> ALL (%(pictures)s)"""
_OLD_FILES: Final = """(f.media IS NOT NULL OR f.duplicate_of IS NOT NULL)
    AND COALESCE(f.captured_at, f.received_at) < %(cutoff)s AND f.received_at < %(cutoff)s
    AND f.file_id <> ALL (%(files)s)
    AND NOT EXISTS (SELECT FROM redacted_files m WHERE m.file_id = f.file_id)"""
_OLD_PICTURES: Final = """p.captured_at < %(cutoff)s AND p.received_at < %(cutoff)s
    AND p.picture_id <> ALL (%(pictures)s)
    AND NOT EXISTS (SELECT FROM redacted_pictures m WHERE m.picture_id = p.picture_id)"""

CAMERAS: Final = SQL(
    f"""
SELECT DISTINCT e.camera_id FROM events e WHERE {_OLD_EVENTS}
UNION SELECT DISTINCT d.camera_id FROM detections d WHERE {_OLD_DETECTIONS}
UNION SELECT DISTINCT f.camera_id FROM files f WHERE {_OLD_FILES}
UNION SELECT DISTINCT p.camera_id FROM pictures p WHERE {_OLD_PICTURES}
UNION SELECT DISTINCT u.camera_id FROM unverified u WHERE {_OLD_UNVERIFIED}
ORDER BY 1
"""  # noqa: S608 - conditions of ours
)

ROWS: Final = SQL(
    f"""
SELECT
    (SELECT count(*) FROM events e WHERE e.camera_id = %(camera)s AND {_OLD_EVENTS}) AS events,
    (SELECT count(*) FROM detections d
     WHERE d.camera_id = %(camera)s AND {_OLD_DETECTIONS}) AS detections
"""  # noqa: S608 - conditions of ours
)

# The frame of a video has no file of its own in a camera's folder.
PLANNED: Final = SQL(
    f"""
SELECT 'camera:' || f.path AS uri, f.sha256 FROM files f
WHERE f.camera_id = %(camera)s AND {_OLD_FILES}
UNION ALL
SELECT p.uri, NULL FROM pictures p
WHERE p.camera_id = %(camera)s AND p.uri LIKE 'frame:%%' AND {_OLD_PICTURES}
"""  # noqa: S608 - conditions of ours
)

MARKED: Final = SQL(
    """
SELECT 'camera:' || f.path AS uri, f.sha256
FROM files f JOIN redacted_files m USING (file_id) WHERE m.redacted_at = %(as_of)s
UNION ALL
SELECT p.uri, NULL FROM pictures p JOIN redacted_pictures m USING (picture_id)
WHERE m.redacted_at = %(as_of)s AND p.uri LIKE 'frame:%%'
"""
)

HOLDS: Final = SQL(
    """
WITH held AS (SELECT id, picture_ids FROM events WHERE held),
pictures_held AS (SELECT DISTINCT unnest(picture_ids) AS id FROM held)
SELECT
    ARRAY(SELECT id FROM held ORDER BY 1) AS events,
    ARRAY(SELECT id FROM pictures_held ORDER BY 1) AS pictures,
    ARRAY(SELECT DISTINCT f.file_id FROM files f
          JOIN pictures p ON p.picture_id = ANY (f.picture_ids)
          WHERE p.picture_id IN (SELECT id FROM pictures_held)
          UNION SELECT DISTINCT p.file_id FROM pictures p
          WHERE p.file_id IS NOT NULL AND p.picture_id IN (SELECT id FROM pictures_held)
          ORDER BY 1) AS files
"""
)

CAMERA_HOLDS: Final = SQL(
    """SELECT ARRAY(
        SELECT id FROM events WHERE held AND camera_id = %(camera)s ORDER BY 1) AS ids"""
)

OLD_SAMPLES: Final = SQL("SELECT count(*) AS count FROM gpu_samples WHERE sampled_at < %(cutoff)s")

RUN_COLUMNS: Final = SQL(
    """as_of, cutoff, finished_at, retention_days, events_deleted, detections_deleted,
    gpu_stats_deleted, images_deleted, space_reclaimed, logs_deleted, clips_deleted"""
)
LAST_RUN: Final = SQL("SELECT {} FROM retention_runs ORDER BY as_of DESC LIMIT 1").format(
    RUN_COLUMNS
)

UNFINISHED: Final = SQL(
    """
SELECT DISTINCT as_of, cutoff FROM event_redactions
WHERE as_of > COALESCE((SELECT max(as_of) FROM retention_runs), '-infinity')
ORDER BY as_of LIMIT 1
"""
)

APPLIED: Final = SQL(
    """
SELECT camera_id, events_deleted, detections_deleted, images_deleted, space_reclaimed
FROM event_redactions WHERE as_of = %(as_of)s
"""
)

REDACTED_FILE: Final = SQL("SELECT redacted_at FROM redacted_files WHERE file_id = %(file_id)s")

CHECKPOINTS: Final = SQL("SELECT projection, version, stream, partition, ms, seq FROM checkpoints")


class Holds(Row, frozen=True, kw_only=True):
    """What legal holds keep."""

    events: list[str]
    pictures: list[str]
    files: list[str]


class RunRow(Row, frozen=True, kw_only=True):
    """A retention run that was finished."""

    as_of: datetime
    cutoff: datetime
    finished_at: datetime
    retention_days: int
    events_deleted: int
    detections_deleted: int
    gpu_stats_deleted: int
    images_deleted: int
    space_reclaimed: int
    logs_deleted: int
    clips_deleted: int


class Begun(Row, frozen=True, kw_only=True):
    """A run: when it was decided, and the moment before which things are old."""

    as_of: datetime
    cutoff: datetime


class Picture(Row, frozen=True, kw_only=True):
    """A file on disk; the hash is None for what only we write."""

    uri: str
    sha256: str | None


class AppliedRow(Row, frozen=True, kw_only=True):
    """What one run did to one camera."""

    camera_id: str
    events_deleted: int
    detections_deleted: int
    images_deleted: int
    space_reclaimed: int


class _Rows(Row, frozen=True, kw_only=True):
    events: int
    detections: int


class _Count(Row, frozen=True, kw_only=True):
    count: int


class _Camera(Row, frozen=True, kw_only=True):
    camera_id: str


class _Ids(Row, frozen=True, kw_only=True):
    ids: list[str]


class _Redacted(Row, frozen=True, kw_only=True):
    redacted_at: datetime


class _Checkpoint(Row, frozen=True, kw_only=True):
    projection: str
    version: int
    stream: str
    partition: int
    ms: int
    seq: int


class RetentionQueries(Reader):
    """Reads of retention and archive."""

    async def holds(self) -> Holds:
        """Return the events under legal hold, with their pictures and files."""
        found = await self._first(Holds, HOLDS)
        return found or Holds(events=[], pictures=[], files=[])

    async def held_events(self, camera_id: str) -> list[str]:
        """Return the events of one camera that are under legal hold."""
        found = await self._first(_Ids, CAMERA_HOLDS, {"camera": camera_id})
        return found.ids if found else []

    async def cameras(self, run: Begun, holds: Holds) -> list[str]:
        """Return the cameras of which something is old."""
        rows = await self._all(_Camera, CAMERAS, _values(run, holds))
        return [row.camera_id for row in rows]

    async def old_rows(self, camera_id: str, run: Begun, holds: Holds) -> tuple[int, int]:
        """Return how many events and detections of a camera are old."""
        values = _values(run, holds) | {"camera": camera_id}
        found = await self._first(_Rows, ROWS, values)
        return (found.events, found.detections) if found else (0, 0)

    async def old_pictures(self, camera_id: str, run: Begun, holds: Holds) -> list[Picture]:
        """Return the files of a camera that are old."""
        return await self._all(Picture, PLANNED, _values(run, holds) | {"camera": camera_id})

    async def marked_pictures(self, as_of: datetime) -> list[Picture]:
        """Return the files that a run has marked as redacted."""
        return await self._all(Picture, MARKED, {"as_of": as_of})

    async def old_samples(self, cutoff: datetime) -> int:
        """Return how many GPU readings are old."""
        found = await self._first(_Count, OLD_SAMPLES, {"cutoff": cutoff})
        return found.count if found else 0

    async def last_run(self) -> RunRow | None:
        """Return the newest run that was finished."""
        return await self._first(RunRow, LAST_RUN)

    async def unfinished_run(self) -> Begun | None:
        """Return a run that was begun and not finished."""
        return await self._first(Begun, UNFINISHED)

    async def applied(self, as_of: datetime) -> list[AppliedRow]:
        """Return what a run did, camera by camera."""
        return await self._all(AppliedRow, APPLIED, {"as_of": as_of})

    async def redacted_at(self, file_id: str) -> datetime | None:
        """Return when a file was redacted; None when it was not."""
        found = await self._first(_Redacted, REDACTED_FILE, {"file_id": file_id})
        return found.redacted_at if found else None

    async def checkpoints(self) -> dict[tuple[str, int], dict[str, Position]]:
        """Return for each lane how far every version of every read model has got."""
        found: dict[tuple[str, int], dict[str, Position]] = {}
        for row in await self._all(_Checkpoint, CHECKPOINTS):
            name = f"{row.projection} version {row.version}"
            found.setdefault((row.stream, row.partition), {})[name] = Position(row.ms, row.seq)
        return found


def _values(run: Begun, holds: Holds) -> dict[str, object]:
    return {
        "cutoff": run.cutoff,
        "as_of": run.as_of,
        "events": holds.events,
        "pictures": holds.pictures,
        "files": holds.files,
    }
