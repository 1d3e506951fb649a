"""Stream `alerts`: what somebody is to be told, and what came of telling it."""

from datetime import datetime
from typing import ClassVar, Literal

from domain.events.assessments import Level, Stage
from domain.events.base import Event, Moment

Channel = Literal["webhook"]


class NotificationRequested(Event, frozen=True, kw_only=True):
    """Somebody is to be told of an event, or of a picture nobody could look at; all that is said.

    What is sent is made from this alone, so that every try sends the same.
    """

    TAG: ClassVar[str] = "notification.requested"
    STREAM: ClassVar[str] = "alerts"

    notification_id: str
    channel: Channel
    camera_name: str
    happened_at: Moment
    """When the last picture was taken."""
    summary: str
    reasons: tuple[str, ...] = ()
    late: bool = False
    """Assessed long after its pictures."""
    event_id: str | None = None
    """The event it is about, with its batch, stage, score and level; None: about a picture."""
    batch_id: str | None = None
    stage: Stage | None = None
    score: int | None = None
    level: Level | None = None
    shown_picture_id: str | None = None
    """The event's first picture."""
    picture_id: str | None = None
    """The picture that nobody could look at, and its file."""
    file_id: str | None = None

    @property
    def occurred_at(self) -> datetime:
        return self.happened_at


class NotificationSent(Event, frozen=True, kw_only=True):
    """The receiver took a notification."""

    TAG: ClassVar[str] = "notification.sent"
    STREAM: ClassVar[str] = "alerts"

    notification_id: str
    channel: Channel
    attempted_at: Moment
    seconds: float
    status: int
    """HTTP status that it answered."""
    event_id: str | None = None
    picture_id: str | None = None


class NotificationFailed(Event, frozen=True, kw_only=True):
    """A notification was given up; it lies among the dead letters, and may be redriven."""

    TAG: ClassVar[str] = "notification.failed"
    STREAM: ClassVar[str] = "alerts"

    notification_id: str
    channel: Channel
    attempted_at: Moment
    reason: str
    status: int | None = None
    """HTTP status of the last answer; None: there was none."""
    event_id: str | None = None
    picture_id: str | None = None
