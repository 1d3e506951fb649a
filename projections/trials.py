"""Trials: what a candidate made of each picture, and who set how much a candidate answers for."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from domain.events import CandidateCompared, ConfigChanged, RetentionFinished
from domain.trials import Agreement
from projections.database import Connection
from projections.read_model import Run, write_rows
from streams.envelope import Envelope

SETTINGS: Final = ("CANDIDATE_PERCENT", "CANDIDATE_PROMPT_PERCENT")

UPSERT: Final = """
INSERT INTO trial_comparisons AS t (
    picture_id, camera_id, captured_at, canary, error, matched, missing, surplus, agreement, drift,
    reference, reference_version, reference_ms, candidate, candidate_version, candidate_ms, ms,
    seq)
SELECT
    picture_id, camera_id, captured_at, canary, error, matched, missing, surplus, agreement, drift,
    reference, reference_version, reference_ms, candidate, candidate_version, candidate_ms, ms,
    seq
FROM json_to_recordset(%(rows)s::json) AS r (
    picture_id text, camera_id text, captured_at timestamptz, canary boolean, error text,
    matched bigint, missing bigint, surplus bigint, agreement double precision,
    drift double precision, reference text, reference_version text,
    reference_ms double precision, candidate text, candidate_version text,
    candidate_ms double precision, ms bigint, seq bigint)
ON CONFLICT (picture_id) DO UPDATE SET
    canary = EXCLUDED.canary, error = EXCLUDED.error, matched = EXCLUDED.matched,
    missing = EXCLUDED.missing, surplus = EXCLUDED.surplus, agreement = EXCLUDED.agreement,
    drift = EXCLUDED.drift, reference = EXCLUDED.reference,
    reference_version = EXCLUDED.reference_version, reference_ms = EXCLUDED.reference_ms,
    candidate = EXCLUDED.candidate, candidate_version = EXCLUDED.candidate_version,
    candidate_ms = EXCLUDED.candidate_ms, ms = EXCLUDED.ms, seq = EXCLUDED.seq
WHERE (EXCLUDED.ms, EXCLUDED.seq) > (t.ms, t.seq)
"""

INSERT_CHANGES: Final = """
INSERT INTO trial_changes (
    ms, seq, changed_at, actor, setting, old_percent, new_percent, reason)
SELECT ms, seq, changed_at, actor, setting, old_percent, new_percent, reason
FROM json_to_recordset(%(rows)s::json) AS r (
    ms bigint, seq bigint, changed_at timestamptz, actor text, setting text, old_percent bigint,
    new_percent bigint, reason text)
ON CONFLICT DO NOTHING
"""

INSERT_CUTOFFS: Final = """
INSERT INTO trial_cutoffs (as_of, cutoff)
SELECT as_of, cutoff
FROM json_to_recordset(%(rows)s::json) AS r (as_of timestamptz, cutoff timestamptz)
ON CONFLICT DO NOTHING
"""

# Nothing from before the newest cut-off is ever shown again, whatever is replayed.
DELETE: Final = """
DELETE FROM trial_comparisons WHERE captured_at < (SELECT max(cutoff) FROM trial_cutoffs)
"""


class _Comparison(msgspec.Struct, frozen=True, kw_only=True):
    picture_id: str
    camera_id: str
    captured_at: datetime
    canary: bool
    error: str | None
    matched: int
    missing: int
    surplus: int
    agreement: float | None
    drift: float | None
    reference: str | None
    reference_version: str | None
    reference_ms: float | None
    candidate: str | None
    candidate_version: str | None
    candidate_ms: float | None
    ms: int
    seq: int


class _Change(msgspec.Struct, frozen=True):
    ms: int
    seq: int
    changed_at: datetime
    actor: str
    setting: str
    old_percent: int
    new_percent: int
    reason: str


class _Cutoff(msgspec.Struct, frozen=True):
    as_of: datetime
    cutoff: datetime


class Trials:
    """Read model of what a candidate detector made of the pictures."""

    name = "trials"
    version = 1
    pace_seconds = 1.0
    """Nobody waits for a comparison: what comes within a second is one transaction."""
    streams = ("trials", "system")
    tables = ("trial_comparisons", "trial_changes", "trial_cutoffs")

    async def apply(self, connection: Connection, envelopes: Sequence[Envelope]) -> None:
        """Keep the last comparison of each picture and every change; forget what is too old."""
        run = Run(envelopes)
        rows = {e.picture_id: _comparison(e, at) for e, at in run.of(CandidateCompared)}
        await write_rows(connection, UPSERT, list(rows.values()))
        await write_rows(connection, INSERT_CHANGES, _changes(run))
        told = {e.as_of: _Cutoff(e.as_of, e.cutoff) for e, _ in run.of(RetentionFinished)}
        await write_rows(connection, INSERT_CUTOFFS, list(told.values()))
        if rows or told:
            await connection.execute(DELETE)


def _comparison(event: CandidateCompared, envelope: Envelope) -> _Comparison:
    found = Agreement(event.matched, event.missing, event.surplus, event.drift)
    return _Comparison(
        picture_id=event.picture_id,
        camera_id=event.camera_id,
        captured_at=event.captured_at,
        canary=event.canary,
        error=event.error,
        matched=event.matched,
        missing=event.missing,
        surplus=event.surplus,
        agreement=found.share if event.error is None else None,
        drift=event.drift,
        reference=event.reference,
        reference_version=event.reference_version,
        reference_ms=event.reference_ms,
        candidate=event.candidate,
        candidate_version=event.candidate_version,
        candidate_ms=event.candidate_ms,
        ms=envelope.position.ms,
        seq=envelope.position.seq,
    )


def _changes(run: Run) -> list[_Change]:
    rows = {
        envelope.position: _Change(
            envelope.position.ms,
            envelope.position.seq,
            event.changed_at,
            event.actor,
            event.setting,
            _percent(event.old),
            _percent(event.new),
            event.reason,
        )
        for event, envelope in run.of(ConfigChanged)
        if event.setting in SETTINGS
    }
    return list(rows.values())


def _percent(value: object) -> int:
    return value if isinstance(value, int) else 0
