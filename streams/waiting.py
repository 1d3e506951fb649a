"""What a paused consumer group has not handled yet: read beside it, and told of once an outage.

Reading takes nothing away from the group, and telling asks in the same atomic call whether the
entry still waits, so it cannot say so of one that was handled meanwhile, by whomever.
"""

from typing import Final

from domain.events import Event
from streams.connection import Script, redis_errors
from streams.consumer import follow_ups
from streams.envelope import START, Envelope, Position
from streams.log import EventLog
from streams.names import STREAM_OF, key, stream_key

TELL: Final = """
-- KEYS: stream, hash of what was told, stream the group appends to, target. ARGV: group, entry,
-- what is told of (a camera), then the fields of the event.
-- Appends once for each of these and outage: never for an entry that is not behind the one told of
-- last, and not before the group has finished something since.
-- Returns 'told', 'known', or 'handled' for an entry that waits no more.
local function behind(one, other)
  local ms, seq = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_seq = string.match(other, '^(%d+)-(%d+)$')
  if ms ~= other_ms then return tonumber(ms) > tonumber(other_ms) end
  return tonumber(seq) > tonumber(other_seq)
end
local waits = #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) > 0
for _, row in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for i = 1, #row, 2 do group[row[i]] = row[i + 1] end
  if group['name'] == ARGV[1] and not waits then
    local after = '(' .. group['last-delivered-id']
    waits = #redis.call('XRANGE', KEYS[1], after, ARGV[2], 'COUNT', 1) > 0
  end
end
if not waits then return 'handled' end
local done = '0-0'
if redis.call('EXISTS', KEYS[3]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[3])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then done = info[i + 1] end
  end
end
local told = redis.call('HGET', KEYS[2], ARGV[3])
if told then
  local entry, then_done = string.match(told, '^(%S+) (%S+)$')
  if then_done == done or not behind(ARGV[2], entry) then return 'known' end
end
redis.call('XADD', KEYS[4], '*', unpack(ARGV, 4))
redis.call('HSET', KEYS[2], ARGV[3], ARGV[2] .. ' ' .. done)
return 'told'
"""

_tell = Script(TELL)


class Waiting:
    """The entries of one group's stream that nobody has handled."""

    def __init__(self, log: EventLog, group: str, appends_to: str) -> None:
        self._log = log
        self._group = group
        self._appends_to = appends_to
        """The stream in which it shows that the group goes on."""
        self.stream = STREAM_OF[group]

    async def begin(self, partition: int) -> Position:
        """Return a position behind which everything lies that the group has not handled."""
        name = stream_key(partition, self.stream)
        async with redis_errors():
            groups = await self._log.client.xinfo_groups(name)
            pending = await self._log.client.xpending(name, self._group)
        row = next(row for row in groups if row["name"] == self._group.encode())
        delivered = Position.parse(row["last-delivered-id"])
        if not pending["min"]:
            return delivered
        first = Position.parse(pending["min"])
        return min(delivered, START if first == START else first.before())

    async def tell(self, waiting: Envelope, event: Event) -> bool:
        """Append `event`, that `waiting` waits, unless this outage was told of its camera.

        False when it does not wait any more: then nothing is said of it.
        """
        (new,) = follow_ups(waiting, (event,))
        keys = [
            stream_key(waiting.partition, self.stream),
            key(waiting.partition, "told", event.TAG),
            stream_key(waiting.partition, self._appends_to),
            stream_key(waiting.partition, event.STREAM),
        ]
        fields = self._log.codec.encode(new)
        arguments = [self._group, str(waiting.position), event.camera_id, *fields]
        return bool(await _tell.run(self._log.client, keys, arguments) != b"handled")
