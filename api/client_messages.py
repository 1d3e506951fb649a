"""What a WebSocket client may say, and how it is read."""

from typing import get_args

import msgspec

from api.messages import ErrorCode
from domain.errors import HsiError


class Ping(msgspec.Struct, frozen=True, tag_field="type", tag="ping"):
    """Say that the client is there; the bare text `ping` does the same. Answered by `pong`."""


class Resume(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="resume"):
    """Ask for everything behind the message with this cursor, then for what happens next."""

    cursor: str


class Subscribe(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="subscribe"):
    """Ask for these topics, the first time for these alone. Answered by `subscribed`."""

    patterns: list[str]


class Unsubscribe(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="unsubscribe"):
    """Ask for these topics no more. Answered by `subscribed`."""

    patterns: list[str]


ClientMessage = Ping | Resume | Subscribe | Unsubscribe


class UnusableError(HsiError):
    """What a client sent cannot be used; `code` is what it is told."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: ErrorCode = code


class _Typed(msgspec.Struct):
    type: str


_KINDS = {kind.__struct_config__.tag: kind for kind in get_args(ClientMessage)}
_typed = msgspec.json.Decoder(_Typed)
_known: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)


def read_message(text: str) -> ClientMessage:
    """Read what a client sent; raises UnusableError saying what is wrong with it."""
    if text.strip() == "ping":
        return Ping()
    try:
        kind = _typed.decode(text).type
    except msgspec.ValidationError as error:
        form = 'send {"type":"ping"} or {"type":"resume","cursor":"…"}'
        raise UnusableError("invalid_message_format", f"{error}; {form}") from error
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise UnusableError("invalid_json", f"this is not JSON: {error}") from error
    if kind not in _KINDS:
        raise UnusableError(
            "unknown_message_type",
            f"this server knows {', '.join(map(str, _KINDS))}, not {kind[:100]!r}",
        )
    try:
        return _known.decode(text)
    except (msgspec.ValidationError, RecursionError) as error:
        raise UnusableError("validation_error", f"{kind}: {error}") from error
