"""Turns: so many calls at once over two lanes; one goes first, the other never starves."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

FIRST_IN_A_ROW = 3
"""Turns that the first lane gets while the other waits; then the other gets one."""


class Turns:
    """Hands out `at_once` turns among those who wait, oldest first within a lane."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: dict[bool, deque[asyncio.Future[None]]] = {True: deque(), False: deque()}
        self._in_a_row = 0

    @asynccontextmanager
    async def take(self, *, first: bool) -> AsyncIterator[None]:
        """Wait for a turn and hold it for the block."""
        await self._enter(first)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, first: bool) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting[first].append(turn)
        self._hand_on()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()  # It came just as the wait ended: others shall have it.
            else:
                self._waiting[first].remove(turn)
            raise

    def _leave(self) -> None:
        self._free += 1
        self._hand_on()

    def _hand_on(self) -> None:
        while self._free and (self._waiting[True] or self._waiting[False]):
            lane = self._next_lane()
            self._free -= 1
            self._waiting[lane].popleft().set_result(None)

    def _next_lane(self) -> bool:
        if not self._waiting[False]:
            return True
        first = bool(self._waiting[True]) and self._in_a_row < FIRST_IN_A_ROW
        self._in_a_row = self._in_a_row + 1 if first else 0
        return first
