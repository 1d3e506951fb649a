"""A message as the bytes that go out: encoded and framed once, however many clients get it."""

import msgspec

_encoder = msgspec.json.Encoder()

_WHOLE_TEXT = 0x81
"""First byte of a WebSocket frame that is a whole text message (RFC 6455, section 5.2)."""


def encoded(message: msgspec.Struct) -> bytes:
    """Return a message as JSON."""
    return _encoder.encode(message)


def text_frame(payload: bytes) -> bytes:
    """Return a text message as a server sends it: one frame, unmasked, uncompressed."""
    size = len(payload)
    if size < 126:
        head = bytes((_WHOLE_TEXT, size))
    elif size < 65_536:
        head = bytes((_WHOLE_TEXT, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((_WHOLE_TEXT, 127)) + size.to_bytes(8, "big")
    return head + payload
