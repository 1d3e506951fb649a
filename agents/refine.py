"""RiskAssessed becomes AssessmentRefined: the language model's say, within bounds."""

from dataclasses import dataclass
from typing import Protocol

from msgspec import structs

from agents.assess import CameraDirectory
from agents.canary import Failure, PromptCanary
from agents.turns import Turns
from domain.errors import HsiError, PermanentError, TransientError
from domain.events import RiskAssessed
from domain.outcomes import Done, Outcome, Park, Retry
from domain.prompt import UnusableReplyError, signal_lines
from domain.risk import Bands, refine
from inference.ports import RiskModel, RiskOpinion, RiskQuestion
from streams.envelope import Envelope, Position

LOOK_AHEAD = 200
"""Entries behind an assessment in which a newer one of the same event is looked for."""


class AssessmentLog(Protocol):
    """The part of the event log that shows whether an assessment was overtaken."""

    async def read(
        self, stream: str, partition: int, after: Position, count: int
    ) -> list[Envelope]:
        """Return up to `count` envelopes behind `after`."""
        ...


def goes_first(assessed: RiskAssessed) -> bool:
    """Say which lane an assessment belongs to: fast path, high and critical go first."""
    return (
        assessed.stage == "fast_path"
        or assessed.is_fast_path
        or assessed.level in ("high", "critical")
    )


def question_of(assessed: RiskAssessed, cameras: CameraDirectory) -> RiskQuestion:
    """Return what a language model is asked about an assessment."""
    return RiskQuestion(
        camera_name=cameras.view(assessed.camera_id).name,
        facts=assessed.facts,
        rule_score=assessed.score,
        floor=assessed.floor,
        signal_lines=signal_lines(assessed.signals),
    )


@dataclass(frozen=True, slots=True)
class Lane:
    """One of the two consumer groups that share the assessments, each entry handled by one."""

    first: bool
    turns: Turns
    """Shared by both lanes: how many questions the model is asked at once."""


class Refine:
    """Handler of the `assessments` stream; the event stands with its rule score meanwhile."""

    def __init__(
        self,
        model: RiskModel,
        cameras: CameraDirectory,
        bands: Bands,
        log: AssessmentLog,
        lane: Lane,
        canary: PromptCanary | None = None,
    ) -> None:
        self._model = model
        self._cameras = cameras
        self._bands = bands
        self._log = log
        self._lane = lane
        self._canary = canary

    async def __call__(self, envelope: Envelope) -> Outcome:
        """Ask the model about an assessment; a model that is away leaves the entry pending.

        A fast-path assessment whose batch has been assessed as a whole meanwhile is passed by:
        the model, the slowest stage, spends its time on what still counts.
        """
        assessed = envelope.event
        if not isinstance(assessed, RiskAssessed) or goes_first(assessed) != self._lane.first:
            return Done(passed_by=True)
        async with self._lane.turns.take(first=self._lane.first):
            return await self._ask(envelope, assessed)

    async def _ask(self, envelope: Envelope, assessed: RiskAssessed) -> Outcome:
        if await self._overtaken(envelope, assessed):
            return Done(passed_by=True)
        question = question_of(assessed, self._cameras)
        said = await self._try(assessed.event_id, question)
        if isinstance(said, RiskOpinion):
            refined = refine(assessed, said, self._bands)
            # It says nothing of the model in service, so no gate opens by it.
            return Done((structs.replace(refined, canary=True),), passed_by=True)
        try:
            opinion = await self._model.assess(question)
        except UnusableReplyError as error:
            return Retry(error, after=error.retry_after, model=await self._model_name())
        except TransientError as error:
            return Retry(error, after=error.retry_after)
        except PermanentError as error:
            return Park(error, await self._model_name())
        refined = refine(assessed, opinion, self._bands)
        return Done((structs.replace(refined, candidate_failure=said.why if said else None),))

    async def _try(self, event_id: str, question: RiskQuestion) -> RiskOpinion | Failure | None:
        """Return what a candidate on trial says of an event of its share; None for the others."""
        if self._canary is None or not self._canary.takes(event_id):
            return None
        return await self._canary.ask(question)

    async def _model_name(self) -> str | None:
        try:
            return await self._model.check()
        except HsiError:
            return None  # The refusal stands all the same.

    async def _overtaken(self, envelope: Envelope, assessed: RiskAssessed) -> bool:
        if assessed.stage == "final":
            return False
        later = await self._log.read(
            envelope.stream, envelope.partition, envelope.position, LOOK_AHEAD
        )
        return any(
            isinstance(other.event, RiskAssessed) and other.event.event_id == assessed.event_id
            for other in later
        )
