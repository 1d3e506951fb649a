"""Resets the breaker of a stage on request: its service is tried at once, its waits begin anew.

A request is an event of the stream `system`; every process that has the stage answers with one
event of its own, once it knows what came of the try.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from domain.errors import ServiceUnavailableError
from domain.events import SYSTEM, BreakerReset, BreakerResetRequested, BreakerTried
from domain.ids import follow_up_id
from runtime.tasks import unless_stopped
from streams.channel import StreamChannel
from streams.envelope import Envelope, NewEvent
from streams.gate import Gate
from streams.log import EventLog

logger = logging.getLogger(__name__)

TRY_SECONDS: Final = 5.0
"""How long the outcome of the try is waited for before it is said that there was none yet."""
LOOK_SECONDS: Final = 0.02


class BreakerResets:
    """What one process of agents does when a breaker of its stages is to be reset."""

    def __init__(self, log: EventLog, channels: Sequence[StreamChannel], consumer: str) -> None:
        self._log = log
        self._channels = channels
        """Of this process; they may be added later."""
        self._consumer = consumer
        self._asked: asyncio.Queue[tuple[str, StreamChannel, str]] = asyncio.Queue()

    def hear(self, envelope: Envelope) -> None:
        """Take an entry of the stream `system`."""
        event = envelope.event
        if not isinstance(event, BreakerResetRequested):
            return
        for channel in self._channels:
            if channel.group == event.stage:
                self._asked.put_nowait((envelope.id, channel, event.actor))

    async def run(self, stop: asyncio.Event) -> None:
        """Carry out what is asked for, in order, until `stop` is set."""
        while not stop.is_set():
            asked = await unless_stopped(stop, self._asked.get())
            if asked is not None:
                await self._reset(*asked)

    async def _reset(self, request_id: str, channel: StreamChannel, actor: str) -> None:
        tried = await self._try(channel)
        logger.info(
            "%s asked to reset the breaker of %s: %s",
            actor,
            channel.group,
            tried,
            extra={"action": "breaker_reset"},
        )
        event = BreakerReset(
            camera_id=SYSTEM,
            stage=channel.group,
            process=self._consumer,
            tried=tried,
            reset_at=datetime.now(UTC),
            answers=request_id,
        )
        new_id = follow_up_id(f"{request_id}/{self._consumer}", event.TAG)
        try:
            await self._log.append(
                NewEvent(new_id, event, correlation_id=request_id, causation_id=request_id)
            )
        except ServiceUnavailableError as error:
            # Who asked is told that nobody answered, which is how it looks from there.
            logger.warning("the reset of %s cannot be told: %s", channel.group, error)

    async def _try(self, channel: StreamChannel) -> BreakerTried:
        gate = channel.gate
        if not gate.closed:
            return "was_closed"
        before = gate.tries
        channel.reset_gate()
        until = time.monotonic() + TRY_SECONDS
        # Looked at for a moment, and only when somebody asked: a gate has nothing to wait on.
        while (tried := _tried(gate, before)) == "pending" and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
        return tried


def _tried(gate: Gate, before: int) -> BreakerTried:
    if not gate.closed:
        return "passed"
    return "failed" if gate.tries > before else "pending"
