"""Envelope to Redis fields and back; the only place that encodes, decodes and upcasts.

An entry's fields: `id`, `type` (`<tag>/<version>`), `at` (event time, ISO 8601, absent where the
event has none), `cor`, `cau`, `tp` (traceparent, absent when empty), `cat` (when the entry that
led to it was recorded, in milliseconds, absent where none did), `for` (only on an entry that a
redrive appended anew: the group that is to handle it) and `data` (the payload as JSON). Any Redis
tool shows them as text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
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
_positions = msgspec.json.Decoder(list[Position])

_MOST_DIGITS = 10
"""A version with more of them is none."""


@dataclass(frozen=True, slots=True)
class Codec:
    """Encodes and decodes entries; `upcasters` is a parameter so that a test can plant steps."""

    types: Mapping[str, type[Event]]
    upcasters: Mapping[tuple[str, int], Upcaster]
    decoders: dict[bytes, msgspec.json.Decoder[Event]]
    run_decoders: dict[bytes, msgspec.json.Decoder[list[Event]]]

    @classmethod
    def of(
        cls,
        types: Mapping[str, type[Event]] = EVENT_TYPES,
        upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
    ) -> "Codec":
        """Build a codec with ready decoders for each current event type."""
        current = {f"{tag}/{kind.VERSION}".encode(): kind for tag, kind in types.items()}
        return cls(
            types,
            upcasters,
            {stored: msgspec.json.Decoder(kind) for stored, kind in current.items()},
            {
                stored: msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
                for stored, kind in current.items()
            },
        )

    def encode(self, new: NewEvent) -> list[str | bytes]:
        """Return the entry's fields and values in turn, ready for XADD."""
        event = new.event
        fields: list[str | bytes] = ["id", new.id, "type", f"{event.TAG}/{event.VERSION}"]
        if (at := event.occurred_at) is not None:
            fields += ["at", at.isoformat()]
        fields += ["cor", new.correlation_id, "cau", new.causation_id]
        if new.traceparent:
            fields += ["tp", new.traceparent]
        if new.caused_ms:
            fields += ["cat", str(new.caused_ms)]
        fields += ["data", _encoder.encode(event)]
        return fields

    def decode(self, stream: str, partition: int, entry_id: bytes, fields: Fields) -> Envelope:
        """Read one entry; raises UndecodableError naming the entry and what is wrong with it."""
        position = Position.parse(entry_id)
        try:
            kind, data = fields[b"type"], fields[b"data"]
            decoder = self.decoders.get(kind)
            event = decoder.decode(data) if decoder is not None else self._older(kind, data)
            return _envelope(stream, partition, position, event, fields)
        except KeyError as error:
            raise UndecodableError(
                f"entry {position} of {stream}: field {error} is missing"
            ) from error
        except (msgspec.MsgspecError, ValueError, RecursionError, PermanentError) as error:
            raise UndecodableError(f"entry {position} of {stream}: {error}") from error

    def decode_or_mark(
        self, stream: str, partition: int, entry_id: bytes, fields: Fields
    ) -> Envelope:
        """Read one entry; what does not decode becomes an UnreadableEntry that says why."""
        try:
            return self.decode(stream, partition, entry_id, fields)
        except UndecodableError as error:
            return _unreadable(stream, partition, entry_id, fields, error)

    def decode_run(
        self, stream: str, partition: int, entries: Sequence[tuple[bytes, Fields]]
    ) -> list[Envelope]:
        """Read entries; what does not decode becomes an UnreadableEntry that says why.

        All at once, in two thirds of the time, unless one of them does not decode.
        """
        try:
            return self._decode_all(stream, partition, entries)
        except (KeyError, msgspec.MsgspecError, ValueError, RecursionError, PermanentError):
            return [self.decode_or_mark(stream, partition, *entry) for entry in entries]

    def _decode_all(
        self, stream: str, partition: int, entries: Sequence[tuple[bytes, Fields]]
    ) -> list[Envelope]:
        ids = b"],[".join([entry_id for entry_id, _ in entries]).replace(b"-", b",")
        positions = _positions.decode(b"[[" + ids + b"]]") if ids else []
        events: list[Event] = []
        for kind, same in groupby([fields for _, fields in entries], itemgetter(b"type")):
            events += self._decode_payloads(kind, [fields[b"data"] for fields in same])
        return [
            _envelope(stream, partition, position, event, fields)
            for position, event, (_, fields) in zip(positions, events, entries, strict=True)
        ]

    def _decode_payloads(self, kind: bytes, payloads: Sequence[bytes]) -> Sequence[Event]:
        decoder = self.run_decoders.get(kind)
        if decoder is None:
            return [self._older(kind, data) for data in payloads]
        events = decoder.decode(b"[" + b",".join(payloads) + b"]")
        if len(events) != len(payloads):
            raise ValueError("a payload holds more or less than one event")
        return events

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


def _envelope(
    stream: str, partition: int, position: Position, event: Event, fields: Fields
) -> Envelope:
    get = fields.get
    traceparent, only_for, caused = get(b"tp"), get(b"for"), get(b"cat")
    return Envelope(
        id=fields[b"id"].decode(),
        event=event,
        stream=stream,
        partition=partition,
        position=position,
        occurred_at=_moment(get(b"at")) or position.recorded_at,
        correlation_id=fields[b"cor"].decode(),
        causation_id=fields[b"cau"].decode(),
        traceparent=traceparent.decode() if traceparent else "",
        only_for=only_for.decode() if only_for else "",
        caused_ms=int(caused) if caused else 0,
    )


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
    numbered = version.isascii() and version.isdigit() and len(version) < _MOST_DIGITS
    event = UnreadableEntry(
        camera_id="",
        stored_tag=kind or "?",
        stored_version=int(version) if numbered else 0,
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
