"""What clients are told of a camera that no longer looks at what it looked at."""

from datetime import datetime
from typing import Literal

import msgspec

from domain.events import (
    SceneChangeAcknowledged,
    SceneChanged,
    SceneChangeType,
    SceneRestored,
    SceneSeverity,
)
from streams.envelope import Envelope

SceneEvent = SceneChanged | SceneRestored | SceneChangeAcknowledged


class SceneChangeData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A change of a camera's view, or what became of one; what is not said is left out."""

    camera_id: str
    change: Literal["detected", "restored", "acknowledged"]
    ids: tuple[str, ...]
    """The changes that this is about; one when it is `detected` or `acknowledged`."""
    at: datetime
    """When the picture that shows it was taken, or when somebody acknowledged it."""
    change_type: SceneChangeType | None = None
    severity: SceneSeverity | None = None
    similarity_score: float | None = None
    acknowledged_by: str | None = None
    links: dict[str, str] | None = None
    """Of a change that was detected: pictures, `acknowledge`, `list` and `camera`."""


def scene_change_data(event: SceneEvent, envelope: Envelope) -> SceneChangeData:
    """Return what clients are told."""
    match event:
        case SceneChanged():
            return SceneChangeData(
                camera_id=event.camera_id,
                change="detected",
                ids=(event.change_id,),
                at=event.view.captured_at,
                change_type=event.change_type,
                severity=event.severity,
                similarity_score=event.similarity,
                links=scene_change_links(
                    event.camera_id,
                    event.change_id,
                    event.view.picture_id,
                    event.baseline.picture_id,
                ),
            )
        case SceneRestored():
            return SceneChangeData(
                camera_id=event.camera_id,
                change="restored",
                ids=event.change_ids,
                at=event.captured_at,
            )
        case SceneChangeAcknowledged():
            return SceneChangeData(
                camera_id=event.camera_id,
                change="acknowledged",
                ids=(event.change_id,),
                at=envelope.recorded_at,
                acknowledged_by=event.actor,
            )


def scene_change_links(
    camera_id: str, change_id: str, picture_id: str, baseline_picture_id: str
) -> dict[str, str]:
    """Return where to look at both pictures, and where to acknowledge the change."""
    changes = f"/api/cameras/{camera_id}/scene-changes"
    return {
        "picture": f"/api/pictures/{picture_id}/image",
        "thumbnail": f"/api/pictures/{picture_id}/thumbnail",
        "baseline": f"/api/pictures/{baseline_picture_id}/image",
        "baseline_thumbnail": f"/api/pictures/{baseline_picture_id}/thumbnail",
        "acknowledge": f"{changes}/{change_id}/acknowledge",
        "list": changes,
        "camera": f"/api/cameras/{camera_id}",
    }
