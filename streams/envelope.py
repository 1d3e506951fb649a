"""Envelope and Position: an event with where it stands and what led to it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import ClassVar, NamedTuple

import msgspec

from domain.events import Event


@lru_cache(maxsize=1024)
def _moment(ms: int) -> datetime:
    """Return a moment of Redis' clock; readers of whole runs ask for the same ones repeatedly."""
    return datetime.fromtimestamp(ms / 1000, UTC)


class Position(NamedTuple):
    """A Redis entry id as two integers; comparable within one stream's partition only."""

    ms: int
    seq: int

    @classmethod
    def parse(cls, text: str | bytes) -> "Position":
        """Read `ms-seq`; raises ValueError on anything else."""
        ms, _, seq = text.partition(b"-") if isinstance(text, bytes) else text.partition("-")
        return tuple.__new__(cls, (int(ms), int(seq or 0)))  # half the time of cls(…)

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"

    def next(self) -> "Position":
        """Return the smallest position after this one."""
        if self.seq >= LAST_SEQ:
            return Position(self.ms + 1, 0)
        return Position(self.ms, self.seq + 1)

    def before(self) -> "Position":
        """Return the largest position before this one."""
        if self.seq > 0:
            return Position(self.ms, self.seq - 1)
        return Position(self.ms - 1, LAST_SEQ)

    @property
    def recorded_at(self) -> datetime:
        """Return when Redis took the entry in, by its own clock."""
        return _moment(self.ms)


START = Position(0, 0)
LAST_SEQ = 2**64 - 1
"""The largest second half of an entry id."""


class UnreadableEntry(Event, frozen=True, kw_only=True):
    """Stands for an entry whose bytes this version cannot read; it is never appended."""

    TAG: ClassVar[str] = "entry.unreadable"

    stored_tag: str
    stored_version: int
    stored_payload: str
    error: str


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """An event as it stands in the log.

    A struct, since readers of whole runs make millions: a frozen dataclass takes 15 times as long.
    """

    id: str
    event: Event
    stream: str
    partition: int
    position: Position
    occurred_at: datetime
    """Event time: when it happened in front of the camera, else recorded-at."""
    correlation_id: str
    """Id of the file, batch or command that began it all."""
    causation_id: str
    """Envelope id of the event that directly led to this one; empty for the first."""
    traceparent: str = ""
    only_for: str = ""
    """The one consumer group that is to handle it; set where a redrive had to append it anew."""
    caused_ms: int = 0
    """When what led to it was recorded, in milliseconds of the log's clock; 0: not known."""

    @property
    def recorded_at(self) -> datetime:
        """Return when Redis took the entry in."""
        return _moment(self.position.ms)

    @property
    def tag(self) -> str:
        """Return the stored event type."""
        return self.event.TAG


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append: `id` makes a second append of the same fact do nothing."""

    id: str
    event: Event
    correlation_id: str
    causation_id: str = ""
    traceparent: str = ""
    caused_ms: int = 0
    """When the event that led to it was recorded; 0: nothing did, or nobody knows."""
