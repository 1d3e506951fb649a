"""What processes of agents say of the breakers that they were asked to reset."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from domain.events import BreakerReset
from streams.envelope import Envelope


class BreakerWords:
    """Hears the log's tail: the last word about each stage, and who waits for one."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[BreakerReset]] = {}
        self._last: dict[str, BreakerReset] = {}
        """Stage → the last word, for a request that is sent again."""

    def hear(self, envelope: Envelope) -> None:
        """Take an envelope of the log's tail."""
        if isinstance(event := envelope.event, BreakerReset):
            self._last[event.stage] = event
            waiting = self._waiting.get(event.answers)
            if waiting is not None and not waiting.done():
                waiting.set_result(event)

    @contextmanager
    def answer_to(self, request_id: str, stage: str) -> Iterator[asyncio.Future[BreakerReset]]:
        """Give what becomes the first answer to a request that is now sent."""
        waiting: asyncio.Future[BreakerReset] = asyncio.get_running_loop().create_future()
        last = self._last.get(stage)
        if last is not None and last.answers == request_id:
            waiting.set_result(last)
        self._waiting[request_id] = waiting
        try:
            yield waiting
        finally:
            del self._waiting[request_id]
