"""Sessions of the page: a random token stands for an API key until it ends or is ended.

Redis keeps the hash of the token only, so who reads its data cannot take a session over.
"""

from hashlib import sha256
from secrets import token_urlsafe
from typing import Final

from streams.connection import redis_errors
from streams.log import EventLog
from streams.names import key

SESSION_SECONDS: Final = 12 * 3600


class Sessions:
    """The sessions of one installation, shared by every process of the API."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def begin(self, key_id: str) -> str:
        """Begin a session of a key; return its token."""
        token = token_urlsafe(32)
        async with redis_errors():
            await self._log.client.set(self._key(token), key_id, ex=SESSION_SECONDS)
        return token

    async def find(self, token: str) -> str | None:
        """Return the id of the key that a session stands for, None when there is none."""
        async with redis_errors():
            found = await self._log.client.get(self._key(token))
        return None if found is None else str(found.decode())

    async def end(self, token: str) -> None:
        """End a session."""
        async with redis_errors():
            await self._log.client.delete(self._key(token))

    def _key(self, token: str) -> str:
        digest = sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        return key(self._log.partition_of(digest), "session", digest)
