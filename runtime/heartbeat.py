"""Signs of life: a process's event loop puts a byte into a pipe that its supervisor looks into.

A loop that hangs, or a process that was stopped, puts none in. Nothing is asked and nobody waits:
a sign costs one system call every few seconds, the disk and the network have no part in it.
"""

import asyncio
import os
import stat
from contextlib import suppress
from typing import Final

from runtime.tasks import is_set_within

VARIABLE: Final = "HSI_HEARTBEAT_FD"
"""Names the writing end for the child; no setting, nobody else has such a pipe."""

BEAT_SECONDS: Final = 5.0


class Pulse:
    """The supervisor's side: a pipe for one life of a process."""

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)
        # The child must not wait for a supervisor that has no time to look.
        os.set_blocking(self.writing, False)

    def given(self) -> None:
        """Let go of the writing end: the child has it."""
        os.close(self.writing)

    def heard(self) -> bool:
        """Say whether there was a sign since the last look."""
        try:
            return bool(os.read(self._reading, 65_536))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Let go of the reading end."""
        os.close(self._reading)


async def beat(stop: asyncio.Event) -> None:
    """Give a sign every few seconds until `stop` is set, where a supervisor looks for it."""
    pipe = _pipe(os.environ.pop(VARIABLE, ""))
    while not stop.is_set():
        if pipe is not None:
            # A pipe that is full, or whose reader is gone, has nobody who misses this sign.
            with suppress(OSError):
                os.write(pipe, b".")
        await is_set_within(stop, BEAT_SECONDS)


def _pipe(given: str) -> int | None:
    """Return the pipe that was given; None for anything else that has the number by now."""
    try:
        number = int(given)
        return number if stat.S_ISFIFO(os.fstat(number).st_mode) else None
    except (ValueError, OSError):
        return None
