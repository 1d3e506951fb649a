"""Sliding windows in Redis: how many requests somebody made within the last minute.

Every accepted request is kept with its time, so the limit holds for any sixty seconds, not for
whole minutes only; requests that were refused do not count. Redis' clock decides, for all
processes alike, and a restart of the API forgets nothing.
"""

from dataclasses import dataclass
from typing import Final

from streams.connection import Script
from streams.log import EventLog
from streams.names import key

WINDOW_SECONDS: Final = 60

HIT: Final = """
-- KEYS: sorted set of the accepted requests. ARGV: most in a window, window in microseconds.
-- Returns whether this one is accepted, how many more would be, microseconds until the next may.
local now = redis.call('TIME')
local at = now[1] * 1000000 + now[2]
local most, window = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', at - window)
local n = redis.call('ZCARD', KEYS[1])
if n >= most then
  local first = redis.call('ZRANGE', KEYS[1], n - most, n - most, 'WITHSCORES')
  return {0, 0, first[2] + window - at}
end
redis.call('ZADD', KEYS[1], at, string.format('%.0f-%d', at, n))
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
return {1, most - n - 1, 0}
"""

_hit = Script(HIT)


@dataclass(frozen=True, slots=True)
class Hit:
    """What the window says about one request."""

    accepted: bool
    remaining: int
    retry_seconds: float = 0.0


class RateWindows:
    """The windows of one installation."""

    def __init__(self, log: EventLog, window_seconds: float = WINDOW_SECONDS) -> None:
        self._log = log
        self._window_us = int(window_seconds * 1_000_000)

    async def hit(self, who: str, most: int) -> Hit:
        """Count a request of `who` unless there were `most` within the window."""
        name = key(self._log.partition_of(who), "rate", who)
        answer = await _hit.run(self._log.client, [name], [most, self._window_us])
        return Hit(bool(answer[0]), int(answer[1]), int(answer[2]) / 1_000_000)
