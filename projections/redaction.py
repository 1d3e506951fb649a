"""Redaction: how the read models apply `retention.applied`, in any interleaving of the streams.

A rule (camera, as_of, cutoff, what is kept) holds for every row whose event time lies before the
cut-off and that the log took in before it, whenever that row comes to be written: what a camera
with a wrong clock sent today is not thrown away tonight. Each read
model keeps the rules it was told, and applies them after every run to which one may matter.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from domain.events import RetentionApplied
from projections.database import Connection
from projections.read_model import Run, Write
from streams.envelope import Envelope

_GIVEN: Final = """(SELECT * FROM json_to_recordset(%(rows)s::json) AS g (
    camera_id text, as_of timestamptz, cutoff timestamptz, kept text[], kept_pictures text[],
    kept_files text[]))"""


def _known(table: str) -> str:
    return f"(SELECT * FROM {table} WHERE as_of >= %(since)s)"  # noqa: S608 - names of ours


# --- events -------------------------------------------------------------------------------------

KEEP_EVENT_RULES: Final = """
INSERT INTO event_redactions (
    camera_id, as_of, cutoff, kept, events_deleted, detections_deleted, images_deleted,
    space_reclaimed)
SELECT
    camera_id, as_of, cutoff, kept, events_deleted, detections_deleted, images_deleted,
    space_reclaimed
FROM json_to_recordset(%(rows)s::json) AS r (
    camera_id text, as_of timestamptz, cutoff timestamptz, kept text[], events_deleted bigint,
    detections_deleted bigint, images_deleted bigint, space_reclaimed bigint)
ON CONFLICT DO NOTHING
"""

# A row without an assessment is what came behind a deleted event (a late word, a review).
DELETE_EVENTS: Final = f"""
WITH gone AS (
    DELETE FROM events e USING {_known("event_redactions")} r
    WHERE e.camera_id = r.camera_id AND e.id <> ALL (r.kept)
      AND CASE
          WHEN e.stage IS NOT NULL THEN e.ended_at < r.cutoff AND e.assessed_at < r.cutoff
          ELSE GREATEST(e.refined_at, e.reviewed_at, e.held_at) < r.as_of END
    RETURNING e.id)
DELETE FROM event_labels l USING gone WHERE l.id = gone.id
"""  # noqa: S608 - names of ours

# --- detections, and what was told unverified ---------------------------------------------------

KEEP_DETECTION_RULES: Final = """
INSERT INTO detection_redactions (camera_id, as_of, cutoff, kept)
SELECT camera_id, as_of, cutoff, kept
FROM json_to_recordset(%(rows)s::json) AS r (
    camera_id text, as_of timestamptz, cutoff timestamptz, kept text[])
ON CONFLICT DO NOTHING
"""

_DELETE_ROWS: Final = """
DELETE FROM {table} d USING {rules} r
WHERE d.camera_id = r.camera_id AND d.captured_at < r.cutoff AND d.recorded_at < r.cutoff
  AND d.picture_id <> ALL (r.kept)
"""
DELETE_DETECTIONS_GIVEN: Final = _DELETE_ROWS.format(table="detections", rules=_GIVEN)
DELETE_DETECTIONS: Final = _DELETE_ROWS.format(
    table="detections", rules=_known("detection_redactions")
)
DELETE_UNVERIFIED_GIVEN: Final = _DELETE_ROWS.format(table="unverified", rules=_GIVEN)
DELETE_UNVERIFIED: Final = _DELETE_ROWS.format(
    table="unverified", rules=_known("detection_redactions")
)

# --- ledger -------------------------------------------------------------------------------------

KEEP_FILE_RULES: Final = """
INSERT INTO file_redactions (camera_id, as_of, cutoff, kept_pictures, kept_files)
SELECT camera_id, as_of, cutoff, kept_pictures, kept_files
FROM json_to_recordset(%(rows)s::json) AS r (
    camera_id text, as_of timestamptz, cutoff timestamptz, kept_pictures text[],
    kept_files text[])
ON CONFLICT DO NOTHING
"""

# The first rule that meets a row names the moment.
_MARK_FILES: Final = """
INSERT INTO redacted_files AS m (file_id, redacted_at)
SELECT f.file_id, min(r.as_of)
FROM files f JOIN {rules} r ON f.camera_id = r.camera_id
WHERE (f.media IS NOT NULL OR f.duplicate_of IS NOT NULL)
  AND COALESCE(f.captured_at, f.received_at) < r.cutoff AND f.received_at < r.cutoff
  AND f.file_id <> ALL (r.kept_files)
GROUP BY 1
ON CONFLICT (file_id) DO UPDATE SET redacted_at = EXCLUDED.redacted_at
WHERE EXCLUDED.redacted_at < m.redacted_at
"""
MARK_FILES_GIVEN: Final = _MARK_FILES.format(rules=_GIVEN)
MARK_FILES: Final = _MARK_FILES.format(rules=_known("file_redactions"))

_MARK_PICTURES: Final = """
INSERT INTO redacted_pictures AS m (picture_id, redacted_at)
SELECT p.picture_id, min(r.as_of)
FROM pictures p JOIN {rules} r ON p.camera_id = r.camera_id
WHERE p.captured_at < r.cutoff AND p.received_at < r.cutoff
  AND p.picture_id <> ALL (r.kept_pictures)
GROUP BY 1
ON CONFLICT (picture_id) DO UPDATE SET redacted_at = EXCLUDED.redacted_at
WHERE EXCLUDED.redacted_at < m.redacted_at
"""
MARK_PICTURES_GIVEN: Final = _MARK_PICTURES.format(rules=_GIVEN)
MARK_PICTURES: Final = _MARK_PICTURES.format(rules=_known("file_redactions"))


class _EventRule(msgspec.Struct, frozen=True, kw_only=True):
    camera_id: str
    as_of: datetime
    cutoff: datetime
    kept: tuple[str, ...]
    events_deleted: int
    detections_deleted: int
    images_deleted: int
    space_reclaimed: int


class _PictureRule(msgspec.Struct, frozen=True, kw_only=True):
    camera_id: str
    as_of: datetime
    cutoff: datetime
    kept: tuple[str, ...]


class _FileRule(msgspec.Struct, frozen=True, kw_only=True):
    camera_id: str
    as_of: datetime
    cutoff: datetime
    kept_pictures: tuple[str, ...]
    kept_files: tuple[str, ...]


def _rules(run: Run) -> Iterable[RetentionApplied]:
    """Return the rules that a run tells, each once."""
    return {
        (e.camera_id, e.as_of): e for e, _ in reversed(list(run.of(RetentionApplied)))
    }.values()


def event_rules(run: Run) -> Sequence[msgspec.Struct]:
    """Return the rules of the timeline."""
    return [
        _EventRule(
            camera_id=e.camera_id,
            as_of=e.as_of,
            cutoff=e.cutoff,
            kept=e.kept_event_ids,
            events_deleted=e.events_deleted,
            detections_deleted=e.detections_deleted,
            images_deleted=e.images_deleted,
            space_reclaimed=e.space_reclaimed,
        )
        for e in _rules(run)
    ]


def detection_writes(run: Run) -> list[Write]:
    """Return what the rules of a run do to the detections and to what was told unverified."""
    rules = [
        _PictureRule(
            camera_id=e.camera_id, as_of=e.as_of, cutoff=e.cutoff, kept=e.kept_picture_ids
        )
        for e in _rules(run)
    ]
    return [
        Write(KEEP_DETECTION_RULES, rules, "detection_redactions"),
        Write(DELETE_DETECTIONS_GIVEN, rules),
        Write(DELETE_UNVERIFIED_GIVEN, rules),
    ]


def ledger_writes(run: Run) -> list[Write]:
    """Return what the rules of a run do to files and pictures."""
    rules = [
        _FileRule(
            camera_id=e.camera_id,
            as_of=e.as_of,
            cutoff=e.cutoff,
            kept_pictures=e.kept_picture_ids,
            kept_files=e.kept_file_ids,
        )
        for e in _rules(run)
    ]
    return [
        Write(KEEP_FILE_RULES, rules, "file_redactions"),
        Write(MARK_FILES_GIVEN, rules),
        Write(MARK_PICTURES_GIVEN, rules),
    ]


async def redact(connection: Connection, envelopes: Sequence[Envelope], *statements: str) -> None:
    """Run the statements for every kept rule that may hold for what this run wrote.

    Only a rule decided after the oldest of these envelopes was recorded can: live, that is none.
    """
    if not envelopes:
        return
    since = min(_since(envelope) for envelope in envelopes)
    for statement in statements:
        await connection.execute(statement, {"since": since})


def _since(envelope: Envelope) -> datetime:
    event = envelope.event
    return event.as_of if isinstance(event, RetentionApplied) else envelope.recorded_at
