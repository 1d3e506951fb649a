"""When clients were told: the last span of a trace, made where the message left this process."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final

from api.broadcast import Broadcaster
from domain.spans import Attribute
from runtime.settings import Settings
from runtime.span_outbox import SpanOutbox
from runtime.tasks import end
from runtime.tracing import open_exporter
from streams.envelope import Envelope
from streams.spans import step_span

FINISH_SECONDS: Final = 6.0
"""How long the last spans may take when the process ends."""


class Pushes:
    """Makes spans of live messages; what a resuming client is fed later is no push."""

    def __init__(self, outbox: SpanOutbox, instance: str) -> None:
        self._outbox = outbox
        self._instance = instance

    def told(self, channel: str, envelope: Envelope, clients: int) -> None:
        """Take note of a message that has just been written; nobody there, nothing pushed."""
        if not clients:
            return
        facts: dict[str, Attribute] = {
            "service.instance.id": self._instance,
            "hsi.channel": channel,
            "hsi.clients": clients,
        }
        span = step_span(envelope, "push", time.time_ns(), facts)
        if span is not None:
            self._outbox.add(span)


def follow_pushes(settings: Settings, broadcaster: Broadcaster, stack: AsyncExitStack) -> None:
    """Send spans of what clients are told, where a collector is configured."""
    exporter = open_exporter(settings, "api")
    if exporter is None:
        return
    stack.callback(exporter.close)
    outbox, stop = SpanOutbox(exporter), asyncio.Event()
    task = asyncio.create_task(outbox.run(stop), name="push-spans")

    async def finish() -> None:
        stop.set()
        await asyncio.wait({task}, timeout=FINISH_SECONDS)
        await end(task)

    stack.push_async_callback(finish)
    pushes = Pushes(outbox, exporter.instance)
    for channel in broadcaster.channels.values():
        channel.on_told = pushes.told
