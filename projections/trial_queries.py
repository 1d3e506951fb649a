"""Queries of trials: how candidates do on each camera, and who set their shares."""

from datetime import datetime
from typing import Final

from psycopg.sql import SQL

from projections.reading import Reader
from projections.rows import Row

CAMERAS: Final = SQL(
    """SELECT camera_id, candidate, candidate_version, reference, reference_version,
    count(*) AS pictures, count(error) AS failed, count(*) FILTER (WHERE canary) AS canaries,
    sum(matched)::bigint AS matched, sum(missing)::bigint AS missing,
    sum(surplus)::bigint AS surplus, avg(agreement) AS agreement, avg(drift) AS drift,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY reference_ms) AS reference_p50_ms,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY reference_ms) AS reference_p95_ms,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY candidate_ms) AS candidate_p50_ms,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY candidate_ms) AS candidate_p95_ms,
    max(error) AS error, max(captured_at) AS last_captured_at
    FROM trial_comparisons
    WHERE captured_at >= COALESCE(%(start)s, '-infinity'::timestamptz)
    GROUP BY camera_id, candidate, candidate_version, reference, reference_version
    ORDER BY camera_id, max(captured_at) DESC, candidate, candidate_version, reference,
        reference_version"""
)

CHANGES: Final = SQL(
    """SELECT changed_at, actor, setting, old_percent, new_percent, reason FROM trial_changes
    ORDER BY ms DESC, seq DESC LIMIT 20"""
)


PROMPTS: Final = SQL(
    """SELECT camera_id, candidate_prompt, candidate_model, prompt_version, model,
    count(*) AS events, count(error) AS failed, count(*) FILTER (WHERE canary) AS canaries,
    avg(CASE WHEN agrees THEN 1.0 ELSE 0.0 END) FILTER (WHERE agrees IS NOT NULL)::double precision
        AS agreement,
    avg(drift)::double precision AS drift,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS p50_seconds,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS p95_seconds,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY candidate_seconds) AS candidate_p50_seconds,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY candidate_seconds) AS candidate_p95_seconds,
    max(error) AS error, max(ended_at) AS last_ended_at
    FROM prompt_comparisons
    WHERE ended_at >= COALESCE(%(start)s, '-infinity'::timestamptz)
    GROUP BY camera_id, candidate_prompt, candidate_model, prompt_version, model
    ORDER BY camera_id, max(ended_at) DESC, candidate_prompt, candidate_model, prompt_version,
        model"""
)


class TrialCameraRow(Row, frozen=True, kw_only=True):
    """How one candidate did beside one detector in service, on one camera.

    A candidate that failed did not say who it is: its pictures are a row without models.
    """

    camera_id: str
    candidate: str | None
    candidate_version: str | None
    reference: str | None
    reference_version: str | None
    pictures: int
    failed: int
    canaries: int
    """Pictures that the candidate answered in the main line."""
    matched: int
    missing: int
    """Objects that only the detector in service saw."""
    surplus: int
    """Objects that only the candidate saw."""
    agreement: float | None
    """Mean over the pictures of the part of all objects that both saw."""
    drift: float | None
    """Mean of the candidate's score less the other's, for the same object."""
    reference_p50_ms: float | None
    reference_p95_ms: float | None
    candidate_p50_ms: float | None
    candidate_p95_ms: float | None
    error: str | None
    """One of the reasons why the candidate did not answer."""
    last_captured_at: datetime


class TrialChangeRow(Row, frozen=True, kw_only=True):
    """Somebody, or the guard, set a percentage of canaries."""

    changed_at: datetime
    actor: str
    setting: str
    """CANDIDATE_PERCENT is the detector's, CANDIDATE_PROMPT_PERCENT the prompt's."""
    old_percent: int
    new_percent: int
    reason: str


class TrialPromptRow(Row, frozen=True, kw_only=True):
    """How one candidate prompt did beside the prompt in service, on one camera.

    A candidate that failed did not say which model answers: its events are a row without one.
    """

    camera_id: str
    candidate_prompt: str
    candidate_model: str | None
    prompt_version: str
    model: str
    events: int
    """Refined assessments that were compared."""
    failed: int
    canaries: int
    """Those that the candidate answered in the main line."""
    agreement: float | None
    """Part of the answered ones in which both came to one level."""
    drift: float | None
    """Mean of the candidate's score less the one in service, of 100."""
    p50_seconds: float | None
    p95_seconds: float | None
    candidate_p50_seconds: float | None
    candidate_p95_seconds: float | None
    error: str | None
    """One of the reasons why the candidate did not answer."""
    last_ended_at: datetime


class TrialQueries(Reader):
    """Reads of trials."""

    async def trial_cameras(self, *, start: datetime | None = None) -> list[TrialCameraRow]:
        """Return one row a camera and pair of models, of pictures captured since `start`."""
        return await self._all(TrialCameraRow, CAMERAS, {"start": start})

    async def trial_prompts(self, *, start: datetime | None = None) -> list[TrialPromptRow]:
        """Return one row a camera and pair of prompts and models, of events since `start`."""
        return await self._all(TrialPromptRow, PROMPTS, {"start": start})

    async def trial_changes(self) -> list[TrialChangeRow]:
        """Return the last changes of the percentages, the newest first."""
        return await self._all(TrialChangeRow, CHANGES)
