"""How busy the main line is: what its stages have in hand, and when they last got something.

Told on the log's own clock, in one round trip (in a cluster one a partition), for who wants to
work only while it rests.
"""

from dataclasses import dataclass
from typing import Final

from streams.connection import Script
from streams.log import EventLog
from streams.names import stream_key

STAGES: Final = {"files": "detect", "detections": "batch", "batches": "assess"}
"""Stream on the way from a file to the push → the group that must have handled it.

Nobody waits for what becomes of an assessment: a language model takes seconds."""

REST: Final = """
-- KEYS: streams. ARGV: for each the group that must have handled it.
-- Returns the milliseconds of the server's clock, those at which the last entry was recorded that
-- a group was given (0: none was), and 0; or now twice, and 1 once a group is found that has
-- something to do or in hand.
local now = redis.call('TIME')
local now_ms = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
local newest = 0
for i = 1, #KEYS do
  for _, row in ipairs(redis.call('XINFO', 'GROUPS', KEYS[i])) do
    if row[2] == ARGV[i] then
      local group = {}
      for j = 1, #row, 2 do group[row[j]] = row[j + 1] end
      local last, lag = group['last-delivered-id'], group['lag']
      newest = math.max(newest, tonumber(string.match(last, '^%d+')))
      -- Redis answers no lag after an XDEL or XTRIM below the group.
      if not lag then lag = #redis.call('XRANGE', KEYS[i], '(' .. last, '+', 'COUNT', 1) end
      if lag > 0 or group['pending'] > 0 then return {now_ms, now_ms, 1} end
    end
  end
end
return {now_ms, string.format('%.0f', newest), 0}
"""

_rest = Script(REST)


@dataclass(frozen=True, slots=True)
class Rest:
    """What the main line is at."""

    now_ms: int
    """The log's clock."""
    newest_ms: int
    """When something was recorded last that a stage was given, 0: never; now while it is busy."""
    busy: bool
    """Whether a stage has something in hand or to do."""

    @property
    def quiet_ms(self) -> int:
        """Return for how long nothing has happened; 0 while something is in hand."""
        return 0 if self.busy else max(0, self.now_ms - self.newest_ms)


async def rest_of(log: EventLog) -> Rest:
    """Look at all partitions; raises ServiceUnavailableError while Redis is away."""
    partitions = range(log.partitions)
    slots = [[p] for p in partitions] if log.cluster else [list(partitions)]
    found = [await _look(log, slot) for slot in slots]
    return Rest(
        max(each.now_ms for each in found),
        max(each.newest_ms for each in found),
        any(each.busy for each in found),
    )


async def _look(log: EventLog, slot: list[int]) -> Rest:
    keys = [stream_key(partition, stream) for partition in slot for stream in STAGES]
    now_ms, newest_ms, busy = await _rest.run(log.client, keys, [*STAGES.values()] * len(slot))
    return Rest(int(now_ms), int(newest_ms), busy == 1)
