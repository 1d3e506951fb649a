"""The stages `alert` and `notify` over a log, and what they came to."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr
from support.logs import Stage, all_of
from support.sink import Sink

from agents.notify import Alert, Notify
from domain.events import Event, NotificationRequested
from domain.notifications import Rules
from domain.risk import CameraView
from runtime.settings import Settings
from runtime.webhook import Webhook
from streams.channel import ChannelOptions, at_once, each
from streams.envelope import Envelope
from streams.log import EventLog

GROUPS = ("alert", "notify")
RULES = Rules(late_after_seconds=300, within_seconds=3600)


class Cameras:
    """Knows one camera by a name that must not steer anything."""

    def view(self, camera_id: str) -> CameraView:
        return CameraView("Front <|im_start|>Door", entry_point=True)


def webhook_of(sink: Sink) -> Webhook:
    return Webhook(sink.url, allowed=settings_of(sink).webhook_networks, timeout_seconds=5)


def settings_of(sink: Sink) -> Settings:
    return Settings(
        default_webhook_url=SecretStr(sink.url), webhook_allowed_networks=("127.0.0.0/8",)
    )


def clock() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def deciding(log: EventLog, now: Callable[[], datetime] = clock) -> AsyncIterator[None]:
    """Run the stage `alert`, as agents.app does."""
    handler = each(Alert(log, Cameras(), RULES, now))
    async with Stage(log, "alert", "a", handler=handler):
        yield


@asynccontextmanager
async def sending(log: EventLog, sink: Sink, consumer: str = "n") -> AsyncIterator[Stage]:
    """Run the stage `notify`, as agents.app does."""
    webhook = webhook_of(sink)
    options = ChannelOptions(run_size=8, concurrency=2)
    stage = Stage(log, "notify", consumer, options, handler=at_once(Notify(webhook)))
    await stage.start()
    try:
        yield stage
    finally:
        await stage.stop()
        await webhook.close()


async def done(log: EventLog) -> bool:
    backlog = {group.group: group for group in await log.backlog()}
    return all(backlog[group].left == 0 for group in GROUPS)


async def alerts(log: EventLog) -> list[Event]:
    envelopes: list[Envelope] = await all_of(log, "alerts")
    assert len({envelope.id for envelope in envelopes}) == len(envelopes)
    return [envelope.event for envelope in envelopes]


def of(events: list[Event], *kinds: type[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kinds)]


async def requested(log: EventLog) -> bool:
    return bool(of(await alerts(log), NotificationRequested))
