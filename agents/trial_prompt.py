"""AssessmentRefined → PromptCompared: a candidate prompt beside the one in service.

Asks a candidate about the facts behind each refined assessment, in a group of its own. Where both
share a language model, the candidate waits until the main line has nothing left to ask.
"""

import asyncio
import time
from datetime import timedelta
from typing import Protocol

import msgspec

from agents.assess import CameraDirectory
from agents.refine import AssessmentLog, question_of
from domain.errors import HsiError
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


class PromptTrial:
    """Handler of the `assessments` stream for a candidate prompt."""

    def __init__(
        self,
        candidate: RiskModel,
        prompt_version: str,
        cameras: CameraDirectory,
        bands: Bands,
        log: TrialLog,
        *,
        shares_model: bool,
    ) -> None:
        self._candidate = candidate
        self._prompt = prompt_version
        self._cameras = cameras
        self._bands = bands
        self._log = log
        self._shares_model = shares_model

    async def __call__(self, envelope: Envelope) -> Outcome:
        """Compare one refined assessment; a failing candidate is a result, not a pause."""
        refined = envelope.event
        if not isinstance(refined, AssessmentRefined):
            return Done(passed_by=True)
        assessed = await self._assessed(envelope)
        if assessed is None or (self._shares_model and not await self._main_line_rests()):
            return Done(passed_by=True)
        return Done((await self._compared(refined, assessed),))

    async def _compared(
        self, refined: AssessmentRefined, assessed: RiskAssessed
    ) -> PromptCompared:
        told = self._beside(refined)
        try:
            opinion = await self._candidate.assess(question_of(assessed, self._cameras))
        except HsiError as error:
            return msgspec.structs.replace(told, error=str(error)[:500])
        other = refine(assessed, opinion, self._bands)
        return msgspec.structs.replace(
            told,
            candidate_model=other.model,
            candidate_prompt_sha256=other.prompt_sha256,
            candidate_model_score=other.model_score,
            candidate_score=other.score,
            candidate_level=other.level,
            candidate_seconds=other.seconds,
            candidate_summary=other.summary,
        )

    def _beside(self, refined: AssessmentRefined) -> PromptCompared:
        return PromptCompared(
            camera_id=refined.camera_id,
            event_id=refined.event_id,
            stage=refined.stage,
            ended_at=refined.ended_at,
            rule_score=refined.rule_score,
            score=refined.score,
            level=refined.level,
            model=refined.model,
            prompt_version=refined.prompt_version,
            seconds=refined.seconds,
            candidate_prompt=self._prompt,
        )

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
