"""ImageReceived → ObjectsDetected: what a model sees in each picture, also when it is nothing.

A model that does not answer raises; it never becomes an empty list. One picture that cannot be
decoded is parked with its reason, and the others of its run go on.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from msgspec import structs

from agents.canary import Canary, Failure
from domain.errors import HsiError, PermanentError, TransientError
from domain.events import ImageReceived, ObjectsDetected, PictureFiltered
from domain.outcomes import Done, Outcome, Park, Retry
from inference import images
from inference.ports import Detected, Detector, Picture
from streams.about import about
from streams.envelope import Envelope


class PictureSource(Protocol):
    """Where pictures lie."""

    def read(self, uri: str, *, expected_sha256: str | None = None) -> bytes:
        """Return a picture's bytes; raises PermanentError when it is gone or overwritten."""
        ...


@dataclass(frozen=True, slots=True)
class _Item:
    """One picture of a run: decoded, or the outcome that its decoding led to."""

    event: ImageReceived
    picture: Picture | None
    outcome: Outcome | None = None
    candidate_failure: str | None = None


class CameraStates(Protocol):
    """Which cameras' pictures are to be looked at."""

    def enabled(self, camera_id: str) -> bool:
        """Say whether a camera is enabled; an unknown one is."""
        ...


class Detect:
    """Handler of the `files` stream."""

    def __init__(
        self,
        detector: Detector,
        pictures: PictureSource,
        cameras: CameraStates,
        threshold: float,
        canary: Canary | None = None,
    ) -> None:
        self._detector = detector
        self._pictures = pictures
        self._cameras = cameras
        self._canary = canary
        self.threshold = threshold
        """DETECTION_CONFIDENCE_THRESHOLD; each answer says which one it was given with."""

    async def __call__(self, envelopes: Sequence[Envelope]) -> list[Outcome]:
        """Answer one outcome for each entry; raises when the model does not answer."""
        outcomes: dict[int, Outcome] = {}
        items: dict[int, _Item] = {}
        for index, envelope in enumerate(envelopes):
            event = envelope.event
            if not isinstance(event, ImageReceived):
                outcomes[index] = Done(passed_by=True)
            elif not self._cameras.enabled(event.camera_id):
                outcomes[index] = Done((_filtered(event),), passed_by=True)
            else:
                with about(envelope):
                    items[index] = await self._load(event)
        outcomes |= {i: item.outcome for i, item in items.items() if item.outcome is not None}
        decoded = {i: item for i, item in items.items() if item.picture is not None}
        outcomes |= await self._try(decoded)
        left = {i: item for i, item in decoded.items() if i not in outcomes}
        outcomes |= await self._detect(left, envelopes)
        return [outcomes[index] for index in range(len(envelopes))]

    async def _load(self, event: ImageReceived) -> _Item:
        try:
            # A video's frame carries the SHA-256 of its video; only a file's own can be checked.
            whole = event.sha256 if event.frame_offset_seconds is None else None
            data = await asyncio.to_thread(self._pictures.read, event.uri, expected_sha256=whole)
            picture = await asyncio.to_thread(images.decode, data, event.path)
        except PermanentError as error:
            return _Item(event, None, Park(error))
        except TransientError as error:
            return _Item(event, None, Retry(error, error.retry_after))
        return _Item(event, picture)

    async def _try(self, items: dict[int, _Item]) -> dict[int, Outcome]:
        """Return what a candidate on trial says of its share; what it does not answer is left."""
        if self._canary is None:
            return {}
        mine = {
            index: item.picture
            for index, item in items.items()
            if item.picture is not None and self._canary.takes(item.event.picture_id)
        }
        outcomes: dict[int, Outcome] = {}
        for index, answer in (await self._canary.ask(mine)).items():
            if isinstance(answer, Failure):
                items[index] = replace(items[index], candidate_failure=answer.why)
            else:
                detected = self._detected(items[index], mine[index], answer)
                outcomes[index] = Done((structs.replace(detected, canary=True),), passed_by=True)
        return outcomes

    async def _detect(
        self, items: dict[int, _Item], envelopes: Sequence[Envelope]
    ) -> dict[int, Outcome]:
        outcomes: dict[int, Outcome] = {}
        indexes = list(items)
        size = max(1, self._detector.max_batch)
        for start in range(0, len(indexes), size):
            part = indexes[start : start + size]
            try:
                outcomes |= await self._ask(items, part)
            except PermanentError:
                # The call cannot say which picture it refuses: ask for each one alone.
                for index in part:
                    with about(envelopes[index]):
                        outcomes |= await self._ask_alone(items, index)
        return outcomes

    async def _ask_alone(self, items: dict[int, _Item], index: int) -> dict[int, Outcome]:
        try:
            return await self._ask(items, [index])
        except PermanentError as error:
            return {index: await self._refused(error)}

    async def _refused(self, error: PermanentError) -> Park:
        """Return the park of what the model refused, with the model's name where it tells it."""
        try:
            identity = await self._detector.check()
        except HsiError:
            return Park(error)
        return Park(error, identity.model, identity.version)

    async def _ask(self, items: dict[int, _Item], part: list[int]) -> dict[int, Outcome]:
        pictures = [picture for i in part if (picture := items[i].picture) is not None]
        answers = await self._detector.detect(pictures)
        return {
            index: Done((self._detected(items[index], picture, answer),))
            for index, picture, answer in zip(part, pictures, answers, strict=True)
        }

    def _detected(self, item: _Item, picture: Picture, answer: Detected) -> ObjectsDetected:
        event = item.event
        return ObjectsDetected(
            camera_id=event.camera_id,
            picture_id=event.picture_id,
            file_id=event.file_id,
            uri=event.uri,
            captured_at=event.captured_at,
            width=picture.width,
            height=picture.height,
            boxes=answer.boxes,
            threshold=self.threshold,
            model=answer.identity.model,
            model_version=answer.identity.version,
            engine=answer.identity.engine,
            fallback=answer.identity.fallback,
            inference_ms=answer.inference_ms,
            candidate_failure=item.candidate_failure,
        )


def _filtered(event: ImageReceived) -> PictureFiltered:
    return PictureFiltered(
        camera_id=event.camera_id,
        picture_id=event.picture_id,
        file_id=event.file_id,
        captured_at=event.captured_at,
        reason="camera_disabled",
    )
