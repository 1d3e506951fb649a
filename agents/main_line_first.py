"""MainLineFirst: holds a trial's work back while the main line is at work, for a bounded time.

A trial shares processors, memory and Redis with what it shadows. Nothing of it is urgent, and
between two pictures the main line rests: there a picture is compared. It waits in the hands of its
consumer, as an entry that nobody has settled, so a crash loses and doubles nothing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from domain.errors import ServiceUnavailableError
from runtime.tasks import is_set_within
from streams.main_line import Rest

YOUNG_MS: Final = 500
"""A picture younger than this is still on its way to the push; others come that go with it."""
QUIET_MS: Final = 15
"""So long after the last thing that happened, what follows from it (the push) is done; a main line
that is busy is looked at again after as long."""
PATIENCE_MS: Final = 5_000
"""A picture that has become so old waits no longer than LATE_MS, however busy it is."""
LATE_MS: Final = 50
"""Who is behind goes on, at most so much slower a picture: it must not stay behind for ever."""


def hold_ms(rest: Rest, recorded_ms: int, held_ms: int) -> int:
    """Return how long to wait until the next look; 0: now it is this picture's turn.

    `held_ms` is how long it was held back already, by a clock that nobody sets.
    """
    age = max(0, rest.now_ms - recorded_ms, held_ms)
    left = max(PATIENCE_MS - age, LATE_MS - held_ms)
    if left <= 0:
        return 0
    if age < YOUNG_MS:
        return YOUNG_MS - age
    return min(max(0, QUIET_MS - rest.quiet_ms), left)


class MainLineFirst:
    """Lets a trial's pictures through when it is their turn."""

    def __init__(
        self,
        look: Callable[[], Awaitable[Rest]],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[asyncio.Event, float], Awaitable[bool]] = is_set_within,
    ) -> None:
        """`pause` waits so many seconds, or until the event is set, and says whether it is."""
        self._look = look
        self._clock = clock
        self._pause = pause
        self.stopping = asyncio.Event()
        """Once set nobody is held back any more: what is in hand is to be finished."""

    async def turn(self, recorded_ms: int) -> None:
        """Return when a picture whose entry was recorded at `recorded_ms` may be looked at."""
        began = self._clock()
        while not self.stopping.is_set():
            try:
                rest = await self._look()
            except ServiceUnavailableError:
                return  # Nothing is known of the main line, and without Redis it is not at work.
            held_ms = int((self._clock() - began) * 1000)
            wait_ms = hold_ms(rest, recorded_ms, held_ms)
            if not wait_ms or await self._pause(self.stopping, wait_ms / 1000):
                return
