"""Stream `scenes`: whether a camera still looks at what it looked at."""

from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from domain.events.base import Event, Moment

SceneChangeType = Literal["view_blocked", "angle_changed", "view_tampered", "unknown"]
SceneVerdict = Literal[
    "same", "relit", "view_blocked", "angle_changed", "view_tampered", "unknown"
]
"""`same`: hardly a pixel differs; `relit`: the same view in other light or with somebody in it."""

SceneSeverity = Literal["high", "medium"]
BaselineReason = Literal["first", "light", "lost"]
"""The camera's first picture; light that changed slowly; the old one can no longer be read."""


class SceneView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A picture that stands for what a camera looked at."""

    picture_id: str
    file_id: str
    path: str
    uri: str
    captured_at: Moment


class SceneBaselineSet(Event, frozen=True, kw_only=True):
    """From now on the camera's pictures are compared with this one."""

    TAG: ClassVar[str] = "scene.baseline_set"
    STREAM: ClassVar[str] = "scenes"

    view: SceneView
    reason: BaselineReason

    @property
    def occurred_at(self) -> datetime:
        return self.view.captured_at


class SceneChecked(Event, frozen=True, kw_only=True):
    """A picture was compared with its camera's baseline."""

    TAG: ClassVar[str] = "scene.checked"
    STREAM: ClassVar[str] = "scenes"

    picture_id: str
    baseline_picture_id: str
    captured_at: Moment
    similarity: float
    """SSIM of both, 0 to 1."""
    structure: float
    """Share of the baseline's structure that is still where it was, whatever the light."""
    flat: float
    """Share of the baseline's structure where the picture shows nothing at all."""
    moved: float | None = None
    """How far the old view was found elsewhere, in picture widths; None: it was not found."""
    threshold: float
    verdict: SceneVerdict

    @property
    def occurred_at(self) -> datetime:
        return self.captured_at


class SceneChanged(Event, frozen=True, kw_only=True):
    """The camera does not look at what it looked at; said once a change."""

    TAG: ClassVar[str] = "scene.changed"
    STREAM: ClassVar[str] = "scenes"

    change_id: str
    change_type: SceneChangeType
    severity: SceneSeverity
    similarity: float
    structure: float
    threshold: float
    view: SceneView
    baseline: SceneView

    @property
    def occurred_at(self) -> datetime:
        return self.view.captured_at


class SceneRestored(Event, frozen=True, kw_only=True):
    """The camera looks at its baseline again, so its changes are over."""

    TAG: ClassVar[str] = "scene.restored"
    STREAM: ClassVar[str] = "scenes"

    change_ids: tuple[str, ...]
    picture_id: str
    captured_at: Moment

    @property
    def occurred_at(self) -> datetime:
        return self.captured_at


class SceneChangeAcknowledged(Event, frozen=True, kw_only=True):
    """A person has seen a change; where it lasts, what the camera shows is its baseline now."""

    TAG: ClassVar[str] = "scene.change_acknowledged"
    STREAM: ClassVar[str] = "scenes"

    change_id: str
    actor: str = "anonymous"
