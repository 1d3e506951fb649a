"""Which of several entries may do what is to be done once: the first that asked, for ever its own.

A redelivery asks with the id of the same entry and hears the same, so whoever dies when, what
follows is appended by the settlement of that one entry, once.
"""

from typing import Final

from streams.connection import redis_errors
from streams.log import EventLog
from streams.names import key

REMEMBER_SECONDS: Final = 30 * 86_400
"""Much longer than the entries that ask for the same thing can lie apart."""


async def is_first(log: EventLog, partition: int, thing: str, entry_id: str) -> bool:
    """Say whether the entry with this id is the one that may do `thing`; it is if nobody was."""
    async with redis_errors():
        holder: bytes | None = await log.client.set(
            key(partition, "first", thing), entry_id, nx=True, get=True, ex=REMEMBER_SECONDS
        )
    return holder is None or holder.decode() == entry_id
