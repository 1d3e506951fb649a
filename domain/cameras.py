"""What is known of a camera: a fold of the `cameras` stream, as pure as it gets."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from domain.events import CameraRegistered, CameraRemoved, CameraUpdated, Event, WhenUnavailable


class CameraState(msgspec.Struct, frozen=True, kw_only=True):
    """One camera as the log describes it up to some moment."""

    id: str
    name: str
    folder: str
    source: str
    enabled: bool
    entry_point: bool
    when_unavailable: WhenUnavailable
    scene_change_threshold: float | None = None
    confirmed: bool
    """True for a camera a person added, or took over after it was found as a folder."""
    created_at: datetime
    removed_at: datetime | None = None


def evolve(
    cameras: Mapping[str, CameraState], event: Event, recorded_at: datetime
) -> dict[str, CameraState]:
    """Return the cameras after one event; the read model `cameras` decides the same."""
    known = cameras.get(event.camera_id)
    match event:
        case CameraRegistered():
            after = _registered(known, event, recorded_at)
        case CameraUpdated() if known is not None:
            after = _updated(known, event)
        case CameraRemoved() if known is not None:
            after = msgspec.structs.replace(known, removed_at=recorded_at)
        case _:
            return dict(cameras)
    return {**cameras, after.id: after}


def _registered(
    known: CameraState | None, event: CameraRegistered, recorded_at: datetime
) -> CameraState:
    # A folder that was found says nothing new about a camera that is known and not removed.
    if known is not None and known.removed_at is None and event.source == "folder":
        return known
    return CameraState(
        id=event.camera_id,
        name=event.name,
        folder=event.folder,
        source=event.source,
        enabled=event.enabled,
        entry_point=event.entry_point,
        when_unavailable=event.when_unavailable,
        scene_change_threshold=event.scene_change_threshold or None,
        confirmed=event.source == "api",
        created_at=known.created_at if known else recorded_at,
    )


def _updated(known: CameraState, event: CameraUpdated) -> CameraState:
    said = {
        "name": event.name,
        "enabled": event.enabled,
        "entry_point": event.entry_point,
        "when_unavailable": event.when_unavailable,
        "confirmed": event.confirmed,
    }
    after = msgspec.structs.replace(
        known, **{name: value for name, value in said.items() if value is not None}
    )
    if event.scene_change_threshold is None:
        return after
    return msgspec.structs.replace(
        after, scene_change_threshold=event.scene_change_threshold or None
    )
