"""What the optional services are sent: a picture made smaller, or one object cut out of it."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from domain.events import Box
from inference.images import Pixels, decode

WHOLE_SIDE = 1024
"""Longer side of a whole picture as it is sent."""
CROP_SIDE = 512
"""Longer side of a cut-out object as it is sent."""
MARGIN = 0.1
"""Share of an object's box that is added on every side."""
LEAST_SIDE = 16
"""Pixels; what is smaller shows nothing that could be recognised."""
QUALITY = 90

_UNREDUCED = 1 << 20


def whole(data: bytes, name: str) -> bytes:
    """Return an upright JPEG of a picture, at most WHOLE_SIDE wide and high; takes milliseconds.

    Raises PermanentError for bytes that are no picture.
    """
    return _jpeg(decode(data, name, target=WHOLE_SIDE).rgb, WHOLE_SIDE)


def cut_out(data: bytes, name: str, boxes: Sequence[Box]) -> list[bytes | None]:
    """Return an upright JPEG of each object in a picture, with a little of what is around it.

    None for an object of less than LEAST_SIDE pixels. Raises PermanentError for bytes that are no
    picture.
    """
    picture = decode(data, name, target=_UNREDUCED)
    parts = [_part(picture.rgb, box) for box in boxes]
    return [None if min(part.shape[:2]) < LEAST_SIDE else _jpeg(part, CROP_SIDE) for part in parts]


def _part(rgb: Pixels, box: Box) -> Pixels:
    height, width = rgb.shape[:2]
    left, right = _span(box.x, box.width, width)
    top, bottom = _span(box.y, box.height, height)
    return rgb[top:bottom, left:right]


def _span(start: float, length: float, limit: int) -> tuple[int, int]:
    margin = length * MARGIN
    first = int(max(0.0, start - margin))
    return min(first, limit), int(min(limit, np.ceil(start + length + margin)))


def _jpeg(rgb: Pixels, side: int) -> bytes:
    height, width = rgb.shape[:2]
    scale = side / max(width, height)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        rgb = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))
    bgr = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return bytes(encoded.tobytes())
