"""Waits that end early and tasks that end for certain: no cancellation gets lost on the way."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

ASK_AGAIN_SECONDS = 0.02


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and return once all have ended, however they end.

    Python 3.11's `wait_for`, inside which the Redis driver sends a command, swallows a
    cancellation that comes just as the sending ends; the task would then block in its read.
    """
    waiting = {task for task in tasks if not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=ASK_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


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


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for `event`, but not longer than `seconds`; answer whether it is set.

    With `asyncio.timeout`, since Python 3.11's `wait_for` can swallow a cancellation.
    """
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True
