"""The role `notify`: what alerts becomes a notification in the log, and that a message.

Two stages, so that what is to be told stands in the log before anybody is called: `alert`
decides, once an event; `notify` sends, and says what came of it. A message may go out twice, with
the same id, when a process dies between the receiver's answer and the settlement; in the log it
is sent once.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from agents.assess import CameraDirectory
from domain.errors import HsiError, PermanentError, TransientError
from domain.events import (
    ActivityUnverified,
    Event,
    NotificationFailed,
    NotificationRequested,
    NotificationSent,
    RiskAssessed,
)
from domain.notification_message import message_of
from domain.notifications import Rules, is_passed, of_assessment, of_unverified
from domain.outcomes import Done, Outcome, Park, Retry
from runtime.webhook import Taken, status_of
from streams.envelope import Envelope
from streams.first import is_first
from streams.log import EventLog

logger = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


def say_paused(service: str, answers: bool, message: str) -> None:
    """Hear from the gate that the receiver went away or came back."""
    logger.log(logging.INFO if answers else logging.WARNING, "%s: %s", service, message)


class Sender(Protocol):
    """Takes a message to somebody."""

    async def send(self, message_id: str, body: bytes) -> Taken:
        """Return once the receiver has it; raises HsiError whose class says what to do."""
        ...


class Alert:
    """Handler of the `assessments` stream: what alerts somebody leads to one notification."""

    def __init__(
        self,
        log: EventLog,
        cameras: CameraDirectory,
        rules: Rules,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._log = log
        self._cameras = cameras
        self._rules = rules
        self._now = now

    async def __call__(self, envelope: Envelope) -> Outcome:
        """Decide about an assessment, or a picture told unverified; the rest is done."""
        wanted = self._wanted(envelope)
        if wanted is None:
            return Done()
        if is_passed(envelope.recorded_at, self._now(), self._rules):
            logger.info(
                "%s stood undecided for more than LATE_ALERT_MAX_AGE_SECONDS: nobody is told",
                wanted.event_id or wanted.picture_id,
            )
            return Done()
        thing = wanted.notification_id
        if _is_one_of_two(envelope.event) and not await is_first(
            self._log, envelope.partition, thing, envelope.id
        ):
            return Done()
        return Done((wanted,))

    def _wanted(self, envelope: Envelope) -> NotificationRequested | None:
        at = envelope.recorded_at
        match envelope.event:
            case RiskAssessed() as assessed:
                name = self._cameras.view(assessed.camera_id).name
                return of_assessment(assessed, at, name, self._rules)
            case ActivityUnverified() as told:
                name = self._cameras.view(told.camera_id).name
                return of_unverified(told, at, name, self._rules)
            case _:
                return None


def _is_one_of_two(event: Event) -> bool:
    """Say whether an event has two assessments, of the open batch and of the whole; told once."""
    return isinstance(event, RiskAssessed) and (event.stage == "fast_path" or event.is_fast_path)


class Notify:
    """Handler of the `alerts` stream: sends what is requested."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def __call__(self, envelope: Envelope) -> Outcome:
        """Send a notification; a receiver that is away leaves it waiting, without an attempt."""
        wanted = envelope.event
        if not isinstance(wanted, NotificationRequested):
            return Done(passed_by=True)
        attempted_at = _now()
        try:
            taken = await self._sender.send(wanted.notification_id, message_of(wanted))
        except HsiError as error:
            return _refused(wanted, error, attempted_at)
        sent = NotificationSent(
            camera_id=wanted.camera_id,
            notification_id=wanted.notification_id,
            channel=wanted.channel,
            attempted_at=attempted_at,
            seconds=taken.seconds,
            status=taken.status,
            event_id=wanted.event_id,
            picture_id=wanted.picture_id,
        )
        return Done((sent,))


def _refused(wanted: NotificationRequested, error: HsiError, attempted_at: datetime) -> Outcome:
    """Try again, or give up; the log is told once it is given up, which an outage never is."""
    failed = NotificationFailed(
        camera_id=wanted.camera_id,
        notification_id=wanted.notification_id,
        channel=wanted.channel,
        attempted_at=attempted_at,
        reason=str(error),
        status=status_of(error),
        event_id=wanted.event_id,
        picture_id=wanted.picture_id,
    )
    if isinstance(error, PermanentError):
        return Park(error, events=(failed,))
    after = error.retry_after if isinstance(error, TransientError) else None
    return Retry(error, after, if_parked=(failed,))
