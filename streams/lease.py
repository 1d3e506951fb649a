"""Lease: one owner of a partition at a time, fenced by a token that settling checks."""

import secrets
from collections.abc import Sequence

from streams import scripts
from streams.connection import Script, redis_errors
from streams.envelope import START, NewEvent, Position
from streams.log import EventLog
from streams.names import key, stream_key

LEASE_MS = 7_000
"""A dead owner's partition is free after this long; the owner renews four times as often, and who
waits for it asks as often: at most 9 s until it is in other hands."""

RENEW_SECONDS = LEASE_MS / 4 / 1000

_renew = Script(scripts.RENEW)
_leased_append = Script(scripts.LEASED_APPEND)


class Lease:
    """The right of one process to be a role's only owner of one partition."""

    def __init__(self, log: EventLog, role: str, partition: int) -> None:
        self.log = log
        self.partition = partition
        self.key = key(partition, "lease", role)
        self.token = secrets.token_hex(8)
        self.folded = ("", START)
        """The stream that the owner folds its state from, and how far it has: what was decided on
        another end of that stream is refused. An owner without a fold leaves it empty."""

    @property
    def fence(self) -> tuple[str, str]:
        """Return the key of the folded stream and where it must end ('' if anywhere)."""
        stream, position = self.folded
        return (stream_key(self.partition, stream), str(position)) if stream else (self.key, "")

    async def acquire(self) -> bool:
        """Take the lease if nobody holds it."""
        async with redis_errors():
            taken = await self.log.client.set(self.key, self.token, nx=True, px=LEASE_MS)
        return bool(taken)

    async def renew(self) -> bool:
        """Hold it for another term; False when it is somebody else's by now."""
        return bool(await _renew.run(self.log.client, [self.key], [self.token, LEASE_MS]))

    async def holder(self) -> str:
        """Return the token of whoever holds it, '' for nobody."""
        async with redis_errors():
            token = await self.log.client.get(self.key)
        return token.decode() if token else ""

    async def release(self) -> None:
        """Give it back at once, so that the next owner need not wait."""
        await _renew.run(self.log.client, [self.key], [self.token, 0])

    async def append(self, news: Sequence[NewEvent]) -> list[Position] | None:
        """Append events if the lease is still ours, atomically; None when it is not.

        Raises BehindLogError when the log does not end where the owner has folded it to.
        """
        folded, end = self.fence
        keys = [self.key, folded]
        arguments: list[str | bytes | int] = [self.token, end]
        for new in news:
            keys.append(stream_key(self.partition, new.event.STREAM))
            fields = self.log.codec.encode(new)
            arguments += [len(fields), *fields]
        answer = await _leased_append.run(self.log.client, keys, arguments)
        if answer is None:
            return None
        positions = [Position.parse(entry) for entry in answer]
        for new, position in zip(news, positions, strict=True):
            self.log.continuity.saw(stream_key(self.partition, new.event.STREAM), position)
        return positions
