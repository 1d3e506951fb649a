"""Which stage an event is the word of, for people who look at figures and traces."""

from typing import Final

STAGE_OF: Final = {
    "image.received": "watch",
    "video.received": "watch",
    "file.duplicated": "watch",
    "file.rejected": "watch",
    "objects.detected": "detect",
    "picture.filtered": "detect",
    "picture.batched": "batch",
    "batch.escalated": "batch",
    "batch.closed": "batch",
    "risk.assessed": "assess",
    "assessment.refined": "refine",
    "event.captioned": "enrich",
    "objects.embedded": "enrich",
    "objects.described": "enrich",
    "event.not_enriched": "enrich",
    "candidate.compared": "trial",
    "prompt.compared": "trial",
    "notification.requested": "alert",
    "notification.sent": "notify",
    "notification.failed": "notify",
    "scene.baseline_set": "scene",
    "scene.checked": "scene",
    "scene.changed": "scene",
    "scene.restored": "scene",
    "scene.change_acknowledged": "people",
    "entry.parked": "parked",
    "entry.redriven": "parked",
    "entry.discarded": "parked",
    "activity.unverified": "unverified",
    "event.reviewed": "people",
    "event.held": "people",
    "retention.applied": "retention",
}
"""Event type → stage."""

OTHER: Final = "other"
"""Stage of an event type that this version has no stage for."""


def stage_of(tag: str) -> str:
    """Return the stage of an event type."""
    return STAGE_OF.get(tag, OTHER)
