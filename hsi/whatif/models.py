"""Models asked again: only where a run changes one, or asks for the language model's say."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from domain.errors import PermanentError, ServiceUnavailableError, TransientError
from domain.events import ObjectsDetected, RiskAssessed
from domain.prompt import signal_lines
from domain.risk import CameraView, refine
from domain.whatif import EventOutcome, Found, Knobs
from hsi.whatif.known import Known, with_say
from hsi.whatif.recorded import Refined
from inference import images
from inference.pictures import PictureStore
from inference.ports import Detected, Detector, Picture, RiskModel, RiskQuestion
from streams.replay import Timeline

TRIES: Final = 3


class Redetector:
    """Looks at pictures again through another detector."""

    def __init__(self, detector: Detector, pictures: PictureStore) -> None:
        self._detector = detector
        self._pictures = pictures
        self.asked = 0
        self.gone = 0
        """Pictures that cannot be read any more; their recorded boxes were taken."""

    async def again(self, detected: Sequence[ObjectsDetected]) -> list[ObjectsDetected]:
        """Return what the detector sees now; raises when it does not answer."""
        size = max(1, self._detector.max_batch)
        seen: list[ObjectsDetected] = []
        for start in range(0, len(detected), size):
            seen += await self._part(detected[start : start + size])
        return seen

    async def _part(self, part: Sequence[ObjectsDetected]) -> list[ObjectsDetected]:
        loaded = await asyncio.gather(*(asyncio.to_thread(self._load, event) for event in part))
        pictures = [picture for picture in loaded if picture is not None]
        answers = iter(await self._detector.detect(pictures) if pictures else [])
        self.asked += len(pictures)
        self.gone += len(part) - len(pictures)
        return [
            event if picture is None else _with_boxes(event, picture, next(answers))
            for event, picture in zip(part, loaded, strict=True)
        ]

    def _load(self, event: ObjectsDetected) -> Picture | None:
        try:
            return images.decode(self._pictures.read(event.uri), event.uri)
        except PermanentError:
            return None


class ModelSay:
    """Has the language model's say about the changed side's events.

    An event whose assessment is the recorded one keeps the recorded say, unless the model or
    its prompt was changed or a candidate on trial said it; only these and what differs are asked.
    """

    def __init__(
        self,
        model: RiskModel,
        knobs: Timeline[Knobs],
        cameras: Mapping[str, Timeline[CameraView]],
        *,
        model_changed: bool,
    ) -> None:
        self._model = model
        self._knobs = knobs
        self._cameras = cameras
        self._model_changed = model_changed
        self.asked = 0
        self.unusable = 0
        """Events that stand by the rules, since no answer of the model could be used."""

    async def refined(self, found: Found, recorded: Known) -> EventOutcome:
        """Return the event with the model's score, level and summary."""
        outcome = found.outcome
        before = recorded.get(outcome.event_id)
        if before is not None and self._stands(before, outcome):
            return before
        bands = self._knobs.at(outcome.ended_at).bands
        for _ in range(TRIES):
            try:
                self.asked += 1
                opinion = await self._model.assess(self._question(found.assessed))
            except ServiceUnavailableError:
                raise
            except TransientError:
                continue
            except PermanentError:
                break
            said = refine(found.assessed, opinion, bands)
            return with_say(
                outcome,
                Refined(
                    event_id=outcome.event_id,
                    score=said.score,
                    level=said.level,
                    summary=said.summary,
                ),
            )
        self.unusable += 1
        return outcome

    def _stands(self, before: EventOutcome, outcome: EventOutcome) -> bool:
        """Say whether the recorded say is what the model in service would say now."""
        asked_again = self._model_changed or before.canary
        return not asked_again and before.evidence == outcome.evidence

    def _question(self, assessed: RiskAssessed) -> RiskQuestion:
        told = self._cameras.get(assessed.camera_id)
        name = told.at(assessed.ended_at).name if told else assessed.camera_id
        return RiskQuestion(
            camera_name=name,
            facts=assessed.facts,
            rule_score=assessed.score,
            floor=assessed.floor,
            signal_lines=signal_lines(assessed.signals),
        )


def _with_boxes(event: ObjectsDetected, picture: Picture, answer: Detected) -> ObjectsDetected:
    return msgspec.structs.replace(
        event,
        width=picture.width,
        height=picture.height,
        boxes=answer.boxes,
        model=answer.identity.model,
        model_version=answer.identity.version,
        engine=answer.identity.engine,
        fallback=answer.identity.fallback,
        inference_ms=answer.inference_ms,
    )
