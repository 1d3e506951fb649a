"""Events as queries answer them: the columns, what a filter asks for, and the row made of them."""

from typing import Any, Final

import msgspec
from psycopg.sql import SQL

from domain.events import BatchFacts, Signal
from projections.rows import EventRow

EVENT_COLUMNS: Final = SQL(
    """id, batch_id, camera_id, started_at, ended_at, stage, is_fast_path, close_reason,
    picture_ids, labels, risk_score, risk_level, summary, reasoning, rule_score, rule_level,
    floor, rule_summary, rule_reasoning, signals::text AS signals, facts::text AS facts,
    rules_version, alert_within_seconds, assessed_at, model_stage, model_score,
    model_assessed_score, model_assessed_level, model, model_prompt_version,
    model_prompt_sha256, model_raw_text,
    model_tokens_in, model_tokens_out, model_seconds, model_tokens_cached,
    model_context_window, model_left_out, model_canary, model_candidate_failure,
    model_summary, model_reasoning, refined_at, reviewed, notes, reviewed_by, reviewed_at, held,
    tokens_in, tokens_out"""
)

EVENT_CONDITIONS: Final = {
    "camera_id": SQL("camera_id = %(camera_id)s"),
    "risk_level": SQL("risk_level = %(risk_level)s"),
    "min_score": SQL("risk_score >= %(min_score)s"),
    "start": SQL("started_at >= %(start)s"),
    "end": SQL("started_at < %(end)s"),
    "reviewed": SQL("reviewed = %(reviewed)s"),
    "object_type": SQL(
        "EXISTS (SELECT FROM event_labels l WHERE l.id = events.id AND l.label = %(object_type)s)"
    ),
    "is_fast_path": SQL("is_fast_path = %(is_fast_path)s"),
    "after_id": SQL("(started_at, id) < (%(after_at)s, %(after_id)s)"),
}

_signals = msgspec.json.Decoder(list[Signal])
_facts = msgspec.json.Decoder(BatchFacts)


def event_row(signals: str, facts: str, **columns: Any) -> EventRow:  # noqa: ANN401 - as stored
    """Make a row of the columns."""
    return EventRow(signals=_signals.decode(signals), facts=_facts.decode(facts), **columns)
