"""What a receiver of notifications gets: one JSON object, made of the notification alone."""

from datetime import datetime
from typing import Literal

import msgspec

from domain.events import Level, NotificationRequested


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a webhook call."""

    id: str
    """The notification's; the header Idempotency-Key has it, too. The same in every try."""
    type: Literal["event", "unverified", "test"]
    event_id: str | None
    camera_id: str | None
    camera: str | None
    level: Level | None
    score: int | None
    summary: str
    reasons: tuple[str, ...]
    occurred_at: datetime
    """When the last picture was taken."""
    late: bool
    unverified: bool
    """True: a picture came, and nobody has looked at it."""
    links: dict[str, str]
    """Paths below the address of this installation's API."""


def message_of(wanted: NotificationRequested) -> bytes:
    """Return what is sent; the same bytes whenever it is asked for."""
    unverified = wanted.event_id is None
    return msgspec.json.encode(
        Message(
            id=wanted.notification_id,
            type="unverified" if unverified else "event",
            event_id=wanted.event_id,
            camera_id=wanted.camera_id,
            camera=wanted.camera_name,
            level=wanted.level,
            score=wanted.score,
            summary=wanted.summary,
            reasons=wanted.reasons,
            occurred_at=wanted.happened_at,
            late=wanted.late,
            unverified=unverified,
            links=_links(wanted),
        )
    )


def trial_message(message_id: str, app_name: str, at: datetime) -> bytes:
    """Return what is sent to try the channel."""
    return msgspec.json.encode(
        Message(
            id=message_id,
            type="test",
            event_id=None,
            camera_id=None,
            camera=None,
            level=None,
            score=None,
            summary=f"This is a test by {app_name}: nothing has happened.",
            reasons=(),
            occurred_at=at,
            late=False,
            unverified=False,
            links={},
        )
    )


def _links(wanted: NotificationRequested) -> dict[str, str]:
    links: dict[str, str] = {}
    if wanted.event_id is not None:
        event = f"/api/events/{wanted.event_id}"
        links = {"event": event, "lineage": f"{event}/lineage"}
    if wanted.file_id is not None:
        links["lineage"] = f"/api/files/{wanted.file_id}/lineage"
    if (picture := wanted.shown_picture_id or wanted.picture_id) is not None:
        links["image"] = f"/api/pictures/{picture}/image"
    return links
