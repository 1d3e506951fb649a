"""The pictures that are dropped, and what the fake detector sees in them: both from the bytes."""

import io
from hashlib import sha256

import numpy as np
from PIL import Image

THRESHOLD = 0.5
"""As DETECTION_CONFIDENCE_THRESHOLD's default: the house is run with it."""


def _template() -> bytes:
    pixels = np.random.default_rng(7).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((64, 48)).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


_TEMPLATE = _template()


def picture(seed: int, number: int) -> bytes:
    """Return a small JPEG unlike every other: a comment segment tells them apart."""
    text = f"{seed}-{number:012}".encode()
    comment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
    return _TEMPLATE[:2] + comment + _TEMPLATE[2:]


def objects_in(data: bytes) -> list[tuple[str, float]]:
    """Return what the fake detector sees: nothing, something unsure, a car, a sure person."""
    digest = sha256(data).digest()
    seen: list[tuple[str, float]] = []
    if digest[0] % 10 < 7:
        seen.append(("car" if digest[1] % 2 else "dog", 0.55 + digest[2] / 1000))
    if digest[3] % 8 == 0:
        seen.append(("person", 0.95))
    if digest[4] % 3 == 0:
        seen.append(("cat", 0.2))
    return seen
