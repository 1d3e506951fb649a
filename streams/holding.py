"""Holding a lease for as long as a piece of work lasts, renewed beside it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from domain.errors import HsiError, ServiceUnavailableError
from runtime.tasks import end
from streams.lease import RENEW_SECONDS, Lease


class HeldElsewhereError(HsiError):
    """Another process does this very work at present."""


@asynccontextmanager
async def holding(lease: Lease, work: str) -> AsyncIterator[asyncio.Event]:
    """Hold `lease` over the block; what is given is set once it is somebody else's.

    Raises HeldElsewhereError, naming `work`, when another process holds it.
    """
    if not await lease.acquire():
        raise HeldElsewhereError(f"{work} runs in another process already; wait until it is done")
    lost = asyncio.Event()
    keeper = asyncio.create_task(_keep(lease, lost), name=f"lease for {work}")
    try:
        yield lost
    finally:
        await end(keeper)
        with suppress(ServiceUnavailableError):  # It ends by itself in a few seconds.
            await lease.release()


async def _keep(lease: Lease, lost: asyncio.Event) -> None:
    while not lost.is_set():
        await asyncio.sleep(RENEW_SECONDS)
        try:
            if not await lease.renew():
                lost.set()
        except ServiceUnavailableError:
            continue  # Redis is away for everybody; whoever holds it then goes on.
