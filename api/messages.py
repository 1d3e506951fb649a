"""What WebSocket clients are told: message types and how each is built from an envelope."""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from api.detection_messages import DetectionData, detection_data
from api.scene_messages import SceneChangeData, scene_change_data
from api.unverified_messages import UnverifiedData, unverified_data
from domain.events import (
    ActivityUnverified,
    AssessmentRefined,
    CameraRegistered,
    CameraRemoved,
    CameraUpdated,
    EventReviewed,
    Level,
    ObjectsDetected,
    RiskAssessed,
    SceneChangeAcknowledged,
    SceneChanged,
    SceneRestored,
    ServiceStateChanged,
    ServiceStatus,
    Stage,
    WhenUnavailable,
)
from domain.lateness import LATE_AFTER_SECONDS, NoAlert, is_late, why_no_alert
from streams.envelope import Envelope

REMEMBERED_EVENTS = 10_000
"""Events whose rule assessment is kept, so that a refinement can name its start as well."""


class EventData(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it stands after one assessment."""

    id: str
    event_id: str
    batch_id: str
    camera_id: str
    risk_score: int
    risk_level: Level
    summary: str
    started_at: datetime | None
    """None for a refinement by older software whose assessment this process has not seen."""
    ended_at: datetime
    stage: Stage
    is_fast_path: bool | None
    engine: Literal["rules", "rules+model"]
    model: str
    """Version of the rules, or name of the language model."""
    picture_id: str | None
    late: bool | None
    """Assessed more than LATE_AFTER_SECONDS after its last picture; None for a refinement whose
    assessment this process has not seen."""
    alert: bool
    """False: it came too long after its pictures to wake anybody with it."""
    alert_reason: NoAlert | None
    """Why it alerts nobody; null when it does."""


class CameraData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A change of a camera; fields that did not change are left out."""

    camera_id: str
    change: Literal["registered", "updated", "removed"]
    name: str | None = None
    folder: str | None = None
    source: str | None = None
    enabled: bool | None = None
    entry_point: bool | None = None
    when_unavailable: WhenUnavailable | None = None
    scene_change_threshold: float | None = None
    """0: SCENE_CHANGE_THRESHOLD counts again."""
    confirmed: bool | None = None


class ReviewData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A review mark or note; what did not change is left out."""

    event_id: str
    camera_id: str
    reviewed: bool | None = None
    notes: str | None = None


class ServiceData(msgspec.Struct, frozen=True, kw_only=True):
    """A service that a stage depends on, and how it is."""

    service: str
    status: ServiceStatus
    message: str
    changed_at: datetime
    paused_stages: tuple[str, ...] | None
    """Stages that pause because it is away; None: nobody has said."""


class _Logged(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    cursor: str


class EventMessage(_Logged, frozen=True, kw_only=True, tag="event"):
    """An event was assessed, or its assessment refined."""

    TOPIC: ClassVar[str] = "event.assessed"
    data: EventData


class CameraMessage(_Logged, frozen=True, kw_only=True, tag="camera_status"):
    """A camera was added, changed or removed."""

    TOPIC: ClassVar[str] = "camera.status"
    data: CameraData


class SceneChangeMessage(_Logged, frozen=True, kw_only=True, tag="scene_change"):
    """A camera no longer looks at what it looked at, or what became of that."""

    TOPIC: ClassVar[str] = "camera.scene_change"
    data: SceneChangeData


class ReviewMessage(_Logged, frozen=True, kw_only=True, tag="event_reviewed"):
    """A person looked at an event."""

    TOPIC: ClassVar[str] = "event.reviewed"
    data: ReviewData


class ServiceMessage(_Logged, frozen=True, kw_only=True, tag="service_status"):
    """A service went away or came back."""

    TOPIC: ClassVar[str] = "system.service"
    data: ServiceData


class UnverifiedMessage(_Logged, frozen=True, kw_only=True, tag="unverified_activity"):
    """A picture arrived while nothing can look at it."""

    TOPIC: ClassVar[str] = "event.unverified"
    data: UnverifiedData


class DetectionMessage(_Logged, frozen=True, kw_only=True, tag="detection"):
    """A model saw something in a picture."""

    TOPIC: ClassVar[str] = "detection.new"
    data: DetectionData


class Hello(_Logged, frozen=True, kw_only=True, tag="hello"):
    """First message of a connection: from here on nothing is missed."""

    channel: str
    resumed: bool
    ping_seconds: float
    idle_seconds: float


class Resumed(_Logged, frozen=True, kw_only=True, tag="resumed"):
    """Everything behind the client's cursor has been sent; what follows is live."""

    count: int


ErrorCode = Literal[
    "invalid_json",
    "invalid_message_format",
    "unknown_message_type",
    "validation_error",
    "invalid_cursor",
    "cursor_too_old",
]


class ErrorMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="error"):
    """What the client sent cannot be used, and why."""

    code: ErrorCode
    message: str


class Subscribed(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="subscribed"):
    """What the client is told of from here on, in answer to subscribe and unsubscribe."""

    patterns: list[str]


class Pong(msgspec.Struct, frozen=True, tag_field="type", tag="pong"):
    """Answer to a client's ping."""


Message = (
    EventMessage
    | UnverifiedMessage
    | CameraMessage
    | SceneChangeMessage
    | ReviewMessage
    | ServiceMessage
    | DetectionMessage
)
"""What is told of entries of the log."""

Answer = Hello | Resumed | Subscribed | ErrorMessage | Pong
"""What one client is told about its own connection."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """A rule assessment as it was told, and whether it was late."""

    event: RiskAssessed
    late: bool


class MessageBuilder:
    """Turns envelopes into messages; remembers what a refinement does not repeat."""

    def __init__(
        self,
        elder: "MessageBuilder | None" = None,
        *,
        late_after_seconds: float = LATE_AFTER_SECONDS,
    ) -> None:
        self._assessed: OrderedDict[str, Assessment] = OrderedDict()
        self._late_after_seconds = late_after_seconds
        self._elder = elder
        """Asked for what this builder has not seen (a replay asks the live feed's)."""

    def build(self, envelope: Envelope, cursor: str) -> Message | None:
        """Return the message for clients, None for what they are not told."""
        if envelope.only_for:
            return None  # Appended anew for one group; clients were told when it first came.
        match envelope.event:
            case RiskAssessed() as event:
                late = is_late(event.ended_at, envelope.recorded_at, self._late_after_seconds)
                self._remember(Assessment(event, late))
                return EventMessage(data=_assessed(event, envelope, late=late), cursor=cursor)
            case AssessmentRefined() as event:
                data = _refined(event, envelope, self.assessment(event.event_id))
                return EventMessage(data=data, cursor=cursor)
            case _:
                return _told_by_itself(envelope, cursor)

    def assessment(self, event_id: str) -> Assessment | None:
        """Return the newest rule assessment seen of an event."""
        found = self._assessed.get(event_id)
        if found is None and self._elder is not None:
            return self._elder.assessment(event_id)
        return found

    def _remember(self, assessment: Assessment) -> None:
        event_id = assessment.event.event_id
        self._assessed[event_id] = assessment
        self._assessed.move_to_end(event_id)
        if len(self._assessed) > REMEMBERED_EVENTS:
            self._assessed.popitem(last=False)


def _told_by_itself(envelope: Envelope, cursor: str) -> Message | None:
    """Return the message of an event that needs nothing which came before it."""
    match event := envelope.event:
        case ActivityUnverified():
            return UnverifiedMessage(data=unverified_data(event, envelope), cursor=cursor)
        case EventReviewed():
            return ReviewMessage(
                data=ReviewData(
                    event_id=event.event_id,
                    camera_id=event.camera_id,
                    reviewed=event.reviewed,
                    notes=event.notes,
                ),
                cursor=cursor,
            )
        case ServiceStateChanged():
            return ServiceMessage(data=service_data(event), cursor=cursor)
        case CameraRegistered() | CameraUpdated() | CameraRemoved():
            return CameraMessage(data=_camera(event), cursor=cursor)
        case SceneChanged() | SceneRestored() | SceneChangeAcknowledged():
            return SceneChangeMessage(data=scene_change_data(event, envelope), cursor=cursor)
        case ObjectsDetected():
            data = detection_data(event)
            return None if data is None else DetectionMessage(data=data, cursor=cursor)
        case _:
            return None


def _no_alert(event: RiskAssessed | AssessmentRefined, envelope: Envelope) -> NoAlert | None:
    return why_no_alert(event.ended_at, envelope.recorded_at, event.alert_within_seconds)


def _assessed(event: RiskAssessed, envelope: Envelope, *, late: bool) -> EventData:
    no_alert = _no_alert(event, envelope)
    return EventData(
        id=event.event_id,
        event_id=event.event_id,
        batch_id=event.batch_id,
        camera_id=event.camera_id,
        risk_score=event.score,
        risk_level=event.level,
        summary=event.summary,
        started_at=event.started_at,
        ended_at=event.ended_at,
        stage=event.stage,
        is_fast_path=event.is_fast_path,
        engine="rules",
        model=event.rules_version,
        picture_id=event.picture_ids[0] if event.picture_ids else None,
        late=late,
        alert=no_alert is None,
        alert_reason=no_alert,
    )


def _refined(event: AssessmentRefined, envelope: Envelope, found: Assessment | None) -> EventData:
    no_alert = _no_alert(event, envelope)
    # After a restart the assessment may not have been seen; the event repeats what is needed.
    assessed = found.event if found else event
    return EventData(
        id=event.event_id,
        event_id=event.event_id,
        batch_id=event.batch_id,
        camera_id=event.camera_id,
        risk_score=event.score,
        risk_level=event.level,
        summary=event.summary,
        started_at=assessed.started_at,
        ended_at=event.ended_at,
        stage=event.stage,
        is_fast_path=assessed.is_fast_path,
        engine="rules+model",
        model=event.model,
        picture_id=assessed.picture_ids[0] if assessed.picture_ids else None,
        late=found.late if found else None,
        alert=no_alert is None,
        alert_reason=no_alert,
    )


def _camera(event: CameraRegistered | CameraUpdated | CameraRemoved) -> CameraData:
    match event:
        case CameraRegistered():
            return CameraData(
                camera_id=event.camera_id,
                change="registered",
                name=event.name,
                folder=event.folder,
                source=event.source,
                enabled=event.enabled,
                entry_point=event.entry_point,
                when_unavailable=event.when_unavailable,
                scene_change_threshold=event.scene_change_threshold,
            )
        case CameraUpdated():
            return CameraData(
                camera_id=event.camera_id,
                change="updated",
                name=event.name,
                enabled=event.enabled,
                entry_point=event.entry_point,
                when_unavailable=event.when_unavailable,
                scene_change_threshold=event.scene_change_threshold,
                confirmed=event.confirmed,
            )
        case CameraRemoved():
            return CameraData(camera_id=event.camera_id, change="removed")


def service_data(event: ServiceStateChanged) -> ServiceData:
    """Return what clients are told about a service."""
    return ServiceData(
        service=event.service,
        status=event.status,
        message=event.message,
        changed_at=event.changed_at,
        paused_stages=event.paused_stages,
    )
