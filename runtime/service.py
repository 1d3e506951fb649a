"""DrainingService: a mode service that finishes what it has in hand before it stops.

mode cancels a service's tasks as soon as `stop` is called (measured); this one first says that it
is stopping, waits until its work in hand is done, under one deadline, and only then lets go.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from mode import Service

from runtime.tasks import end

Result = TypeVar("Result")


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
            await asyncio.wait_for(self.drain(), self.drain_seconds)
        except TimeoutError:
            self.log.warning(
                "%s: not everything was finished within %s s; the rest stays pending in the "
                "log and is claimed at the next start",
                self.label,
                self.drain_seconds,
            )


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result | None:
    """Await `work`, or drop it and return None as soon as `stop` is set.

    For waits that have taken nothing yet, like a blocking read without a consumer group.
    """
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        await end(task, stopped)
