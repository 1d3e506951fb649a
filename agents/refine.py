"""RiskAssessed becomes AssessmentRefined: the language model's say, within bounds."""

from typing import Protocol

from agents.assess import CameraDirectory
from domain.errors import PermanentError, TransientError
from domain.events import RiskAssessed
from domain.outcomes import Done, Outcome, Park, Retry
from domain.prompt import signal_lines
from domain.risk import Bands, refine
from inference.ports import RiskModel, RiskQuestion
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


class Refine:
    """Handler of the `assessments` stream; the event stands with its rule score meanwhile."""

    def __init__(
        self, model: RiskModel, cameras: CameraDirectory, bands: Bands, log: AssessmentLog
    ) -> None:
        self._model = model
        self._cameras = cameras
        self._bands = bands
        self._log = log

    async def __call__(self, envelope: Envelope) -> Outcome:
        """Ask the model about an assessment; a model that is away leaves the entry pending.

        A fast-path assessment whose batch has been assessed as a whole meanwhile is passed by:
        the model, the slowest stage, spends its time on what still counts.
        """
        assessed = envelope.event
        if not isinstance(assessed, RiskAssessed) or await self._overtaken(envelope, assessed):
            return Done()
        try:
            opinion = await self._model.assess(self._question(assessed))
        except TransientError as error:
            return Retry(error, after=error.retry_after)
        except PermanentError as error:
            return Park(error)
        return Done((refine(assessed, opinion, self._bands),))

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

    def _question(self, assessed: RiskAssessed) -> RiskQuestion:
        return RiskQuestion(
            camera_name=self._cameras.view(assessed.camera_id).name,
            facts=assessed.facts,
            rule_score=assessed.score,
            floor=assessed.floor,
            signal_lines=signal_lines(assessed.signals),
        )
