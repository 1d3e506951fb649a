"""ObjectsDetected → CandidateCompared: the candidate beside the detector in service.

Reads the pictures that the main line has looked at in a group of its own, so it can neither hold
the main line up nor add to it. Where the candidate answered a canary, the detector in service is
asked instead: then both are known again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agents.detect import PictureSource
from domain.errors import HsiError, PermanentError
from domain.events import CandidateCompared, ObjectsDetected
from domain.outcomes import Done, Outcome
from domain.trials import agreement
from inference import images
from inference.ports import Detected, Detector, ModelIdentity, Picture
from streams.envelope import Envelope

Turn = Callable[[int], Awaitable[None]]
"""Returns when a picture may be looked at whose entry was recorded at this time (ms)."""


async def at_once(recorded_ms: int) -> None:
    """Hold no picture back."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The two detectors of a trial."""

    service: Detector
    """The one in service."""
    candidate: Detector


class Trial:
    """Handler of the `detections` stream for the candidate."""

    def __init__(
        self,
        pair: Pair,
        pictures: PictureSource,
        *,
        limit_seconds: float,
        turn: Turn = at_once,
    ) -> None:
        self._pair = pair
        self._pictures = pictures
        self._limit = limit_seconds
        self._turn = turn

    async def __call__(self, envelope: Envelope) -> Outcome:
        """Compare one picture; a failing candidate is a result, an absent picture is none.

        Raises when the detector in service does not answer about a canary: that waits.
        """
        event = envelope.event
        if not isinstance(event, ObjectsDetected):
            return Done(passed_by=True)
        if event.candidate_failure is not None:
            return Done((_failed(event, event.candidate_failure),), passed_by=True)
        if not event.canary:
            await self._turn(envelope.position.ms)  # By canaries the guard judges: at once.
        try:
            picture = await self._load(event)
            return Done((await self._compared(event, picture),), passed_by=not event.canary)
        except PermanentError:
            # The picture is gone, or the detector in service refuses it: nothing to compare with.
            return Done(passed_by=True)

    async def _compared(self, event: ObjectsDetected, picture: Picture) -> CandidateCompared:
        recorded = Detected(event.boxes, _identity(event), event.inference_ms)
        if event.canary:
            (other,) = await self._pair.service.detect([picture])
            return _compared(event, other, recorded, other)
        try:
            async with asyncio.timeout(self._limit):
                (other,) = await self._pair.candidate.detect([picture])
        except TimeoutError:
            return _failed(event, f"no answer within {self._limit:g} s")
        except HsiError as error:
            return _failed(event, str(error)[:500])
        return _compared(event, recorded, other, other)

    async def _load(self, event: ObjectsDetected) -> Picture:
        data = await asyncio.to_thread(self._pictures.read, event.uri)
        return await asyncio.to_thread(images.decode, data, event.uri)


def _identity(event: ObjectsDetected) -> ModelIdentity:
    return ModelIdentity(event.model, event.model_version, event.engine, event.fallback)


def _failed(event: ObjectsDetected, why: str) -> CandidateCompared:
    return CandidateCompared(
        camera_id=event.camera_id,
        picture_id=event.picture_id,
        captured_at=event.captured_at,
        threshold=event.threshold,
        error=why,
    )


def _compared(
    event: ObjectsDetected, reference: Detected, candidate: Detected, other: Detected
) -> CandidateCompared:
    found = agreement(reference.boxes, candidate.boxes, event.threshold)
    return CandidateCompared(
        camera_id=event.camera_id,
        picture_id=event.picture_id,
        captured_at=event.captured_at,
        canary=event.canary,
        threshold=event.threshold,
        matched=found.matched,
        missing=found.missing,
        surplus=found.surplus,
        drift=found.drift,
        reference=reference.identity.model,
        reference_version=reference.identity.version,
        reference_ms=reference.inference_ms,
        candidate=candidate.identity.model,
        candidate_version=candidate.identity.version,
        candidate_ms=candidate.inference_ms,
        boxes=other.boxes,
    )
