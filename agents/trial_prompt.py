"""AssessmentRefined → PromptCompared: a candidate prompt beside the one in service.

Asks a candidate about the facts behind each refined assessment, in a group of its own. Where both
share a language model, the candidate waits until the main line has nothing left to ask. Where the
candidate answered a canary, the prompt in service is asked instead: then both are known again.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import msgspec

from agents.assess import CameraDirectory
from agents.refine import AssessmentLog, question_of
from domain.errors import HsiError, PermanentError
from domain.events import AssessmentRefined, PromptCompared, RiskAssessed
from domain.outcomes import Done, Outcome
from domain.risk import Bands, refine
from inference.ports import RiskModel
from streams.envelope import Envelope, Position
from streams.log import GroupBacklog

MAIN_LANES = ("refine_first", "refine")
LOOK_BACK = timedelta(hours=6)
"""How far before an answer the assessment that it refines is looked for."""
READ_RUN = 500
IDLE_WITHIN_SECONDS = 30.0
"""How long a comparison waits for the main line; then that event is not compared."""
LOOK_AGAIN_SECONDS = 0.5


class TrialLog(AssessmentLog, Protocol):
    """The part of the event log that a prompt's trial needs."""

    async def backlog(self) -> list[GroupBacklog]:
        """Return what each consumer group still has to do."""
        ...


@dataclass(frozen=True, slots=True)
class PromptPair:
    """The two prompts of a trial, each with the language model that it is put to."""

    service: RiskModel
    """The one in service."""
    candidate: RiskModel
    candidate_prompt: str
    """Version of the candidate prompt."""
    shares_model: bool
    """Whether both are put to one language model."""


class PromptTrial:
    """Handler of the `assessments` stream for a candidate prompt."""

    def __init__(
        self,
        pair: PromptPair,
        cameras: CameraDirectory,
        bands: Bands,
        log: TrialLog,
        *,
        limit_seconds: float,
    ) -> None:
        self._pair = pair
        self._cameras = cameras
        self._bands = bands
        self._log = log
        self._limit = limit_seconds

    async def __call__(self, envelope: Envelope) -> Outcome:
        """Compare one refined assessment; a failing candidate is a result, not a pause.

        Raises when the prompt in service is not answered about a canary: that waits.
        """
        refined = envelope.event
        if not isinstance(refined, AssessmentRefined):
            return Done(passed_by=True)
        if refined.candidate_failure is not None:
            return Done((self._failed(refined, refined.candidate_failure),), passed_by=True)
        assessed = await self._assessed(envelope)
        if assessed is None:
            return Done(passed_by=True)
        if refined.canary:
            return await self._answered_again(refined, assessed)
        if self._pair.shares_model and not await self._main_line_rests():
            return Done(passed_by=True)
        return Done((await self._compared(refined, assessed),), passed_by=True)

    async def _answered_again(self, canary: AssessmentRefined, assessed: RiskAssessed) -> Outcome:
        """Ask the prompt in service about a canary, at once: by these the guard judges."""
        try:
            opinion = await self._pair.service.assess(question_of(assessed, self._cameras))
        except PermanentError:
            return Done(passed_by=True)  # It refuses the question: nothing to compare with.
        service = refine(assessed, opinion, self._bands)
        compared = msgspec.structs.replace(
            _compared(service, canary),
            canary=True,
            prompt_sha256=service.prompt_sha256,
            model_score=service.model_score,
            summary=service.summary,
        )
        return Done((compared,))

    async def _compared(
        self, refined: AssessmentRefined, assessed: RiskAssessed
    ) -> PromptCompared:
        try:
            async with asyncio.timeout(self._limit):
                opinion = await self._pair.candidate.assess(question_of(assessed, self._cameras))
        except TimeoutError:
            return self._failed(refined, f"no answer within {self._limit:g} s")
        except HsiError as error:
            return self._failed(refined, str(error)[:500])
        return _compared(refined, refine(assessed, opinion, self._bands))

    def _failed(self, refined: AssessmentRefined, why: str) -> PromptCompared:
        return _beside(refined, self._pair.candidate_prompt, error=why)

    async def _assessed(self, envelope: Envelope) -> RiskAssessed | None:
        """Return what was refined; None when it lies too far back or was trimmed."""
        since = envelope.position.ms - LOOK_BACK // timedelta(milliseconds=1)
        after = Position(max(since, 0), 0)
        while after < envelope.position:
            run = await self._log.read(envelope.stream, envelope.partition, after, READ_RUN)
            for other in run:
                if other.id == envelope.causation_id and isinstance(other.event, RiskAssessed):
                    return other.event
            if len(run) < READ_RUN:
                return None
            after = run[-1].position
        return None

    async def _main_line_rests(self) -> bool:
        """Wait a bounded time until no assessment waits for the model."""
        until = time.monotonic() + IDLE_WITHIN_SECONDS
        while any(group.left for group in await self._log.backlog() if group.group in MAIN_LANES):
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        return True


def _beside(
    service: AssessmentRefined, candidate_prompt: str, error: str | None = None
) -> PromptCompared:
    return PromptCompared(
        camera_id=service.camera_id,
        event_id=service.event_id,
        stage=service.stage,
        ended_at=service.ended_at,
        rule_score=service.rule_score,
        score=service.score,
        level=service.level,
        model=service.model,
        prompt_version=service.prompt_version,
        seconds=service.seconds,
        candidate_prompt=candidate_prompt,
        error=error,
    )


def _compared(service: AssessmentRefined, candidate: AssessmentRefined) -> PromptCompared:
    return msgspec.structs.replace(
        _beside(service, candidate.prompt_version),
        candidate_model=candidate.model,
        candidate_prompt_sha256=candidate.prompt_sha256,
        candidate_model_score=candidate.model_score,
        candidate_score=candidate.score,
        candidate_level=candidate.level,
        candidate_seconds=candidate.seconds,
        candidate_summary=candidate.summary,
    )
