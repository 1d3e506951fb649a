"""Tasks that are ended have ended, even if they swallow a cancellation."""

import asyncio

from runtime.tasks import end


async def test_a_swallowed_cancellation_is_asked_for_again() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed += 1
        await asyncio.Event().wait()

    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("its own affair")

    tasks = [asyncio.ensure_future(stubborn()), asyncio.ensure_future(failing())]
    await asyncio.sleep(0)
    await asyncio.wait_for(end(*tasks), 5)
    assert swallowed == 1
    assert all(task.done() for task in tasks)
    await end(*tasks)
    await end()
