"""Stream `detections`: what a model saw in a picture, or why none looked."""

from datetime import datetime
from typing import ClassVar

from domain.events.base import Box, Event, Moment


class ObjectsDetected(Event, frozen=True, kw_only=True):
    """What a model saw in one picture: every box above the floor of 0.05, also when none."""

    TAG: ClassVar[str] = "objects.detected"
    STREAM: ClassVar[str] = "detections"

    picture_id: str
    file_id: str
    uri: str
    captured_at: Moment
    width: int
    height: int
    boxes: tuple[Box, ...]
    """By falling score. A box counts as a detection when its score reaches `threshold`."""
    threshold: float
    model: str
    model_version: str
    engine: str
    """Adapter that ran it: embedded, http or triton."""
    fallback: bool = False
    """True when the offline fall-back model ran instead of RT-DETRv2."""
    inference_ms: float
    canary: bool = False
    """True when a candidate on trial answered instead of the detector in service."""
    candidate_failure: str | None = None
    """Why the candidate did not answer about a picture that was to be a canary."""

    @property
    def occurred_at(self) -> datetime:
        return self.captured_at


class PictureFiltered(Event, frozen=True, kw_only=True):
    """A picture that goes no further on purpose, with the reason."""

    TAG: ClassVar[str] = "picture.filtered"
    STREAM: ClassVar[str] = "detections"

    picture_id: str
    file_id: str
    captured_at: Moment
    reason: str
    """Stable code: camera_disabled."""

    @property
    def occurred_at(self) -> datetime:
        return self.captured_at
