"""Stream `cameras`: cameras that came, changed and went."""

from typing import ClassVar, Literal

from domain.events.base import Event

WhenUnavailable = Literal["hold", "notify"]
"""While nothing can look at its pictures: let them wait, or tell of the first as unverified."""


class CameraRegistered(Event, frozen=True, kw_only=True):
    """A camera is known from now on: added by a person, or found as an unknown folder."""

    TAG: ClassVar[str] = "camera.registered"
    STREAM: ClassVar[str] = "cameras"

    name: str
    folder: str
    source: Literal["api", "folder"]
    enabled: bool = True
    entry_point: bool = False
    """True when the camera looks at a door, gate or window through which one gets in."""
    when_unavailable: WhenUnavailable = "hold"
    scene_change_threshold: float | None = None
    """In the place of SCENE_CHANGE_THRESHOLD; None: that counts."""


class CameraUpdated(Event, frozen=True, kw_only=True):
    """A person changed a camera; None leaves a field as it is."""

    TAG: ClassVar[str] = "camera.updated"
    STREAM: ClassVar[str] = "cameras"

    name: str | None = None
    enabled: bool | None = None
    entry_point: bool | None = None
    when_unavailable: WhenUnavailable | None = None
    scene_change_threshold: float | None = None
    """0: SCENE_CHANGE_THRESHOLD counts again."""
    confirmed: bool | None = None
    """True once a person has taken over a camera that was found as a folder."""


class CameraRemoved(Event, frozen=True, kw_only=True):
    """A person removed a camera; its history stays."""

    TAG: ClassVar[str] = "camera.removed"
    STREAM: ClassVar[str] = "cameras"
