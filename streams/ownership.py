"""Owner: runs one partition's feed only while its lease is held.

A role that folds state from the log (the batcher) must be alone on a partition. Whoever holds the
lease takes over what the last owner left pending, at once and in order; whoever loses it hands
nothing more out, and whatever it still settles is refused by the lease's token.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from domain.errors import ServiceUnavailableError
from runtime.tasks import end, is_set_within
from streams.feed import REDIS_RETRY_SECONDS, PartitionFeed, Run
from streams.lease import RENEW_SECONDS, Lease

logger = logging.getLogger(__name__)


class Owner:
    """Takes, keeps and gives back one partition for one feed."""

    def __init__(
        self, feed: PartitionFeed, lease: Lease, on_owned: Callable[[int], Awaitable[None]]
    ) -> None:
        self.feed = feed
        self.lease = lease
        self.on_owned = on_owned
        """Rebuilds the role's state of the partition before its first entry is handed out."""
        self.owned = False

    async def serve(
        self, hand_out: Callable[[Run], Awaitable[None]], stopping: asyncio.Event
    ) -> None:
        """Own and serve the partition whenever it is free, until `stopping` is set."""
        while not stopping.is_set():
            try:
                if await self.lease.acquire() or await self.lease.renew():
                    await self._serve_owned(hand_out, stopping)
            except ServiceUnavailableError as error:
                logger.warning("%s waits for Redis: %s", self.feed.name, error)
                await asyncio.sleep(REDIS_RETRY_SECONDS)
                continue
            await is_set_within(stopping, RENEW_SECONDS)

    async def release(self) -> None:
        """Give the partition back, so that the next owner need not wait for the lease to end."""
        if self.owned:
            self.owned = False
            await self.lease.release()

    async def _serve_owned(
        self, hand_out: Callable[[Run], Awaitable[None]], stopping: asyncio.Event
    ) -> None:
        lost = asyncio.Event()
        keeper = asyncio.create_task(self._keep(lost, stopping), name=f"{self.feed.name} lease")
        try:
            self.owned = True
            await self.on_owned(self.feed.group.partition)
            self.feed.take_over()
            await self.feed.serve(hand_out, lost)
        finally:
            await end(keeper)

    async def _keep(self, lost: asyncio.Event, stopping: asyncio.Event) -> None:
        """Renew until the lease is lost or the service stops; say so through `lost`."""
        while not stopping.is_set():
            await is_set_within(stopping, RENEW_SECONDS)
            try:
                if not stopping.is_set() and not await self.lease.renew():
                    self.owned = False
                    logger.warning("%s: another process owns it now", self.feed.name)
                    break
            except ServiceUnavailableError:
                continue  # The reader says so; settling is fenced by the token all the same.
        lost.set()
