"""Routes of trials: how a candidate detector or prompt does beside what is in service."""

from datetime import datetime

import msgspec
from aiohttp import web

from api.routing import Routes
from api.services import SERVICES, answer
from projections.trial_queries import TrialCameraRow, TrialChangeRow, TrialPromptRow
from runtime.settings import Settings

routes = Routes("trials")


class TrialsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/trials."""

    start_date: datetime | None = None
    """Pictures captured and events ended since then; all that are kept."""


class TrialLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate must keep over a window of comparisons to stay in the main line."""

    window: int
    min_agreement: float
    max_error_rate: float
    max_latency_ms: float


class TrialsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/trials."""

    configured: bool
    """Whether CANDIDATE_RTDETR_URL is set for this process."""
    percent: int
    """Percent of the pictures that the candidate answers for in the main line."""
    limits: TrialLimits
    cameras: list[TrialCameraRow]
    prompt_configured: bool
    """Whether CANDIDATE_PROMPT or CANDIDATE_NEMOTRON_URL is set for this process."""
    prompt_percent: int
    """Percent of the events that the candidate prompt answers for in the main line."""
    prompt_limits: TrialLimits
    prompts: list[TrialPromptRow]
    changes: list[TrialChangeRow]
    """Last changes of the percentages, the newest first; `trial guard` withdrew a candidate."""


@routes.get("/api/trials", TrialsAnswer)
async def trials(request: web.Request, query: TrialsQuery) -> web.Response:
    """Answer agreement, score drift and latency of the candidates for each camera."""
    services = request.app[SERVICES]
    now = services.live.current
    return answer(
        TrialsAnswer(
            configured=now.candidate_rtdetr_url is not None,
            percent=now.candidate_percent,
            limits=_limits(now, now.candidate_max_latency_ms),
            cameras=await services.queries.trial_cameras(start=query.start_date),
            prompt_configured="trial_prompt" in now.trial_groups,
            prompt_percent=now.candidate_prompt_percent,
            prompt_limits=_limits(now, now.candidate_prompt_max_seconds * 1000),
            prompts=await services.queries.trial_prompts(start=query.start_date),
            changes=await services.queries.trial_changes(),
        )
    )


def _limits(now: Settings, max_latency_ms: float) -> TrialLimits:
    return TrialLimits(
        window=now.candidate_window,
        min_agreement=now.candidate_min_agreement,
        max_error_rate=now.candidate_max_error_rate,
        max_latency_ms=max_latency_ms,
    )
