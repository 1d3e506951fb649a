"""What clients of /ws/detections are told of a picture in which a model saw something."""

from datetime import datetime

import msgspec

from domain.events import Box, ObjectsDetected
from domain.ids import detection_id


class DetectedObject(msgspec.Struct, frozen=True, kw_only=True):
    """One object in the picture; the box counts pixels from the top left corner."""

    id: str
    object_type: str
    confidence: float
    bbox_x: float
    bbox_y: float
    bbox_width: float
    bbox_height: float


class DetectionData(msgspec.Struct, frozen=True, kw_only=True):
    """A picture and what was seen in it, the surest first."""

    picture_id: str
    file_id: str
    camera_id: str
    detected_at: datetime
    """When the picture was taken."""
    width: int
    height: int
    detections: tuple[DetectedObject, ...]
    """At least one: every box that reached the threshold."""
    threshold: float
    model: str
    model_version: str
    engine: str
    """Adapter that ran it: embedded, http or triton."""
    fallback: bool
    """True when the offline fall-back model ran instead of RT-DETRv2."""
    inference_ms: float
    links: dict[str, str]
    """`picture`, `thumbnail`, `file` and `camera`."""


def detection_data(event: ObjectsDetected) -> DetectionData | None:
    """Return what is told of a picture; None when nothing in it reached the threshold."""
    seen = tuple(
        _object(event, index, box)
        for index, box in enumerate(event.boxes)
        if box.score >= event.threshold
    )
    if not seen:
        return None
    return DetectionData(
        picture_id=event.picture_id,
        file_id=event.file_id,
        camera_id=event.camera_id,
        detected_at=event.captured_at,
        width=event.width,
        height=event.height,
        detections=seen,
        threshold=event.threshold,
        model=event.model,
        model_version=event.model_version,
        engine=event.engine,
        fallback=event.fallback,
        inference_ms=event.inference_ms,
        links={
            "picture": f"/api/pictures/{event.picture_id}/image",
            "thumbnail": f"/api/pictures/{event.picture_id}/thumbnail",
            "file": f"/api/files/{event.file_id}",
            "camera": f"/api/cameras/{event.camera_id}",
        },
    )


def _object(event: ObjectsDetected, index: int, box: Box) -> DetectedObject:
    return DetectedObject(
        id=detection_id(event.picture_id, index),
        object_type=box.label,
        confidence=box.score,
        bbox_x=box.x,
        bbox_y=box.y,
        bbox_width=box.width,
        bbox_height=box.height,
    )
