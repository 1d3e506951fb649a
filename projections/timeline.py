"""The timeline: one row an event, from the rules' assessment, the model's word and the review."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from domain.events import (
    AssessmentRefined,
    BatchFacts,
    EventHeld,
    EventReviewed,
    RiskAssessed,
    Signal,
    Stage,
)
from projections.database import Connection
from projections.event_labels import SET_LABELS, changed
from projections.read_model import Run, write_rows
from projections.redaction import DELETE_EVENTS, KEEP_EVENT_RULES, event_rules, redact
from streams.envelope import Envelope

# The rules' part. A final assessment replaces the one of the fast path, never the other way
# round; of the same stage the later one counts.
UPSERT_ASSESSED: Final = """
INSERT INTO events AS e (
    id, camera_id, batch_id, started_at, ended_at, stage, is_fast_path, close_reason,
    picture_ids, labels, rule_score, rule_level, floor, rule_summary, rule_reasoning, signals,
    facts, rules_version, alert_within_seconds, assessed_at)
SELECT
    id, camera_id, batch_id, started_at, ended_at, stage, is_fast_path, close_reason,
    picture_ids, labels, rule_score, rule_level, floor, rule_summary, rule_reasoning, signals,
    facts, rules_version, alert_within_seconds, assessed_at
FROM json_to_recordset(%(rows)s::json) AS r (
    id text, camera_id text, batch_id text, started_at timestamptz, ended_at timestamptz,
    stage text, is_fast_path boolean, close_reason text, picture_ids text[], labels text[],
    rule_score bigint, rule_level text, floor bigint, rule_summary text, rule_reasoning text,
    signals jsonb, facts jsonb, rules_version text, alert_within_seconds bigint,
    assessed_at timestamptz)
ON CONFLICT (id) DO UPDATE SET
    batch_id = EXCLUDED.batch_id, started_at = EXCLUDED.started_at,
    ended_at = EXCLUDED.ended_at, stage = EXCLUDED.stage,
    is_fast_path = EXCLUDED.is_fast_path, close_reason = EXCLUDED.close_reason,
    picture_ids = EXCLUDED.picture_ids, labels = EXCLUDED.labels,
    rule_score = EXCLUDED.rule_score, rule_level = EXCLUDED.rule_level, floor = EXCLUDED.floor,
    rule_summary = EXCLUDED.rule_summary, rule_reasoning = EXCLUDED.rule_reasoning,
    signals = EXCLUDED.signals, facts = EXCLUDED.facts, rules_version = EXCLUDED.rules_version,
    alert_within_seconds = EXCLUDED.alert_within_seconds,
    assessed_at = EXCLUDED.assessed_at
WHERE e.stage IS NULL
   OR (EXCLUDED.stage = 'final' AND e.stage <> 'final')
   OR (EXCLUDED.stage = e.stage AND EXCLUDED.assessed_at > e.assessed_at)
"""

# The model's part, kept with its stage by the same rule; whether it is in force is decided by the
# table's generated columns.
UPSERT_REFINED: Final = """
INSERT INTO events AS e (
    id, camera_id, model_stage, model_score, model_assessed_score, model_assessed_level, model,
    model_prompt_version, model_prompt_sha256, model_raw_text, model_tokens_in,
    model_tokens_out, model_seconds, model_tokens_cached, model_context_window, model_left_out,
    model_canary, model_candidate_failure, model_summary, model_reasoning, refined_at)
SELECT
    id, camera_id, model_stage, model_score, model_assessed_score, model_assessed_level, model,
    model_prompt_version, model_prompt_sha256, model_raw_text, model_tokens_in,
    model_tokens_out, model_seconds, model_tokens_cached, model_context_window, model_left_out,
    model_canary, model_candidate_failure, model_summary, model_reasoning, refined_at
FROM json_to_recordset(%(rows)s::json) AS r (
    id text, camera_id text, model_stage text, model_score bigint, model_assessed_score bigint,
    model_assessed_level text, model text, model_prompt_version text, model_prompt_sha256 text,
    model_raw_text text, model_tokens_in bigint, model_tokens_out bigint,
    model_seconds double precision, model_tokens_cached bigint, model_context_window bigint,
    model_left_out text[], model_canary boolean, model_candidate_failure text,
    model_summary text, model_reasoning text, refined_at timestamptz)
ON CONFLICT (id) DO UPDATE SET
    model_stage = EXCLUDED.model_stage, model_score = EXCLUDED.model_score,
    model_assessed_score = EXCLUDED.model_assessed_score,
    model_assessed_level = EXCLUDED.model_assessed_level, model = EXCLUDED.model,
    model_prompt_version = EXCLUDED.model_prompt_version,
    model_prompt_sha256 = EXCLUDED.model_prompt_sha256,
    model_raw_text = EXCLUDED.model_raw_text, model_tokens_in = EXCLUDED.model_tokens_in,
    model_tokens_out = EXCLUDED.model_tokens_out, model_seconds = EXCLUDED.model_seconds,
    model_tokens_cached = EXCLUDED.model_tokens_cached,
    model_context_window = EXCLUDED.model_context_window,
    model_left_out = EXCLUDED.model_left_out, model_canary = EXCLUDED.model_canary,
    model_candidate_failure = EXCLUDED.model_candidate_failure,
    model_summary = EXCLUDED.model_summary, model_reasoning = EXCLUDED.model_reasoning,
    refined_at = EXCLUDED.refined_at
WHERE e.model_stage IS NULL
   OR (EXCLUDED.model_stage = 'final' AND e.model_stage <> 'final')
   OR (EXCLUDED.model_stage = e.model_stage AND EXCLUDED.refined_at > e.refined_at)
"""

# What the model took for the event in all. A refinement counts once, whatever comes again or late.
UPSERT_TOKENS: Final = """
INSERT INTO events AS e (id, camera_id, tokens_by_refinement, tokens_in, tokens_out)
SELECT id, camera_id, tokens, tokens_in, tokens_out
FROM json_to_recordset(%(rows)s::json) AS r (
    id text, camera_id text, tokens jsonb, tokens_in bigint, tokens_out bigint)
ON CONFLICT (id) DO UPDATE SET
    tokens_by_refinement =
        COALESCE(e.tokens_by_refinement, '{}') || EXCLUDED.tokens_by_refinement,
    tokens_in = (SELECT sum((value ->> 0)::bigint) FROM jsonb_each(
        COALESCE(e.tokens_by_refinement, '{}') || EXCLUDED.tokens_by_refinement)),
    tokens_out = (SELECT sum((value ->> 1)::bigint) FROM jsonb_each(
        COALESCE(e.tokens_by_refinement, '{}') || EXCLUDED.tokens_by_refinement))
"""

# The person's part. A review may be about an event whose assessment is not applied yet.
ENSURE_EVENTS: Final = """
INSERT INTO events (id, camera_id)
SELECT id, camera_id FROM json_to_recordset(%(rows)s::json) AS r (id text, camera_id text)
ON CONFLICT DO NOTHING
"""

# NULL leaves a field as it is. `review` is the position of the last review applied, so that an
# older one that comes again changes nothing.
UPDATE_REVIEWED: Final = """
UPDATE events AS e SET
    reviewed = COALESCE(r.reviewed, e.reviewed), notes = COALESCE(r.notes, e.notes),
    reviewed_by = r.reviewed_by, reviewed_at = r.reviewed_at, review = r.review
FROM json_to_recordset(%(rows)s::json) AS r (
    id text, reviewed boolean, notes text, reviewed_by text, reviewed_at timestamptz,
    review bigint[])
WHERE e.id = r.id AND (e.review IS NULL OR r.review > e.review)
"""

# The hold, by the same rule; it comes from another event than the review.
UPDATE_HELD: Final = """
UPDATE events AS e SET held = r.held, held_by = r.held_by, held_at = r.held_at, hold = r.hold
FROM json_to_recordset(%(rows)s::json) AS r (
    id text, held boolean, held_by text, held_at timestamptz, hold bigint[])
WHERE e.id = r.id AND (e.hold IS NULL OR r.hold > e.hold)
"""


class _Assessed(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    camera_id: str
    batch_id: str
    started_at: datetime
    ended_at: datetime
    stage: Stage
    is_fast_path: bool
    close_reason: str | None
    picture_ids: tuple[str, ...]
    labels: tuple[str, ...]
    rule_score: int
    rule_level: str
    floor: int
    rule_summary: str
    rule_reasoning: str
    signals: tuple[Signal, ...]
    facts: BatchFacts
    rules_version: str
    alert_within_seconds: int | None
    assessed_at: datetime


class _Refined(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    camera_id: str
    model_stage: Stage
    model_score: int
    model_assessed_score: int
    model_assessed_level: str
    model: str
    model_prompt_version: str
    model_prompt_sha256: str
    model_raw_text: str
    model_tokens_in: int
    model_tokens_out: int
    model_seconds: float
    model_tokens_cached: int | None
    model_context_window: int | None
    model_left_out: tuple[str, ...]
    model_canary: bool
    model_candidate_failure: str | None
    model_summary: str
    model_reasoning: str
    refined_at: datetime


class _Tokens(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    camera_id: str
    tokens: dict[str, tuple[int, int]]
    """Id of the refinement → tokens in and out."""

    tokens_in: int
    tokens_out: int


class _Reviewed(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    camera_id: str
    reviewed: bool | None
    notes: str | None
    reviewed_by: str
    reviewed_at: datetime
    review: tuple[int, int]


class _Held(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    camera_id: str
    held: bool
    held_by: str
    held_at: datetime
    hold: tuple[int, int]


class Timeline:
    """Read model of the events; what is in force is derived by the table itself."""

    name = "timeline"
    version = 1
    streams = ("assessments",)
    tables = ("events", "event_labels", "event_redactions")

    async def apply(self, connection: Connection, envelopes: Sequence[Envelope]) -> None:
        """Write the rules', the model's and the person's columns, each on its own."""
        run = Run(envelopes)
        await write_rows(connection, UPSERT_ASSESSED, _assessed(run))
        await write_rows(connection, UPSERT_REFINED, _refined(run))
        await write_rows(connection, UPSERT_TOKENS, _tokens(run))
        reviews = _reviewed(run)
        held = _held(run)
        await write_rows(connection, ENSURE_EVENTS, [*reviews, *held])
        await write_rows(connection, UPDATE_REVIEWED, reviews)
        await write_rows(connection, UPDATE_HELD, held)
        await write_rows(connection, SET_LABELS, changed(run))
        await write_rows(connection, KEEP_EVENT_RULES, event_rules(run))
        await redact(connection, envelopes, DELETE_EVENTS)


def _replaces(stage: Stage, at: datetime, old_stage: Stage, old_at: datetime) -> bool:
    """Tell whether a word about `stage` replaces an older one; the statements say the same."""
    if stage == old_stage:
        return at > old_at
    return stage == "final"


def _assessed(run: Run) -> list[_Assessed]:
    rows: dict[str, _Assessed] = {}
    for event, envelope in run.of(RiskAssessed):
        at = envelope.recorded_at
        old = rows.get(event.event_id)
        if old is None or _replaces(event.stage, at, old.stage, old.assessed_at):
            rows[event.event_id] = _assessed_row(event, at)
    return list(rows.values())


def _assessed_row(event: RiskAssessed, at: datetime) -> _Assessed:
    return _Assessed(
        id=event.event_id,
        camera_id=event.camera_id,
        batch_id=event.batch_id,
        started_at=event.started_at,
        ended_at=event.ended_at,
        stage=event.stage,
        is_fast_path=event.is_fast_path,
        close_reason=event.close_reason,
        picture_ids=event.picture_ids,
        labels=tuple(fact.label for fact in event.facts.objects),
        rule_score=event.score,
        rule_level=event.level,
        floor=event.floor,
        rule_summary=event.summary,
        rule_reasoning=event.reasoning,
        signals=event.signals,
        facts=event.facts,
        rules_version=event.rules_version,
        alert_within_seconds=event.alert_within_seconds,
        assessed_at=at,
    )


def _refined(run: Run) -> list[_Refined]:
    rows: dict[str, _Refined] = {}
    for event, envelope in run.of(AssessmentRefined):
        at = envelope.recorded_at
        old = rows.get(event.event_id)
        if old is None or _replaces(event.stage, at, old.model_stage, old.refined_at):
            rows[event.event_id] = _refined_row(event, at)
    return list(rows.values())


def _refined_row(event: AssessmentRefined, at: datetime) -> _Refined:
    return _Refined(
        id=event.event_id,
        camera_id=event.camera_id,
        model_stage=event.stage,
        model_score=event.model_score,
        model_assessed_score=event.score,
        model_assessed_level=event.level,
        model=event.model,
        model_prompt_version=event.prompt_version,
        model_prompt_sha256=event.prompt_sha256,
        model_raw_text=event.raw_text,
        model_tokens_in=event.tokens_in,
        model_tokens_out=event.tokens_out,
        model_seconds=event.seconds,
        model_tokens_cached=event.tokens_cached,
        model_context_window=event.context_window,
        model_left_out=event.left_out,
        model_canary=event.canary,
        model_candidate_failure=event.candidate_failure,
        model_summary=event.summary,
        model_reasoning=event.reasoning,
        refined_at=at,
    )


def _tokens(run: Run) -> list[_Tokens]:
    taken: dict[tuple[str, str], dict[str, tuple[int, int]]] = defaultdict(dict)
    for event, envelope in run.of(AssessmentRefined):
        spent = (event.tokens_in, event.tokens_out)
        taken[event.event_id, event.camera_id][envelope.id] = spent
    return [
        _Tokens(
            id=event_id,
            camera_id=camera_id,
            tokens=tokens,
            tokens_in=sum(given for given, _ in tokens.values()),
            tokens_out=sum(answered for _, answered in tokens.values()),
        )
        for (event_id, camera_id), tokens in taken.items()
    ]


def _reviewed(run: Run) -> list[_Reviewed]:
    """Fold the reviews of one event into one: what a later one leaves open stays."""
    rows: dict[str, _Reviewed] = {}
    for event, envelope in run.of(EventReviewed):
        old = rows.get(event.event_id)
        reviewed, notes = event.reviewed, event.notes
        if old is not None:
            reviewed = old.reviewed if reviewed is None else reviewed
            notes = old.notes if notes is None else notes
        rows[event.event_id] = _Reviewed(
            id=event.event_id,
            camera_id=event.camera_id,
            reviewed=reviewed,
            notes=notes,
            reviewed_by=event.actor,
            reviewed_at=envelope.recorded_at,
            review=envelope.position,
        )
    return list(rows.values())


def _held(run: Run) -> list[_Held]:
    """Return the last word about each event's hold."""
    last = {
        event.event_id: _Held(
            id=event.event_id,
            camera_id=event.camera_id,
            held=event.held,
            held_by=event.actor,
            held_at=envelope.recorded_at,
            hold=envelope.position,
        )
        for event, envelope in run.of(EventHeld)
    }
    return list(last.values())
