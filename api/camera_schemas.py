"""The wire contract of cameras."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api.schemas import FolderPath, GivenName
from domain.events import WhenUnavailable

SceneThreshold = Annotated[float, Meta(ge=0.5, le=1)]


class CamerasQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/cameras; removed cameras only come when asked for."""

    status: Literal["active", "disabled", "unregistered", "removed"] | None = None


class CameraCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /api/cameras; `active` and `online` both mean enabled."""

    name: GivenName
    folder_path: FolderPath
    status: Literal["active", "online", "disabled"] = "active"
    entry_point: bool = False
    when_unavailable: WhenUnavailable = "hold"
    scene_change_threshold: SceneThreshold | None = None
    """In the place of SCENE_CHANGE_THRESHOLD; null: that counts."""


class CameraChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PATCH /api/cameras/{id}; what is left out stays."""

    SCHEMA_ALSO: ClassVar = {"minProperties": 1}
    name: GivenName | UnsetType = UNSET
    status: Literal["active", "online", "disabled"] | UnsetType = UNSET
    entry_point: bool | UnsetType = UNSET
    when_unavailable: WhenUnavailable | UnsetType = UNSET
    scene_change_threshold: SceneThreshold | UnsetType | None = UNSET
    """Null: SCENE_CHANGE_THRESHOLD counts again."""


CameraStatus = Literal["active", "disabled", "unregistered", "removed"]
"""unregistered: found as a folder and not yet taken over by a person."""


class CameraAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A camera. `last_seen_at` tells its liveness; `status` only what a person decided."""

    id: str
    name: str
    folder_path: str
    status: CameraStatus
    enabled: bool
    entry_point: bool
    when_unavailable: WhenUnavailable
    scene_change_threshold: float | None
    """Null: SCENE_CHANGE_THRESHOLD counts."""
    confirmed: bool
    source: Literal["api", "folder"]
    created_at: datetime
    removed_at: datetime | None
    last_seen_at: datetime | None
    last_file_at: datetime | None
    folder_exists: bool | UnsetType = UNSET
    folder_created: bool | UnsetType = UNSET
    """Answered to a POST: whether the folder was missing and has been made."""
    folder_message: str | UnsetType = UNSET
    """Answered to a POST whose folder is missing and could not be made: why."""
    links: dict[str, str]


class CamerasAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/cameras."""

    cameras: list[CameraAnswer]
    count: int
