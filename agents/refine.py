"""RiskAssessed becomes AssessmentRefined: the language model's say, within bounds."""

from agents.assess import CameraDirectory
from domain.errors import PermanentError, TransientError
from domain.events import RiskAssessed
from domain.outcomes import Done, Outcome, Park, Retry
from domain.prompt import signal_lines
from domain.risk import Bands, refine
from inference.ports import RiskModel, RiskQuestion
from streams.envelope import Envelope


class Refine:
    """Handler of the `assessments` stream; the event stands with its rule score meanwhile."""

    def __init__(self, model: RiskModel, cameras: CameraDirectory, bands: Bands) -> None:
        self._model = model
        self._cameras = cameras
        self._bands = bands

    async def __call__(self, envelope: Envelope) -> Outcome:
        """Ask the model about an assessment; a model that is away leaves the entry pending."""
        assessed = envelope.event
        if not isinstance(assessed, RiskAssessed):
            return Done()
        try:
            opinion = await self._model.assess(self._question(assessed))
        except TransientError as error:
            return Retry(error, after=error.retry_after)
        except PermanentError as error:
            return Park(error)
        return Done((refine(assessed, opinion, self._bands),))

    def _question(self, assessed: RiskAssessed) -> RiskQuestion:
        return RiskQuestion(
            camera_name=self._cameras.view(assessed.camera_id).name,
            facts=assessed.facts,
            rule_score=assessed.score,
            floor=assessed.floor,
            signal_lines=signal_lines(assessed.signals),
        )
