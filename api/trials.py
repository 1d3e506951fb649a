"""Routes of trials: how a candidate detector or prompt does beside what is in service."""

from datetime import datetime

import msgspec
from aiohttp import web

from api.routing import Routes
from api.services import SERVICES, answer
from projections.trial_queries import TrialCameraRow, TrialChangeRow, TrialPromptRow

routes = Routes("trials")


class TrialsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/trials."""

    start_date: datetime | None = None
    """Pictures captured and events ended since then; all that are kept."""


class TrialLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate must keep over a window of pictures to stay in the main line."""

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
    prompts: list[TrialPromptRow]
    """How the candidate prompt does; it never answers in the main line."""
    changes: list[TrialChangeRow]
    """Last changes of the percentage, the newest first; `trial guard` withdrew the candidate."""


@routes.get("/api/trials", TrialsAnswer)
async def trials(request: web.Request, query: TrialsQuery) -> web.Response:
    """Answer agreement, score drift and latency of the candidates for each camera."""
    services = request.app[SERVICES]
    now = services.live.current
    return answer(
        TrialsAnswer(
            configured=now.candidate_rtdetr_url is not None,
            percent=now.candidate_percent,
            limits=TrialLimits(
                window=now.candidate_window,
                min_agreement=now.candidate_min_agreement,
                max_error_rate=now.candidate_max_error_rate,
                max_latency_ms=now.candidate_max_latency_ms,
            ),
            cameras=await services.queries.trial_cameras(start=query.start_date),
            prompt_configured="trial_prompt" in now.trial_groups,
            prompts=await services.queries.trial_prompts(start=query.start_date),
            changes=await services.queries.trial_changes(),
        )
    )
