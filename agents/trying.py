"""Puts a trial together: what is in service and the candidate, as the settings name them."""

from contextlib import AsyncExitStack
from dataclasses import replace

from agents.canary import Canary
from agents.detect import PictureSource
from agents.trial import Pair, Trial, Turn
from agents.trial_guard import DETECTOR, PROMPT, TrialGuard
from domain.trials import Limits
from inference.detectors import DetectorOptions, open_detector
from runtime.settings import Settings
from streams.live_settings import LiveSettings
from streams.log import EventLog


def detector_options(settings: Settings) -> DetectorOptions:
    """Return what the adapter of the detector in service needs to know."""
    return DetectorOptions(
        models_dir=settings.models_dir,
        allow_fallback=not settings.production,
        connect_timeout=settings.ai_connect_timeout,
        read_timeout=settings.rtdetr_read_timeout,
        health_timeout=settings.ai_health_timeout,
        ca_path=settings.ai_ca_path,
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
    settings: Settings, url: str, pictures: PictureSource, contexts: AsyncExitStack, turn: Turn
) -> Trial:
    """Return the handler that compares the candidate at `url` with the detector in service."""
    options = detector_options(settings)
    pair = Pair(open_detector(settings.rtdetr_url, options), open_detector(url, options))
    for detector in (pair.service, pair.candidate):
        contexts.push_async_callback(detector.close)
    return Trial(pair, pictures, limit_seconds=settings.candidate_timeout_seconds, turn=turn)


def open_guards(log: EventLog, live: LiveSettings) -> dict[str, TrialGuard]:
    """Return who judges each candidate there is, by the consumer group that compares."""
    watched = {
        "trial_detector": (limits_of, DETECTOR),
        "trial_prompt": (prompt_limits_of, PROMPT),
    }
    return {
        group: TrialGuard(log, live, limits(live.current), candidate)
        for group, (limits, candidate) in watched.items()
        if group in live.current.trial_groups
    }


def limits_of(settings: Settings) -> Limits:
    """Return what the candidate must keep to stay in use."""
    return Limits(
        window=settings.candidate_window,
        min_agreement=settings.candidate_min_agreement,
        max_error_rate=settings.candidate_max_error_rate,
        max_latency_ms=settings.candidate_max_latency_ms,
    )


def prompt_limits_of(settings: Settings) -> Limits:
    """Return what the candidate prompt must keep; an answer of a language model takes seconds."""
    max_ms = settings.candidate_prompt_max_seconds * 1000
    return replace(limits_of(settings), max_latency_ms=max_ms, what="events")
