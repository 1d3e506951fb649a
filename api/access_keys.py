"""API keys: those of API_KEYS and those that were given out by name, folded from the log.

Every process keeps the fold in memory, so keys count while PostgreSQL is away. Only hashes are
kept. Given keys are compared with every hash in constant time: how long an answer takes says
nothing about a key that nearly fits.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest
from secrets import token_hex, token_urlsafe
from typing import Final

from domain.events import SYSTEM, ApiKeyCreated, ApiKeyRevoked, Event, KeyRole
from projections.access_queries import KeyRow
from projections.queries import Queries
from streams.envelope import START, Envelope
from streams.log import EventLog

PREFIX: Final = "hsi_"
"""How a key that we made begins, so that scanners for secrets in texts can find it."""

MOST_KEYS: Final = 500

PROJECTION: Final = "access"
_READ_RUN: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key that counts."""

    id: str
    name: str
    role: KeyRole
    digest: bytes
    cameras: frozenset[str] | None
    created_by: str | None
    """None for a key of API_KEYS."""
    created_at: datetime | None


def digest_of(given: str) -> bytes:
    """Return the hash under which a key is kept."""
    return sha256(given.encode("utf-8", "surrogatepass")).digest()


def new_key() -> tuple[str, str]:
    """Return the id and the text of a new key: 256 random bits."""
    return f"key_{token_hex(8)}", PREFIX + token_urlsafe(32)


class KeyRing:
    """Every key that counts at present."""

    def __init__(self, digests: Iterable[bytes] = ()) -> None:
        """`digests` are the hashes of API_KEYS: administrators for all cameras."""
        self._keys: dict[str, Key] = {}
        self._revoked: set[str] = set()
        self.on_revoked: Callable[[str], None] | None = None
        """Is told the id of a key that counts no more."""
        for number, digest in enumerate(digests, 1):
            key = Key(
                id=f"setting_{digest.hex()[:16]}",
                name=f"API_KEYS {number}",
                role="admin",
                digest=digest,
                cameras=None,
                created_by=None,
                created_at=None,
            )
            self._keys[key.id] = key

    def find(self, given: str) -> Key | None:
        """Return the key that somebody gave, None when it is none."""
        digest = digest_of(given)
        found: Key | None = None
        for key in self._keys.values():
            if compare_digest(key.digest, digest):
                found = key
        return found

    def get(self, key_id: str) -> Key | None:
        """Return a key by its id."""
        return self._keys.get(key_id)

    def all(self) -> list[Key]:
        """Return every key, those of API_KEYS first."""
        return list(self._keys.values())

    def hear(self, envelope: Envelope) -> None:
        """Fold what the log says."""
        self.fold(envelope.event)

    def fold(self, event: Event) -> None:
        """Fold what became of a key; the same word twice changes nothing."""
        match event:
            case ApiKeyCreated() as made:
                self._add(made)
            case ApiKeyRevoked() as ended:
                self._revoke(ended.key_id)
            case _:
                return

    def learn(self, rows: Iterable[KeyRow]) -> None:
        """Take over what the read model knows."""
        for row in rows:
            if row.revoked_at is not None:
                self._revoke(row.id)
                continue
            made = ApiKeyCreated(
                camera_id="system",
                key_id=row.id,
                name=row.name,
                role=row.role,
                sha256=row.sha256,
                cameras=None if row.cameras is None else tuple(row.cameras),
                actor=row.created_by,
                created_at=row.created_at,
            )
            self._add(made)

    def _add(self, made: ApiKeyCreated) -> None:
        if made.key_id in self._revoked:
            return
        self._keys[made.key_id] = Key(
            id=made.key_id,
            name=made.name,
            role=made.role,
            digest=bytes.fromhex(made.sha256),
            cameras=None if made.cameras is None else frozenset(made.cameras),
            created_by=made.actor,
            created_at=made.created_at,
        )

    def _revoke(self, key_id: str) -> None:
        self._revoked.add(key_id)
        if self._keys.pop(key_id, None) is not None and self.on_revoked is not None:
            self.on_revoked(key_id)


async def prime_keys(ring: KeyRing, queries: Queries, log: EventLog) -> None:
    """Fold every key of the past: what the read model has, and the log's end behind it."""
    stream, partition = ApiKeyCreated.STREAM, log.partition_of(SYSTEM)
    # In this order: a row that comes in between is folded twice, which changes nothing.
    at = (await queries.checkpoint(PROJECTION)).get((stream, partition), START)
    ring.learn(await queries.api_keys())
    while run := await log.read(stream, partition, at, _READ_RUN):
        for envelope in run:
            ring.hear(envelope)
        at = run[-1].position
