"""What was parked, and what became of it: the ledger's rows of the stream `parked`."""

from datetime import datetime
from typing import Final

import msgspec

from domain.events import EntryDiscarded, EntryParked, EntryRedriven
from projections.read_model import Run
from streams.envelope import Envelope, Position

WAITING_STAGE: Final = {"detect": "detect", "batch": "batch", "assess": "assess"}
"""Consumer group that parked an entry → the step its pictures now wait for. A parked `refine`
holds nobody up: the rules' assessment stands."""

INSERT_PARKED: Final = """
INSERT INTO parked_entries (
    partition, ms, seq, camera_id, source_stream, source_position, group_name, stage, event_id,
    event_tag, cause, error, attempts, service_version, model, model_version, parked_at,
    picture_id, file_id, batch_id, first_failed_at, first_cause, last_failed_at, retry_delays)
SELECT
    partition, ms, seq, camera_id, source_stream, source_position, group_name, stage, event_id,
    event_tag, cause, error, attempts, service_version, model, model_version, parked_at,
    picture_id, file_id, batch_id, first_failed_at, first_cause, last_failed_at, retry_delays
FROM json_to_recordset(%(rows)s::json) AS r (
    partition integer, ms bigint, seq bigint, camera_id text, source_stream text,
    source_position text, group_name text, stage text, event_id text, event_tag text, cause text,
    error text, attempts bigint, service_version text, model text, model_version text,
    parked_at timestamptz, picture_id text, file_id text, batch_id text,
    first_failed_at timestamptz, first_cause text, last_failed_at timestamptz,
    retry_delays double precision[])
ON CONFLICT DO NOTHING
"""

# What was decided comes behind the entry, in the same partition of the same stream; once.
RESOLVE_PARKED: Final = """
UPDATE parked_entries AS p
SET resolution = r.resolution, resolved_at = r.resolved_at, resolved_by = r.resolved_by
FROM json_to_recordset(%(rows)s::json) AS r (
    partition integer, ms bigint, seq bigint, resolution text, resolved_at timestamptz,
    resolved_by text)
WHERE p.partition = r.partition AND p.ms = r.ms AND p.seq = r.seq AND p.resolution IS NULL
"""


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """One entry that was moved aside."""

    partition: int
    ms: int
    seq: int
    camera_id: str
    source_stream: str
    source_position: str
    group_name: str
    stage: str | None
    event_id: str
    event_tag: str
    cause: str
    error: str
    attempts: int
    service_version: str
    model: str | None
    model_version: str | None
    parked_at: datetime
    picture_id: str | None
    file_id: str | None
    batch_id: str | None
    first_failed_at: datetime | None
    first_cause: str | None
    last_failed_at: datetime | None
    retry_delays: tuple[float, ...] | None


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided about one of them."""

    partition: int
    ms: int
    seq: int
    resolution: str
    resolved_at: datetime
    resolved_by: str


def parked_rows(run: Run) -> list[Parked]:
    """Return one row an entry that was parked."""
    return [_parked_row(event, envelope) for event, envelope in run.of(EntryParked)]


def _parked_row(event: EntryParked, envelope: Envelope) -> Parked:
    failures = event.failures
    first, last = (failures[0], failures[-1]) if failures else (None, None)
    delays = tuple(f.retry_seconds for f in failures if f.retry_seconds is not None)
    return Parked(
        partition=envelope.partition,
        ms=envelope.position.ms,
        seq=envelope.position.seq,
        camera_id=event.camera_id,
        source_stream=event.source_stream,
        source_position=event.position,
        group_name=event.group,
        stage=WAITING_STAGE.get(event.group),
        event_id=event.event_id,
        event_tag=event.event_tag,
        cause=event.cause,
        error=event.error,
        attempts=event.attempts,
        service_version=event.service_version,
        model=event.model,
        model_version=event.model_version,
        parked_at=envelope.recorded_at,
        picture_id=event.picture_id,
        file_id=event.file_id,
        batch_id=event.batch_id,
        first_failed_at=first.at if first else None,
        first_cause=first.cause if first else None,
        last_failed_at=last.at if last else None,
        retry_delays=delays if failures else None,
    )


def resolved_rows(run: Run) -> list[Resolved]:
    """Return one row an entry that was redriven or discarded."""
    rows: dict[tuple[int, Position], Resolved] = {}
    for envelope in run.in_order(EntryRedriven, EntryDiscarded):
        event = envelope.event
        if not isinstance(event, EntryRedriven | EntryDiscarded):
            continue
        at = Position.parse(event.parked_position)
        row = Resolved(
            partition=envelope.partition,
            ms=at.ms,
            seq=at.seq,
            resolution="redriven" if isinstance(event, EntryRedriven) else "discarded",
            resolved_at=envelope.recorded_at,
            resolved_by=event.actor,
        )
        rows.setdefault((envelope.partition, at), row)
    return list(rows.values())
