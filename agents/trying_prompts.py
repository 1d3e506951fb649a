"""Puts a prompt's trial together: the prompt in service and the candidate, as the settings say."""

import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from agents.asking import open_risk_model
from agents.assess import CameraDirectory
from agents.canary import PromptCanary
from agents.trial_prompt import PromptPair, PromptTrial, TrialLog
from domain.outcomes import Done, Outcome
from domain.prompt import Prompt
from domain.risk import Bands
from inference.prompts import load_prompt
from runtime.settings import Settings
from streams.envelope import Envelope
from streams.live_settings import LiveSettings


def candidate_prompt(named: str | None) -> Prompt:
    """Return a version by its name, or a folder's current one; unset: the prompt in service.

    Raises PromptError for one that is not there or was changed.
    """
    if named and os.sep in named:
        return load_prompt(None, Path(named).expanduser())
    return load_prompt(named or None)


def open_prompt_canary(live: LiveSettings, contexts: AsyncExitStack) -> PromptCanary | None:
    """Return who answers for a share of the events, None without a candidate."""
    s = live.current
    url = s.candidate_nemotron_url or s.nemotron_url
    if url is None or "trial_prompt" not in s.trial_groups:
        return None
    candidate = open_risk_model(s, url, candidate_prompt(s.candidate_prompt))
    contexts.push_async_callback(candidate.close)
    canary = PromptCanary(candidate, limit_seconds=s.candidate_prompt_timeout_seconds)

    def take_over(settings: Settings) -> None:
        canary.percent = settings.candidate_prompt_percent

    live.on_change(take_over)
    return canary


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
    if s.nemotron_url is None:
        return _nobody
    url = s.candidate_nemotron_url or s.nemotron_url
    pair = PromptPair(
        service=open_risk_model(s, s.nemotron_url),
        candidate=open_risk_model(s, url, prompt),
        candidate_prompt=prompt.version,
        shares_model=url == s.nemotron_url,
    )
    for model in (pair.service, pair.candidate):
        contexts.push_async_callback(model.close)
    limit = s.candidate_prompt_timeout_seconds
    return PromptTrial(pair, cameras, bands, log, limit_seconds=limit)


async def _nobody(_: Envelope) -> Outcome:
    """Pass everything by: without a language model nothing is refined, so nothing compared."""
    return Done(passed_by=True)
