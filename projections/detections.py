"""The detections: every object that reached the threshold in a picture.

And the pictures that people were told of before anybody had looked at them.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from domain.events import ActivityUnverified, ObjectsDetected
from domain.ids import detection_id
from projections.database import Connection
from projections.read_model import Run, Write, write_run
from projections.redaction import (
    DELETE_DETECTIONS,
    DELETE_UNVERIFIED,
    detection_writes,
    redact,
)
from projections.unverified import tellings
from streams.envelope import Envelope

# A picture's boxes never change once they are told, so the first telling stands.
INSERT_DETECTIONS: Final = """
INSERT INTO detections (
    id, picture_id, file_id, camera_id, captured_at, label, confidence, x, y, width, height,
    model, model_version, fallback, recorded_at)
SELECT
    id, picture_id, file_id, camera_id, captured_at, label, confidence, x, y, width, height,
    model, model_version, fallback, recorded_at
FROM json_to_recordset(%(rows)s::json) AS r (
    id text, picture_id text, file_id text, camera_id text, captured_at timestamptz, label text,
    confidence double precision, x double precision, y double precision,
    width double precision, height double precision, model text, model_version text,
    fallback boolean, recorded_at timestamptz)
ON CONFLICT DO NOTHING
"""


class _Detection(msgspec.Struct, frozen=True, gc=False):
    id: str
    picture_id: str
    file_id: str
    camera_id: str
    captured_at: datetime
    label: str
    confidence: float
    x: float
    y: float
    width: float
    height: float
    model: str
    model_version: str
    fallback: bool
    recorded_at: datetime


class Detections:
    """Read model of the objects seen; boxes below the threshold stay in the log only."""

    name = "detections"
    version = 1
    streams = ("detections", "assessments")
    tables = ("detections", "unverified", "detection_redactions")

    async def apply(self, connection: Connection, envelopes: Sequence[Envelope]) -> None:
        """Insert one row a box at or above its event's threshold."""
        await write_run(connection, self, envelopes)
        await redact(connection, envelopes, DELETE_DETECTIONS)
        if any(isinstance(envelope.event, ActivityUnverified) for envelope in envelopes):
            await redact(connection, envelopes, DELETE_UNVERIFIED)

    def writes(self, run: Run) -> list[Write]:
        """Return the rows of a run; of one detection that is told twice, the first."""
        rows: dict[str, _Detection] = {}
        for event, envelope in run.of(ObjectsDetected):
            _detect(rows, event, envelope.recorded_at)
        inserted = Write(INSERT_DETECTIONS, list(rows.values()), "detections")
        return [inserted, tellings(run), *detection_writes(run)]


def _detect(rows: dict[str, _Detection], event: ObjectsDetected, recorded_at: datetime) -> None:
    """Add what an event saw to the rows, unless it was told before."""
    picture_id, file_id, camera_id = event.picture_id, event.file_id, event.camera_id
    captured_at, threshold = event.captured_at, event.threshold
    model, model_version, fallback = event.model, event.model_version, event.fallback
    for index, box in enumerate(event.boxes):
        if box.score < threshold or (key := detection_id(picture_id, index)) in rows:
            continue
        rows[key] = _Detection(
            key,
            picture_id,
            file_id,
            camera_id,
            captured_at,
            box.label,
            box.score,
            box.x,
            box.y,
            box.width,
            box.height,
            model,
            model_version,
            fallback,
            recorded_at,
        )
