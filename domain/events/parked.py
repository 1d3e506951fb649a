"""Stream `parked`: entries that were given up, and what became of them."""

from datetime import datetime
from typing import ClassVar

import msgspec

from domain.events.base import Event


class FailedAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One time that a handler failed at an entry."""

    attempt: int
    """Which of its deliveries that was."""
    at: datetime
    cause: str
    """Class of the error."""
    retry_seconds: float | None = None
    """How long it then waited for the next try; None: it was parked."""


class EntryParked(Event, frozen=True, kw_only=True):
    """An entry moved aside with its error so that its stream goes on."""

    TAG: ClassVar[str] = "entry.parked"
    STREAM: ClassVar[str] = "parked"

    source_stream: str
    position: str
    group: str
    event_id: str
    event_tag: str
    event_version: int
    payload: str
    """The entry's stored payload, byte for byte (bytes that are not UTF-8 are escaped)."""
    cause: str
    """Class of the error; parked entries are grouped by it."""
    error: str
    attempts: int
    failures: tuple[FailedAttempt, ...] = ()
    """Each time that it failed, the last one included; empty where nobody wrote it down."""
    service_version: str
    model: str | None = None
    """The model that refused it and its version, where one was asked."""
    model_version: str | None = None
    answer: str | None = None
    """The beginning of what the model said instead of what was agreed, where it said anything."""
    picture_id: str | None = None
    file_id: str | None = None
    batch_id: str | None = None


class EntryRedriven(Event, frozen=True, kw_only=True):
    """A parked entry was handed back to the group that parked it, to be handled again."""

    TAG: ClassVar[str] = "entry.redriven"
    STREAM: ClassVar[str] = "parked"

    parked_position: str
    """Where its `entry.parked` stands in this partition of `parked`."""
    group: str
    event_id: str
    """Envelope id of the entry, as in its `entry.parked`."""
    cause: str
    actor: str = "anonymous"
    picture_id: str | None = None
    file_id: str | None = None
    batch_id: str | None = None


class EntryDiscarded(Event, frozen=True, kw_only=True):
    """A person decided that a parked entry is not to be handled any more."""

    TAG: ClassVar[str] = "entry.discarded"
    STREAM: ClassVar[str] = "parked"

    parked_position: str
    group: str
    event_id: str
    cause: str
    actor: str = "anonymous"
    picture_id: str | None = None
    file_id: str | None = None
    batch_id: str | None = None
