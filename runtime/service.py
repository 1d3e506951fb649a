"""DrainingService: a mode service that finishes what it has in hand before it stops.

mode cancels a service's tasks as soon as `stop` is called (measured); this one first says that it
is stopping, waits until its work in hand is done, under one deadline, and only then lets go.
"""

import asyncio
from typing import Any

from mode import Service


class DrainingService(Service):
    """Subclasses override `drain`: stop taking, finish what is in hand, return when done."""

    drain_seconds = 10.0

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - handed through to mode untouched
        super().__init__(**kwargs)
        self.stopping = asyncio.Event()

    async def drain(self) -> None:
        """Return once nothing is in hand any more."""

    async def on_stop(self) -> None:
        """Drain under the deadline; what is left then stays pending in the log."""
        self.stopping.set()
        try:
            async with asyncio.timeout(self.drain_seconds):
                await self.drain()
        except TimeoutError:
            self.log.warning(
                "%s: not everything was finished within %s s; the rest stays pending in the "
                "log and is claimed at the next start",
                self.label,
                self.drain_seconds,
            )
