"""Take-over with the real waits: what a crashed consumer held is in other hands within 10 s."""

import asyncio
import time
from collections.abc import Sequence

from support.logs import Stage, detected, new, opened, received

from domain.outcomes import Done, Outcome
from streams.channel import ChannelOptions, Handler
from streams.envelope import Envelope

MOST_SECONDS = 10.0


async def test_a_crashed_consumers_entries_are_soon_in_other_hands(valkey_url: str) -> None:
    """One shared group (detect) and one owned partition (batch) at the same time."""
    async with opened(valkey_url) as log:
        seconds = await asyncio.gather(
            _taken_over(valkey_url, "detect", ChannelOptions()),
            _taken_over(valkey_url, "batch", ChannelOptions(on_owned=_nothing_to_fold)),
        )
        assert (await log.backlog())[0].left == 0
    assert max(seconds) <= MOST_SECONDS


async def _nothing_to_fold(partition: int) -> None:
    """Rebuild no state."""


async def _taken_over(url: str, group: str, options: ChannelOptions) -> float:
    """Return the seconds from the crash of who held an entry to its delivery to another."""
    taken = {"one": asyncio.Event(), "two": asyncio.Event()}

    def handler_of(name: str, *, hangs: bool) -> Handler:
        async def handler(envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
            taken[name].set()
            if hangs:
                await asyncio.Event().wait()
            return [Done()] * len(envelopes)

        return handler

    async with opened(url) as log, opened(url) as other:
        await log.append(new(received("a") if group == "detect" else detected("a")))
        one = Stage(log, group, f"{group}-one", options, handler=handler_of("one", hangs=True))
        two = Stage(other, group, f"{group}-two", options, handler=handler_of("two", hangs=False))
        await one.start()
        await asyncio.wait_for(taken["one"].wait(), 5)
        await two.start()
        began = time.monotonic()
        await one.crash()
        await asyncio.wait_for(taken["two"].wait(), 2 * MOST_SECONDS)
        seconds = time.monotonic() - began
        await two.stop()
    return seconds
