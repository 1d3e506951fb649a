"""Appending under the condition that nothing was appended to the stream since one looked."""

from collections.abc import Sequence
from typing import Final

from streams.connection import Script
from streams.envelope import NewEvent, Position
from streams.log import EventLog
from streams.names import stream_key

APPEND_IF: Final = """
-- KEYS: stream. ARGV: the last id it must have, then the fields of one entry.
-- Returns the new entry's id, or nil when the stream has moved on.
local last = '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = info[i + 1] end
  end
end
if last ~= ARGV[1] then return nil end
return redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
"""

_append_if = Script(APPEND_IF)


async def append_if_last(log: EventLog, new: NewEvent, last: Position) -> Position | None:
    """Append if `last` is still the newest position of the event's lane; None when it is not."""
    partition = log.partition_of(new.event.camera_id)
    fields: Sequence[str | bytes] = log.codec.encode(new)
    keys = [stream_key(partition, new.event.STREAM)]
    answer = await _append_if.run(log.client, keys, [str(last), *fields])
    return Position.parse(answer) if answer else None
