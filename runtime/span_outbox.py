"""Spans of what a process has just done, on their way to the collector: bounded, best effort.

What stands in the log is exported from there, by who follows it, and survives everything. What
only this process knows (when a client was told, when a table was written) waits here: at most
MOST_SPANS, the oldest go first, and a collector that is away costs nothing but them.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from domain.spans import Span
from runtime.tasks import is_set_within

logger = logging.getLogger(__name__)

MOST_SPANS: Final = 2000
SEND_RUN: Final = 500
PACE_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 30.0


class Exporter(Protocol):
    """Sends spans somewhere."""

    @property
    def reason(self) -> str:
        """Return why the last export that failed did."""
        ...

    async def send(self, spans: Sequence[Span]) -> bool:
        """Send spans; False when they were not taken."""
        ...


class SpanOutbox:
    """Takes spans without ever blocking; `run` sends them."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._waiting: deque[Span] = deque(maxlen=MOST_SPANS)
        self._there = asyncio.Event()
        self.dropped = 0
        """Spans that had to go for newer ones."""

    def add(self, span: Span) -> None:
        """Take a span."""
        self.dropped += len(self._waiting) == MOST_SPANS
        self._waiting.append(span)
        self._there.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Send what waits, a second apart, until `stop` is set; then once more."""
        wait = PACE_SECONDS
        while not await is_set_within(stop, wait):
            await _either(self._there, stop)
            failed = not await self._send()
            wait = min(wait * 2, LONGEST_WAIT_SECONDS) if failed else PACE_SECONDS
        await self._send()

    async def _send(self) -> bool:
        """Send everything; False when the collector is away: what waits goes on waiting."""
        while run := list(self._waiting)[:SEND_RUN]:
            before = self.dropped
            if not await self._exporter.send(run):
                logger.warning("spans wait for the collector: %s", self._exporter.reason)
                return False
            # What was pushed out meanwhile was sent after all.
            pushed_out = min(self.dropped - before, len(run))
            self.dropped -= pushed_out
            for _ in range(len(run) - pushed_out):
                self._waiting.popleft()
        self._there.clear()
        return True


async def _either(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
