"""What clients of /ws/events are told of a picture that nobody can look at yet."""

from datetime import datetime

import msgspec

from domain.events import ActivityUnverified
from streams.envelope import Envelope


class UnverifiedData(msgspec.Struct, frozen=True, kw_only=True):
    """A picture arrived while nothing could look at it; nobody knows what it shows."""

    id: str
    camera_id: str
    picture_id: str
    file_id: str
    captured_at: datetime
    told_at: datetime
    service: str
    """What is away."""
    reason: str
    links: dict[str, str]
    """`picture`, `thumbnail`, `file`, `lineage` and `camera`."""


def unverified_data(event: ActivityUnverified, envelope: Envelope) -> UnverifiedData:
    """Return what is told of a picture that waits unseen."""
    return UnverifiedData(
        id=envelope.id,
        camera_id=event.camera_id,
        picture_id=event.picture_id,
        file_id=event.file_id,
        captured_at=event.captured_at,
        told_at=envelope.recorded_at,
        service=event.service,
        reason=event.reason,
        links=unverified_links(event.camera_id, event.picture_id, event.file_id),
    )


def unverified_links(camera_id: str, picture_id: str, file_id: str) -> dict[str, str]:
    """Return where to look at the picture, and where to ask what became of it."""
    return {
        "picture": f"/api/pictures/{picture_id}/image",
        "thumbnail": f"/api/pictures/{picture_id}/thumbnail",
        "file": f"/api/files/{file_id}",
        "lineage": f"/api/files/{file_id}/lineage",
        "camera": f"/api/cameras/{camera_id}",
    }
