"""Envelope to Redis fields and back; the only place that encodes, decodes and upcasts.

An entry's fields: `id`, `type` (`<tag>/<version>`), `at` (event time, ISO 8601, absent where the
event has none), `cor`, `cau`, `tp` (traceparent, absent when empty), `for` (only on an entry that
a redrive appended anew: the group that is to handle it) and `data` (the payload as JSON). Any
Redis tool shows them as text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from domain.errors import PermanentError
from domain.events import EVENT_TYPES, Event
from domain.upcasters import UPCASTERS, Upcaster, upcast
from streams.envelope import Envelope, NewEvent, Position, UnreadableEntry

Fields = Mapping[bytes, bytes]


class UndecodableError(PermanentError):
    """The entry's bytes are not an event that this version knows."""


_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Codec:
    """Encodes and decodes entries; `upcasters` is a parameter so that a test can plant steps."""

    types: Mapping[str, type[Event]]
    upcasters: Mapping[tuple[str, int], Upcaster]
    decoders: dict[bytes, msgspec.json.Decoder[Event]]

    @classmethod
    def of(
        cls,
        types: Mapping[str, type[Event]] = EVENT_TYPES,
        upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
    ) -> "Codec":
        """Build a codec with one ready decoder for each current event type."""
        decoders = {
            f"{tag}/{kind.VERSION}".encode(): msgspec.json.Decoder(kind)
            for tag, kind in types.items()
        }
        return cls(types, upcasters, decoders)

    def encode(self, new: NewEvent) -> list[str | bytes]:
        """Return the entry's fields and values in turn, ready for XADD."""
        event = new.event
        fields: list[str | bytes] = ["id", new.id, "type", f"{event.TAG}/{event.VERSION}"]
        if (at := event.occurred_at) is not None:
            fields += ["at", at.isoformat()]
        fields += ["cor", new.correlation_id, "cau", new.causation_id]
        if new.traceparent:
            fields += ["tp", new.traceparent]
        fields += ["data", _encoder.encode(event)]
        return fields

    def decode(self, stream: str, partition: int, entry_id: bytes, fields: Fields) -> Envelope:
        """Read one entry; raises UndecodableError naming the entry and what is wrong with it."""
        position = Position.parse(entry_id)
        try:
            kind, data = fields[b"type"], fields[b"data"]
            decoder = self.decoders.get(kind)
            event = decoder.decode(data) if decoder is not None else self._older(kind, data)
            at = _moment(fields.get(b"at"))
            traceparent, only_for = fields.get(b"tp"), fields.get(b"for")
            return Envelope(
                id=fields[b"id"].decode(),
                event=event,
                stream=stream,
                partition=partition,
                position=position,
                occurred_at=at or position.recorded_at,
                correlation_id=fields[b"cor"].decode(),
                causation_id=fields[b"cau"].decode(),
                traceparent=traceparent.decode() if traceparent else "",
                only_for=only_for.decode() if only_for else "",
            )
        except KeyError as error:
            raise UndecodableError(
                f"entry {position} of {stream}: field {error} is missing"
            ) from error
        except (msgspec.MsgspecError, ValueError, PermanentError) as error:
            raise UndecodableError(f"entry {position} of {stream}: {error}") from error

    def decode_or_mark(
        self, stream: str, partition: int, entry_id: bytes, fields: Fields
    ) -> Envelope:
        """Read one entry; what does not decode becomes an UnreadableEntry that says why."""
        try:
            return self.decode(stream, partition, entry_id, fields)
        except UndecodableError as error:
            return _unreadable(stream, partition, entry_id, fields, error)

    def _older(self, kind: bytes, data: bytes) -> Event:
        """Raise an event of an older version."""
        tag, _, version = kind.decode().rpartition("/")
        current = self.types.get(tag)
        if current is None:
            raise PermanentError(f"unknown event type {tag!r}")
        if int(version) > current.VERSION:
            raise PermanentError(
                f"{tag} version {version} is newer than this software knows ({current.VERSION})"
            )
        stored = msgspec.json.decode(data, type=dict[str, Any])
        payload = upcast(tag, int(version), current.VERSION, stored, self.upcasters)
        return msgspec.convert(payload, current)


def _moment(text: bytes | None) -> datetime | None:
    if not text:
        return None
    at = datetime.fromisoformat(text.decode())
    if at.tzinfo is None:
        raise ValueError(f"the event time {at} has no time zone")
    return at


def _unreadable(
    stream: str, partition: int, entry_id: bytes, fields: Fields, error: UndecodableError
) -> Envelope:
    position = Position.parse(entry_id)
    kind, _, version = fields.get(b"type", b"?/0").decode("utf-8", "replace").rpartition("/")
    event = UnreadableEntry(
        camera_id="",
        stored_tag=kind or "?",
        stored_version=int(version) if version.isascii() and version.isdigit() else 0,
        stored_payload=fields.get(b"data", b"").decode("utf-8", "backslashreplace"),
        error=str(error),
    )
    return Envelope(
        id=fields.get(b"id", b"").decode("utf-8", "replace") or f"{stream}-{position}",
        event=event,
        stream=stream,
        partition=partition,
        position=position,
        occurred_at=position.recorded_at,
        correlation_id=fields.get(b"cor", b"").decode("utf-8", "replace"),
        causation_id=fields.get(b"cau", b"").decode("utf-8", "replace"),
        only_for=fields.get(b"for", b"").decode("utf-8", "replace"),
    )
