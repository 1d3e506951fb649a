"""The /detect contract as both ends write and read it: answers, health, pictures as base64.

Field names, units and classes are those of the runtime configuration reference (port 8090).
"""

from typing import Annotated

import msgspec

from inference.boxes import MOST_BOXES
from inference.labels import SERVED_LABELS
from inference.ports import Detected, ModelIdentity, Picture

_Score = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Label = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[\w .,()/-]+$")]


class Bbox(msgspec.Struct):
    """Left upper corner and size, in pixels of the upright picture."""

    x: float
    y: float
    width: float
    height: float


class Detection(msgspec.Struct):
    """One object."""

    label: _Label = msgspec.field(name="class")
    confidence: _Score
    bbox: Bbox


class Answer(msgspec.Struct):
    """What `POST /detect` answers."""

    detections: Annotated[list[Detection], msgspec.Meta(max_length=10 * MOST_BOXES)]
    inference_time_ms: Annotated[float, msgspec.Meta(ge=0)]
    image_width: Annotated[int, msgspec.Meta(ge=1)]
    image_height: Annotated[int, msgspec.Meta(ge=1)]


class Health(msgspec.Struct):
    """What a client of ours reads of `GET /health`; other services know fewer fields."""

    model_loaded: bool
    status: str = "unknown"
    model: str | None = None
    version: str | None = None
    fallback: bool | None = None


class HealthAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the server of ours answers to `GET /health`; None stands for what it cannot know."""

    status: str
    model_loaded: bool
    device: str
    cuda_available: bool | None
    vram_used_gb: float | None
    model: str | None = None
    version: str | None = None
    engine: str | None = None
    fallback: bool | None = None
    detail: str | None = None


class OneEncoded(msgspec.Struct):
    """JSON body of `/detect`."""

    image_base64: str


class ManyEncoded(msgspec.Struct):
    """JSON body of `/detect/batch`."""

    images_base64: list[str]


def answer(found: Detected, picture: Picture, floor: float) -> Answer:
    """Return the boxes above `floor` of the classes that the contract keeps."""
    detections = [
        Detection(box.label, box.score, Bbox(box.x, box.y, box.width, box.height))
        for box in found.boxes
        if box.label in SERVED_LABELS and box.score >= floor
    ]
    return Answer(detections, found.inference_ms, picture.width, picture.height)


def healthy(identity: ModelIdentity) -> HealthAnswer:
    """Return the health of a service whose model answers."""
    here = identity.engine == "embedded"
    return HealthAnswer(
        status="healthy",
        model_loaded=True,
        # The embedded engine runs on the processor alone; where another's model runs is not told.
        device="cpu" if here else "unknown",
        cuda_available=False if here else None,
        vram_used_gb=None,
        model=identity.model,
        version=identity.version,
        engine=identity.engine,
        fallback=identity.fallback,
    )


def unhealthy(reason: str) -> HealthAnswer:
    """Return the health of a service whose model does not answer."""
    return HealthAnswer(
        status="unhealthy",
        model_loaded=False,
        device="unknown",
        cuda_available=None,
        vram_used_gb=None,
        detail=reason,
    )
