"""The cameras: how each is configured, when it was last heard of, and how its view changed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from domain.events import (
    CameraRegistered,
    CameraRemoved,
    CameraUpdated,
    FileDuplicated,
    FileRejected,
    ImageReceived,
    VideoReceived,
)
from projections.database import Connection
from projections.read_model import Run, write_rows
from projections.scene_changes import write_scene_changes
from streams.envelope import Envelope

# A person's registration always counts. A folder that was found says nothing new about a camera
# that is known, unless it was removed: then it is there again, as found.
REGISTER: Final = """
INSERT INTO cameras AS c (
    id, name, folder, source, enabled, entry_point, when_unavailable, scene_change_threshold,
    confirmed, created_at, changed)
VALUES (
    %(id)s, %(name)s, %(folder)s, %(source)s, %(enabled)s, %(entry_point)s,
    %(when_unavailable)s, %(scene_change_threshold)s, %(source)s = 'api', %(at)s, %(position)s)
ON CONFLICT (id) DO UPDATE SET
    name = EXCLUDED.name, folder = EXCLUDED.folder, source = EXCLUDED.source,
    enabled = EXCLUDED.enabled, entry_point = EXCLUDED.entry_point,
    when_unavailable = EXCLUDED.when_unavailable,
    scene_change_threshold = EXCLUDED.scene_change_threshold, confirmed = EXCLUDED.confirmed,
    created_at = COALESCE(c.created_at, EXCLUDED.created_at), removed_at = NULL,
    changed = EXCLUDED.changed
WHERE (c.changed IS NULL OR EXCLUDED.changed > c.changed)
  AND (EXCLUDED.source = 'api' OR c.created_at IS NULL OR c.removed_at IS NOT NULL)
"""

UPDATE: Final = """
UPDATE cameras SET
    name = COALESCE(%(name)s, name), enabled = COALESCE(%(enabled)s, enabled),
    entry_point = COALESCE(%(entry_point)s, entry_point),
    when_unavailable = COALESCE(%(when_unavailable)s, when_unavailable),
    scene_change_threshold = NULLIF(
        COALESCE(%(scene_change_threshold)s::float8, scene_change_threshold), 0),
    confirmed = COALESCE(%(confirmed)s, confirmed), changed = %(position)s
WHERE id = %(id)s AND %(position)s::bigint[] > changed
"""

REMOVE: Final = """
UPDATE cameras SET removed_at = %(at)s, changed = %(position)s
WHERE id = %(id)s AND %(position)s::bigint[] > changed
"""

# A file may be applied before its camera's registration: the row then waits for its name.
UPSERT_SEEN: Final = """
INSERT INTO cameras AS c (id, last_seen_at, last_file_at)
SELECT id, last_seen_at, last_file_at
FROM json_to_recordset(%(rows)s::json) AS r (
    id text, last_seen_at timestamptz, last_file_at timestamptz)
ON CONFLICT (id) DO UPDATE SET
    last_seen_at = GREATEST(c.last_seen_at, EXCLUDED.last_seen_at),
    last_file_at = GREATEST(c.last_file_at, EXCLUDED.last_file_at)
"""


class _Seen(msgspec.Struct):
    id: str
    last_seen_at: datetime | None
    last_file_at: datetime


class Cameras:
    """Read model of the cameras; removing one keeps its row and its history."""

    name = "cameras"
    version = 1
    streams = ("cameras", "files", "scenes")
    tables = ("cameras", "scene_changes")

    async def apply(self, connection: Connection, envelopes: Sequence[Envelope]) -> None:
        """Write the configuration event by event (they are few) and the sightings at once."""
        run = Run(envelopes)
        for envelope in run.in_order(CameraRegistered, CameraUpdated, CameraRemoved):
            await _configure(connection, envelope)
        await write_rows(connection, UPSERT_SEEN, _seen(run))
        await write_scene_changes(connection, run)


async def _configure(connection: Connection, envelope: Envelope) -> None:
    event = envelope.event
    values = {
        "id": event.camera_id,
        "at": envelope.recorded_at,
        "position": list(envelope.position),
    }
    match event:
        case CameraRegistered():
            await connection.execute(
                REGISTER,
                values
                | {
                    "name": _text(event.name),
                    "folder": _text(event.folder),
                    "source": event.source,
                    "enabled": event.enabled,
                    "entry_point": event.entry_point,
                    "when_unavailable": event.when_unavailable,
                    "scene_change_threshold": event.scene_change_threshold or None,
                },
            )
        case CameraUpdated():
            await connection.execute(
                UPDATE,
                values
                | {
                    "name": None if event.name is None else _text(event.name),
                    "enabled": event.enabled,
                    "entry_point": event.entry_point,
                    "when_unavailable": event.when_unavailable,
                    "scene_change_threshold": event.scene_change_threshold,
                    "confirmed": event.confirmed,
                },
            )
        case CameraRemoved():
            await connection.execute(REMOVE, values)
        case _:
            pass


def _text(text: str) -> str:
    """Return the text as PostgreSQL can hold it: without NUL."""
    return text.replace("\0", "\ufffd")


def _seen(run: Run) -> list[_Seen]:
    """Return one row a camera: its newest picture by event time, its newest file by arrival."""
    seen: dict[str, _Seen] = {}
    for event, envelope in run.of(ImageReceived):
        row = _filed(seen, envelope)
        if row.last_seen_at is None or event.captured_at > row.last_seen_at:
            row.last_seen_at = event.captured_at
    for envelope in run.in_order(VideoReceived, FileDuplicated, FileRejected):
        _filed(seen, envelope)
    return list(seen.values())


def _filed(seen: dict[str, _Seen], envelope: Envelope) -> _Seen:
    camera_id, at = envelope.event.camera_id, envelope.recorded_at
    row = seen.get(camera_id)
    if row is None:
        row = seen[camera_id] = _Seen(camera_id, None, at)
    elif at > row.last_file_at:
        row.last_file_at = at
    return row
