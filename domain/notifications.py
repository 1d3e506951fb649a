"""What is told: from an assessment, or a picture nobody could look at, to a notification."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from domain.events import ActivityUnverified, NotificationRequested, RiskAssessed
from domain.ids import notification_id
from domain.lateness import is_late, why_no_alert
from domain.names import clean_name

MOST_REASONS: Final = 8
CHANNEL: Final = "webhook"


@dataclass(frozen=True, slots=True)
class Rules:
    """When an assessment counts as late, and for how long one can still tell of it."""

    late_after_seconds: float
    within_seconds: int
    """Nobody has decided about it for so long: it is too old to wake anybody."""


def of_assessment(
    event: RiskAssessed, recorded_at: datetime, camera_name: str, rules: Rules
) -> NotificationRequested | None:
    """Return what is told of an assessment; None when it is to alert nobody."""
    if why_no_alert(event.ended_at, recorded_at, event.alert_within_seconds) is not None:
        return None
    weighty = sorted((s for s in event.signals if s.points), key=lambda s: -abs(s.points))
    return NotificationRequested(
        camera_id=event.camera_id,
        notification_id=notification_id(event.event_id, CHANNEL),
        channel=CHANNEL,
        camera_name=clean_name(camera_name),
        happened_at=event.ended_at,
        summary=event.summary,
        reasons=tuple(f"{sign.why} ({sign.points:+d})" for sign in weighty[:MOST_REASONS]),
        late=is_late(event.ended_at, recorded_at, rules.late_after_seconds),
        event_id=event.event_id,
        batch_id=event.batch_id,
        stage=event.stage,
        score=event.score,
        level=event.level,
        shown_picture_id=event.picture_ids[0] if event.picture_ids else None,
    )


def of_unverified(
    event: ActivityUnverified, recorded_at: datetime, camera_name: str, rules: Rules
) -> NotificationRequested:
    """Return what is told of a picture that came while nothing could look at it."""
    name = clean_name(camera_name)
    return NotificationRequested(
        camera_id=event.camera_id,
        notification_id=notification_id(event.picture_id, CHANNEL),
        channel=CHANNEL,
        camera_name=name,
        happened_at=event.captured_at,
        summary=f"A picture came from {name}, and nobody has looked at it: the {event.service}"
        " is away",
        late=is_late(event.captured_at, recorded_at, rules.late_after_seconds),
        picture_id=event.picture_id,
        file_id=event.file_id,
    )


def is_passed(recorded_at: datetime, now: datetime, rules: Rules) -> bool:
    """Say whether an assessment stood in the log so long undecided that it wakes nobody now."""
    return now - recorded_at > timedelta(seconds=rules.within_seconds)
