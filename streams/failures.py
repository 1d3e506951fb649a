"""Failures: when a handler failed at an entry, and at what, until the entry is settled.

They are written when a handler fails, not before: an entry that is settled at its first try costs
nothing. What was written goes into the event that says the entry was parked.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import msgspec

from domain.errors import ServiceUnavailableError
from domain.events import FailedAttempt
from streams.connection import Script, redis_errors
from streams.envelope import Position
from streams.log import EventLog
from streams.names import failures_key

logger = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 0.5
"""Between two tries while Redis is away."""
KEEP_SECONDS: Final = 30 * 86_400
"""How long they outlive a process that died between settling an entry and forgetting them."""

NOTE: Final = """
-- KEYS: failures of each entry. ARGV: seconds to keep them, then for each its attempt and what
-- is known of it. The same attempt again changes nothing.
for i = 1, #KEYS do
  redis.call('HSETNX', KEYS[i], ARGV[2 * i], ARGV[2 * i + 1])
  redis.call('EXPIRE', KEYS[i], ARGV[1])
end
"""

KNOWN: Final = """
-- KEYS: failures of each entry. Returns what is known of each one's attempts.
local out = {}
for i = 1, #KEYS do out[i] = redis.call('HVALS', KEYS[i]) end
return out
"""

_note = Script(NOTE)
_known = Script(KNOWN)
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(FailedAttempt)


@dataclass(frozen=True, slots=True)
class Failed:
    """A handler has failed at an entry just now."""

    position: Position
    attempt: int
    error: BaseException
    retry_seconds: float | None
    """The wait before the next try; None: this was the last."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Failures:
    """What is known of the entries that one group has in one partition."""

    def __init__(self, log: EventLog, group: str, partition: int) -> None:
        self._log = log
        self._group = group
        self._partition = partition

    async def note(self, failed: Sequence[Failed]) -> None:
        """Write down what has failed; waits for Redis as long as it takes."""
        if not failed:
            return
        arguments: list[str | bytes | int] = [KEEP_SECONDS]
        for each in failed:
            attempt = FailedAttempt(
                attempt=each.attempt,
                at=each.at,
                cause=type(each.error).__name__,
                retry_seconds=each.retry_seconds,
            )
            arguments += [each.attempt, _encoder.encode(attempt)]
        keys = self._keys([each.position for each in failed])
        while True:
            try:
                await _note.run(self._log.client, keys, arguments)
            except ServiceUnavailableError as error:
                logger.warning("%s cannot write down yet what failed: %s", self._group, error)
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                return

    async def known(self, positions: Sequence[Position]) -> list[tuple[FailedAttempt, ...]]:
        """Return the failed attempts at each of these entries, the first one first."""
        answer = await _known.run(self._log.client, self._keys(positions), [])
        return [
            tuple(sorted(map(_decoder.decode, values), key=lambda each: each.attempt))
            for values in answer
        ]

    async def forget(self, positions: Sequence[Position]) -> None:
        """Forget entries that are settled; without Redis they are forgotten in their time."""
        if positions:
            with suppress(ServiceUnavailableError):
                async with redis_errors():
                    await self._log.client.delete(*self._keys(positions))

    def _keys(self, positions: Sequence[Position]) -> list[str]:
        return [failures_key(self._partition, self._group, str(each)) for each in positions]
