"""Requests that were answered: sending one again gets the same answer and has no second effect."""

from hashlib import sha256
from typing import Final

import msgspec

from streams.connection import redis_errors
from streams.log import EventLog
from streams.names import key

KEEP_SECONDS: Final = 24 * 3600
"""How long an answer is kept."""

CLAIM_SECONDS: Final = 300
"""A request that is not answered so long died with its process: it may be sent again."""


class KeptAnswer(msgspec.Struct, frozen=True):
    """What a request was answered."""

    status: int
    headers: dict[str, str]
    body: bytes


class Kept(msgspec.Struct, frozen=True):
    """A request that was seen before; without an answer it is still being worked on."""

    fingerprint: str
    answer: KeptAnswer | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Kept)


class SeenRequests:
    """The requests of the last day that carried an idempotency key."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def claim(self, name: str, fingerprint: str) -> Kept | None:
        """Take a request on; None: it is ours now, else what is known of the one before."""
        place = self._key(name)
        while True:
            async with redis_errors():
                ours = await self._log.client.set(
                    place, _encoder.encode(Kept(fingerprint)), nx=True, ex=CLAIM_SECONDS
                )
                found = None if ours else await self._log.client.get(place)
            if ours:
                return None
            if found is not None:  # Else it was given up in between.
                return _decoder.decode(found)

    async def keep(self, name: str, fingerprint: str, answer: KeptAnswer) -> None:
        """Remember what a claimed request was answered."""
        value = _encoder.encode(Kept(fingerprint, answer))
        async with redis_errors():
            await self._log.client.set(self._key(name), value, ex=KEEP_SECONDS)

    async def give_up(self, name: str) -> None:
        """Forget a claimed request that had no effect."""
        async with redis_errors():
            await self._log.client.delete(self._key(name))

    def _key(self, name: str) -> str:
        digest = sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
        return key(self._log.partition_of(digest), "request", digest)
