"""SceneViews: the small grey pictures that a camera's next ones are compared with.

They lie beside the stream `scenes` in Redis, one hash a partition, under the picture ids that its
events name. The events say which counts, so one that is written and never named is only dropped
again; one that is lost is made anew from the picture, or the camera begins with another.
"""

from collections.abc import Collection

from streams.connection import redis_errors
from streams.log import EventLog
from streams.names import key


class SceneViews:
    """The stored views of one partition's cameras."""

    def __init__(self, log: EventLog, partition: int) -> None:
        self._client = log.client
        self._key = key(partition, "scene-views")

    async def load(self, picture_id: str) -> bytes | None:
        """Return a view; None when it is not there."""
        async with redis_errors():
            value: bytes | None = await self._client.hget(self._key, picture_id)
        return value

    async def store(self, picture_id: str, view: bytes) -> None:
        """Keep a view, before the event that names it."""
        async with redis_errors():
            await self._client.hset(self._key, picture_id, view)

    async def keep_only(self, picture_ids: Collection[str]) -> None:
        """Drop every view that no comparison needs any more."""
        async with redis_errors():
            there = {name.decode() for name in await self._client.hkeys(self._key)}
            if gone := sorted(there - set(picture_ids)):
                await self._client.hdel(self._key, *gone)
