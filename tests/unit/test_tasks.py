"""Tasks that are ended have ended, even if they swallow a cancellation; waits end in time."""

import asyncio
from contextlib import suppress

from runtime.tasks import end, is_set_within, unless_stopped


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


async def test_a_wait_for_an_event_ends_with_it_or_with_its_time() -> None:
    event = asyncio.Event()
    assert not await is_set_within(event, 0.01)
    asyncio.get_running_loop().call_soon(event.set)
    assert await is_set_within(event, 5)
    assert await is_set_within(event, 0)


async def test_a_cancelled_wait_is_cancelled_also_when_the_event_comes_at_the_same_time() -> None:
    event = asyncio.Event()
    task = asyncio.ensure_future(is_set_within(event, 5))
    await asyncio.sleep(0)
    event.set()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_work_is_dropped_when_it_is_time_to_stop() -> None:
    stop = asyncio.Event()
    dropped = asyncio.Event()

    async def work() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            dropped.set()
        return "never"

    asyncio.get_running_loop().call_soon(stop.set)
    assert await unless_stopped(stop, work()) is None
    assert dropped.is_set()

    async def quick() -> str:
        return "done"

    assert await unless_stopped(asyncio.Event(), quick()) == "done"
