"""Ending tasks for certain: a cancellation can get lost, so it is asked for until it took."""

import asyncio
from typing import Any

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
