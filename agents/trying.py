"""Puts a trial together: what is in service and the candidate, as the settings name them."""

import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from agents.assess import CameraDirectory
from agents.canary import Canary
from agents.detect import PictureSource
from agents.trial import Pair, Trial
from agents.trial_prompt import PromptTrial, TrialLog
from domain.outcomes import Done, Outcome
from domain.prompt import Prompt
from domain.risk import Bands
from domain.trials import Limits
from inference.detectors import DetectorOptions, open_detector
from inference.llm import LlamaRiskModel, Timeouts
from inference.prompts import load_prompt
from runtime.settings import Settings
from streams.envelope import Envelope


def detector_options(settings: Settings) -> DetectorOptions:
    """Return what the adapter of the detector in service needs to know."""
    return DetectorOptions(
        models_dir=settings.models_dir,
        allow_fallback=not settings.production,
        connect_timeout=settings.ai_connect_timeout,
        read_timeout=settings.rtdetr_read_timeout,
        health_timeout=settings.ai_health_timeout,
        ca_path=settings.rtdetr_ca_path,
        repair=settings.rtdetr_repair,
    )


def open_canary(settings: Settings, contexts: AsyncExitStack) -> Canary | None:
    """Return who answers for a share of the pictures, None without a candidate."""
    url = settings.candidate_rtdetr_url
    if url is None:
        return None
    candidate = open_detector(url, detector_options(settings))
    contexts.push_async_callback(candidate.close)
    return Canary(
        candidate,
        limit_seconds=settings.candidate_timeout_seconds,
        percent=settings.candidate_percent,
    )


def open_trial(
    settings: Settings, url: str, pictures: PictureSource, contexts: AsyncExitStack
) -> Trial:
    """Return the handler that compares the candidate at `url` with the detector in service."""
    options = detector_options(settings)
    pair = Pair(open_detector(settings.rtdetr_url, options), open_detector(url, options))
    for detector in (pair.service, pair.candidate):
        contexts.push_async_callback(detector.close)
    return Trial(pair, pictures, limit_seconds=settings.candidate_timeout_seconds)


def limits_of(settings: Settings) -> Limits:
    """Return what the candidate must keep to stay in use."""
    return Limits(
        window=settings.candidate_window,
        min_agreement=settings.candidate_min_agreement,
        max_error_rate=settings.candidate_max_error_rate,
        max_latency_ms=settings.candidate_max_latency_ms,
    )


def candidate_prompt(named: str | None) -> Prompt:
    """Return a version by its name, or a folder's current one; unset: the prompt in service.

    Raises PromptError for one that is not there or was changed.
    """
    if named and os.sep in named:
        return load_prompt(None, Path(named).expanduser())
    return load_prompt(named)


def open_prompt_trial(
    settings: Settings,
    log: TrialLog,
    cameras: CameraDirectory,
    bands: Bands,
    contexts: AsyncExitStack,
) -> Callable[[Envelope], Awaitable[Outcome]]:
    """Return the handler that compares the candidate prompt with the one in service."""
    s = settings
    prompt = candidate_prompt(s.candidate_prompt)
    url = s.candidate_nemotron_url or s.nemotron_url
    if url is None:
        return _nobody
    key = s.nemotron_api_key.get_secret_value() if s.nemotron_api_key else None
    timeouts = Timeouts(s.ai_connect_timeout, s.nemotron_read_timeout, s.ai_health_timeout)
    model = LlamaRiskModel(url, api=s.nemotron_api, api_key=key, timeouts=timeouts, prompt=prompt)
    contexts.push_async_callback(model.close)
    shares_model = url == s.nemotron_url
    return PromptTrial(model, prompt.version, cameras, bands, log, shares_model=shares_model)


async def _nobody(_: Envelope) -> Outcome:
    """Pass everything by: without a language model nothing is refined, so nothing compared."""
    return Done(passed_by=True)
