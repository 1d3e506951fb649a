"""PromptTrials: what a candidate prompt made of each event that the model in service refined."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from domain.events import PromptCompared, RetentionFinished
from projections.database import Connection
from projections.read_model import Run, write_rows
from streams.envelope import Envelope

UPSERT: Final = """
INSERT INTO prompt_comparisons AS t (
    event_id, stage, camera_id, ended_at, canary, error, agrees, drift, model, prompt_version,
    seconds, candidate_model, candidate_prompt, candidate_seconds, ms, seq)
SELECT
    event_id, stage, camera_id, ended_at, canary, error, agrees, drift, model, prompt_version,
    seconds, candidate_model, candidate_prompt, candidate_seconds, ms, seq
FROM json_to_recordset(%(rows)s::json) AS r (
    event_id text, stage text, camera_id text, ended_at timestamptz, canary boolean, error text,
    agrees boolean, drift bigint, model text, prompt_version text, seconds double precision,
    candidate_model text, candidate_prompt text, candidate_seconds double precision, ms bigint,
    seq bigint)
ON CONFLICT (event_id, stage) DO UPDATE SET
    ended_at = EXCLUDED.ended_at, canary = EXCLUDED.canary, error = EXCLUDED.error,
    agrees = EXCLUDED.agrees,
    drift = EXCLUDED.drift, model = EXCLUDED.model, prompt_version = EXCLUDED.prompt_version,
    seconds = EXCLUDED.seconds, candidate_model = EXCLUDED.candidate_model,
    candidate_prompt = EXCLUDED.candidate_prompt, candidate_seconds = EXCLUDED.candidate_seconds,
    ms = EXCLUDED.ms, seq = EXCLUDED.seq
WHERE (EXCLUDED.ms, EXCLUDED.seq) > (t.ms, t.seq)
"""

INSERT_CUTOFFS: Final = """
INSERT INTO prompt_cutoffs (as_of, cutoff)
SELECT as_of, cutoff
FROM json_to_recordset(%(rows)s::json) AS r (as_of timestamptz, cutoff timestamptz)
ON CONFLICT DO NOTHING
"""

# Nothing from before the newest cut-off is ever shown again, whatever is replayed.
DELETE: Final = """
DELETE FROM prompt_comparisons WHERE ended_at < (SELECT max(cutoff) FROM prompt_cutoffs)
"""


class _Comparison(msgspec.Struct, frozen=True, kw_only=True):
    event_id: str
    stage: str
    camera_id: str
    ended_at: datetime
    canary: bool
    error: str | None
    agrees: bool | None
    drift: int | None
    model: str
    prompt_version: str
    seconds: float
    candidate_model: str | None
    candidate_prompt: str
    candidate_seconds: float | None
    ms: int
    seq: int


class _Cutoff(msgspec.Struct, frozen=True):
    as_of: datetime
    cutoff: datetime


class PromptTrials:
    """Read model of what a candidate prompt made of the events."""

    name = "prompt_trials"
    version = 1
    pace_seconds = 1.0
    """Nobody waits for a comparison: what comes within a second is one transaction."""
    streams = ("trials", "system")
    tables = ("prompt_comparisons", "prompt_cutoffs")

    async def apply(self, connection: Connection, envelopes: Sequence[Envelope]) -> None:
        """Keep the last comparison of each assessment; forget what is too old."""
        run = Run(envelopes)
        rows = {(e.event_id, e.stage): _comparison(e, at) for e, at in run.of(PromptCompared)}
        await write_rows(connection, UPSERT, list(rows.values()))
        told = {e.as_of: _Cutoff(e.as_of, e.cutoff) for e, _ in run.of(RetentionFinished)}
        await write_rows(connection, INSERT_CUTOFFS, list(told.values()))
        if rows or told:
            await connection.execute(DELETE)


def _comparison(event: PromptCompared, envelope: Envelope) -> _Comparison:
    return _Comparison(
        event_id=event.event_id,
        stage=event.stage,
        camera_id=event.camera_id,
        ended_at=event.ended_at,
        canary=event.canary,
        error=event.error,
        agrees=event.agrees,
        drift=event.drift,
        model=event.model,
        prompt_version=event.prompt_version,
        seconds=event.seconds,
        candidate_model=event.candidate_model,
        candidate_prompt=event.candidate_prompt,
        candidate_seconds=event.candidate_seconds,
        ms=envelope.position.ms,
        seq=envelope.position.seq,
    )
