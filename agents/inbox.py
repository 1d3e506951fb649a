"""Inbox: paths that want a look; what arrives now goes before what was found lying there.

A path is in it once, and looked at by one worker at a time. Both sides are bounded: a live path
that does not fit is refused (the next scan finds it), a backlog path waits for room.
"""

import asyncio
from collections import deque


class Inbox:
    """The paths between those who find files and those who look at them."""

    def __init__(self, *, most_live: int = 10_000, most_backlog: int = 64) -> None:
        self._most_live = most_live
        self._most_backlog = most_backlog
        self._live: dict[str, bool] = {}
        self._backlog: deque[str] = deque()
        self._busy: dict[str, bool | None] = {}
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._live) + len(self._backlog)

    def offer(self, path: str, *, is_new: bool = False) -> bool:
        """Put a path in front of the backlog; answers whether there was room.

        `is_new` says that the path itself appeared, not only what is in it.
        """
        if path not in self._live and len(self._live) >= self._most_live:
            return False
        self._live[path] = self._live.get(path, False) or is_new
        self._changed.set()
        return True

    async def offer_backlog(self, path: str) -> None:
        """Put a path at the end, once there is room."""
        while len(self._backlog) >= self._most_backlog:
            self._room.clear()
            await self._room.wait()
        self._backlog.append(path)
        self._changed.set()

    async def take(self) -> tuple[str, bool] | None:
        """Wait for the next path and whether it is new; None once the inbox is closed."""
        while not self._closed:
            taken = self._next()
            if taken is not None:
                return taken
            self._changed.clear()
            await self._changed.wait()
        return None

    def done(self, path: str) -> None:
        """Say that the look is over; a change that came meanwhile puts the path back."""
        again = self._busy.pop(path, None)
        if again is not None:
            self.offer(path, is_new=again)

    def close(self) -> None:
        """Hand nothing out any more."""
        self._closed = True
        self._changed.set()

    def _next(self) -> tuple[str, bool] | None:
        while self._live:
            path = next(iter(self._live))
            if self._claim(path, is_new=(is_new := self._live.pop(path))):
                return path, is_new
        while self._backlog:
            path = self._backlog.popleft()
            self._room.set()
            if self._claim(path, is_new=False):
                return path, False
        return None

    def _claim(self, path: str, *, is_new: bool) -> bool:
        if path in self._busy:
            self._busy[path] = bool(self._busy[path]) or is_new
            return False
        self._busy[path] = None
        return True
