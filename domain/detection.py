"""Which boxes of a model's answer count as detections."""

from domain.events import Box, ObjectsDetected


def counted(detected: ObjectsDetected) -> tuple[Box, ...]:
    """Return the boxes that reach the threshold that was set when the model answered."""
    return tuple(box for box in detected.boxes if box.score >= detected.threshold)
