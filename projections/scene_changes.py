"""Scene changes: rows of the cameras' read model, one a change of a camera's view.

They are few and stay, as the ledger's rows do, also when retention has deleted the pictures.
"""

from datetime import datetime
from typing import Final

import msgspec

from domain.events import SceneChangeAcknowledged, SceneChanged, SceneRestored
from projections.database import Connection
from projections.read_model import Run, write_rows
from streams.envelope import Envelope

INSERT: Final = """
INSERT INTO scene_changes (
    id, camera_id, detected_at, recorded_at, change_type, severity, similarity_score, structure,
    threshold, picture_id, file_id, file_path, baseline_picture_id, baseline_captured_at)
SELECT
    id, camera_id, detected_at, recorded_at, change_type, severity, similarity_score, structure,
    threshold, picture_id, file_id, file_path, baseline_picture_id, baseline_captured_at
FROM json_to_recordset(%(rows)s::json) AS r (
    id text, camera_id text, detected_at timestamptz, recorded_at timestamptz, change_type text,
    severity text, similarity_score double precision, structure double precision,
    threshold double precision, picture_id text, file_id text, file_path text,
    baseline_picture_id text, baseline_captured_at timestamptz)
ON CONFLICT DO NOTHING
"""

# What became of a change stands behind it, in the same partition of the same stream; once.
RESTORE: Final = """
UPDATE scene_changes c SET restored_at = r.at
FROM json_to_recordset(%(rows)s::json) AS r (id text, at timestamptz)
WHERE c.id = r.id AND c.restored_at IS NULL
"""

ACKNOWLEDGE: Final = """
UPDATE scene_changes c SET acknowledged_at = r.at, acknowledged_by = r.actor
FROM json_to_recordset(%(rows)s::json) AS r (id text, at timestamptz, actor text)
WHERE c.id = r.id AND c.acknowledged_at IS NULL
"""


class _Change(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    camera_id: str
    detected_at: datetime
    recorded_at: datetime
    change_type: str
    severity: str
    similarity_score: float
    structure: float
    threshold: float
    picture_id: str
    file_id: str
    file_path: str
    baseline_picture_id: str
    baseline_captured_at: datetime


class _Ended(msgspec.Struct, frozen=True):
    id: str
    at: datetime
    actor: str = ""


async def write_scene_changes(connection: Connection, run: Run) -> None:
    """Write the changes of a run, and what became of them and of those before."""
    changes: dict[str, _Change] = {}
    for change, envelope in run.of(SceneChanged):
        changes.setdefault(change.change_id, _change(change, envelope))
    await write_rows(connection, INSERT, list(changes.values()))
    restored: dict[str, _Ended] = {}
    for event, _ in run.of(SceneRestored):
        for change_id in event.change_ids:
            restored.setdefault(change_id, _Ended(change_id, event.captured_at))
    await write_rows(connection, RESTORE, list(restored.values()))
    seen: dict[str, _Ended] = {}
    for told, envelope in run.of(SceneChangeAcknowledged):
        seen.setdefault(told.change_id, _Ended(told.change_id, envelope.recorded_at, told.actor))
    await write_rows(connection, ACKNOWLEDGE, list(seen.values()))


def _change(event: SceneChanged, envelope: Envelope) -> _Change:
    return _Change(
        id=event.change_id,
        camera_id=event.camera_id,
        detected_at=event.view.captured_at,
        recorded_at=envelope.recorded_at,
        change_type=event.change_type,
        severity=event.severity,
        similarity_score=event.similarity,
        structure=event.structure,
        threshold=event.threshold,
        picture_id=event.view.picture_id,
        file_id=event.view.file_id,
        file_path=event.view.path,
        baseline_picture_id=event.baseline.picture_id,
        baseline_captured_at=event.baseline.captured_at,
    )
