"""Where all streams of a partition end, in one round trip a partition."""

from collections.abc import Sequence
from typing import Final

from streams.connection import Script
from streams.envelope import START, Position
from streams.log import EventLog
from streams.names import stream_key

ENDS: Final = """
-- KEYS: streams. Returns the id of the last entry that each ever got, '0-0' for none.
local out = {}
for i = 1, #KEYS do
  out[i] = '0-0'
  if redis.call('EXISTS', KEYS[i]) == 1 then
    local info = redis.call('XINFO', 'STREAM', KEYS[i])
    for j = 1, #info, 2 do
      if info[j] == 'last-generated-id' then out[i] = info[j + 1] end
    end
  end
end
return out
"""

_ends = Script(ENDS)

Ends = dict[tuple[str, int], Position]


async def ends_of(log: EventLog, streams: Sequence[str]) -> Ends:
    """Return where each lane of these streams ends now, START where nothing ever was."""
    found: Ends = {}
    for partition in range(log.partitions):
        keys = [stream_key(partition, stream) for stream in streams]
        answer = await _ends.run(log.client, keys, [])
        for stream, entry_id in zip(streams, answer, strict=True):
            found[stream, partition] = Position.parse(entry_id) if entry_id else START
    return found
