"""The cursor a WebSocket client keeps: how far it has read each stream of its channel.

Opaque text for clients. Inside: a version, the channel, the log's incarnation (a log that was
founded anew starts over with other positions) and one position for each stream and partition.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Literal

import msgspec

from domain.errors import HsiError
from streams.envelope import Position

Key = tuple[str, int]
"""A stream and a partition of it."""

MAX_CURSOR_LENGTH = 8192
_VERSION = 1


class CursorError(HsiError):
    """A cursor that cannot be resumed from; `code` is what the client is told."""

    def __init__(self, code: Literal["invalid_cursor", "cursor_too_old"], message: str) -> None:
        super().__init__(message)
        self.code: Literal["invalid_cursor", "cursor_too_old"] = code


class _Wire(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    channel: str
    incarnation: str
    positions: list[str]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Wire)


def encode_cursor(channel: str, incarnation: str, positions: Mapping[Key, Position]) -> str:
    """Return the text of a cursor; `positions` has every key of the channel, in its order."""
    wire = _Wire(_VERSION, channel, incarnation, [str(at) for at in positions.values()])
    return urlsafe_b64encode(_encoder.encode(wire)).rstrip(b"=").decode()


def decode_cursor(
    text: str, channel: str, incarnation: str, keys: tuple[Key, ...]
) -> dict[Key, Position]:
    """Read a cursor of `channel`; raises CursorError saying what is wrong with it."""
    try:
        if len(text) > MAX_CURSOR_LENGTH:
            raise ValueError(f"longer than {MAX_CURSOR_LENGTH} characters")
        data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        wire = _decoder.decode(data)
        positions = [_position(part) for part in wire.positions]
        if wire.version != _VERSION or len(positions) != len(keys):
            raise ValueError("it is of another version")
    except (ValueError, Base64Error, msgspec.MsgspecError) as error:
        raise CursorError(
            "invalid_cursor", "this is no cursor that this server gave; start without one"
        ) from error
    if wire.channel != channel:
        raise CursorError(
            "invalid_cursor", f"this cursor belongs to /ws/{wire.channel}, not to /ws/{channel}"
        )
    if wire.incarnation != incarnation:
        raise CursorError(
            "cursor_too_old",
            "the event log was founded anew since this cursor was given; load the list again",
        )
    return dict(zip(keys, positions, strict=True))


def _position(text: str) -> Position:
    at = Position.parse(text)
    if min(at) < 0 or max(at) >= 2**64 - 1:
        raise ValueError("position out of range")
    return at
