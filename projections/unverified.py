"""What people were told of before anybody had looked at it: rows of the detections' read model."""

from datetime import datetime
from typing import Final

import msgspec

from domain.events import ActivityUnverified
from projections.read_model import Run, Write
from streams.envelope import Envelope

INSERT: Final = """
INSERT INTO unverified (
    id, camera_id, picture_id, file_id, captured_at, recorded_at, service, reason)
SELECT id, camera_id, picture_id, file_id, captured_at, recorded_at, service, reason
FROM json_to_recordset(%(rows)s::json) AS r (
    id text, camera_id text, picture_id text, file_id text, captured_at timestamptz,
    recorded_at timestamptz, service text, reason text)
ON CONFLICT DO NOTHING
"""


class _Telling(msgspec.Struct, frozen=True):
    id: str
    camera_id: str
    picture_id: str
    file_id: str
    captured_at: datetime
    recorded_at: datetime
    service: str
    reason: str


def tellings(run: Run) -> Write:
    """Return one row a telling; what became of the picture is the ledger's to say."""
    rows: dict[str, _Telling] = {}
    for event, envelope in run.of(ActivityUnverified):
        rows.setdefault(envelope.id, _telling(event, envelope))
    return Write(INSERT, list(rows.values()), "unverified")


def _telling(event: ActivityUnverified, envelope: Envelope) -> _Telling:
    return _Telling(
        envelope.id,
        event.camera_id,
        event.picture_id,
        event.file_id,
        event.captured_at,
        envelope.recorded_at,
        event.service,
        event.reason,
    )
