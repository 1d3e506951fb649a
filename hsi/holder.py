"""Of several `hsi up` on one log one holds the control of the services: it obeys and tells.

The others run what they run, but a request to start or stop a service is none of theirs: two that
obeyed would both restart what one of them was asked for, and contradict each other's words. Who
holds it keeps it by a lease of the log; when it ends, or is not heard of, another one takes it.
"""

import asyncio
import socket
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from domain.errors import ServiceUnavailableError
from domain.events import SYSTEM
from streams.lease import LEASE_MS, RENEW_SECONDS, Lease
from streams.log import EventLog

_ROLE: Final = "supervisor"

LATE_SECONDS: Final = LEASE_MS / 1000
"""One that died without a word is not heard of any more after that."""

Say = Callable[[str], None]


def instance_of(secret: str) -> str:
    """Return what names an installation: this machine, and what its state folder alone knows.

    An `hsi up` that is started again on the same folder is the same one, and goes on at once; two
    on one folder there cannot be, since it is locked.
    """
    return f"{socket.gethostname()} {sha256(f'instance {secret}'.encode()).hexdigest()[:8]}"


class Holder:
    """Whether this installation holds the control of the services."""

    def __init__(self, instance: str, say: Say) -> None:
        self._instance = instance
        self._say = say
        self._told_of = ""
        self.is_ours = False

    async def take(self, log: EventLog) -> None:
        """Wait until the control is ours; say whose it is, should that take long."""
        lease = self._lease(log)
        waited = 0.0
        while not (await lease.acquire() or await lease.renew()):
            self.is_ours = False
            if waited > LATE_SECONDS:
                await self._tell_of(lease)
            await asyncio.sleep(RENEW_SECONDS)
            waited += RENEW_SECONDS
        if self._told_of:
            self._say(
                f"the `hsi up` on {self._told_of} has ended: this one obeys requests to start and "
                "stop services from now on"
            )
            self._told_of = ""
        self.is_ours = True

    async def _tell_of(self, lease: Lease) -> None:
        holder = await lease.holder()
        if holder and holder != self._told_of:
            self._told_of = holder
            self._say(
                f"another `hsi up` uses the same Redis, on {holder} (this one: {self._instance}). "
                "It obeys requests to start and stop services, for its own services; those of "
                "this one cannot be controlled until that one has ended"
            )

    async def keep(self, log: EventLog) -> None:
        """Hold it until it is somebody else's, which the lease may be after a long absence."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                if not await self.is_still_ours(log):
                    break
            except ServiceUnavailableError:
                continue  # Whoever follows the log says so.
        self.is_ours = False
        self._say("another `hsi up` obeys requests to start and stop services now")

    async def is_still_ours(self, log: EventLog) -> bool:
        """Hold it for another term; False when it is somebody else's by now."""
        return await self._lease(log).renew()

    async def give_back(self, log: EventLog) -> None:
        """Let another one have it at once."""
        self.is_ours = False
        await self._lease(log).release()

    def _lease(self, log: EventLog) -> Lease:
        lease = Lease(log, _ROLE, log.partition_of(SYSTEM))
        lease.token = self._instance
        return lease
