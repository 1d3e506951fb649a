"""Decode: a 1080p JPEG from its bytes to the 640 x 640 pixels that a detector looks at.

Ours reads the header, decodes at half the size and resizes (`inference.images`); the peer is
Pillow's full decode and its bilinear resize, which is what RT-DETR's reference implementation
does. Both run in turns on one thread and are timed in processor time, so that other processes
weigh little on either. `decode_1080p_ms` and the ratio are from medians; `grey_levels` is by how
much the two differ, on average over all pixels, of 255.

The picture is a real one (a beach, `hsi/evaluation_pictures`) enlarged to 1920 x 1080 with a
camera's noise put back: about 280 kB.
"""

import io
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference import images
from runtime.settings import PROJECT_ROOT

PICTURE = PROJECT_ROOT / "hsi" / "evaluation_pictures" / "beach.jpg"
SIDE = 640

Pixels = NDArray[np.uint8]


def run(*, full: bool) -> dict[str, float]:
    """Return milliseconds of both and their ratio."""
    data = picture()
    turns = [(_timed(ours, data), _timed(pillow, data)) for _ in range(300 if full else 60)]
    ours_ms, pillow_ms = (median(times) for times in zip(*turns, strict=True))
    apart = np.abs(ours(data).astype(np.int16) - pillow(data)).mean()
    return {
        "decode_1080p_ms": round(ours_ms, 2),
        "pillow_ms": round(pillow_ms, 2),
        "ratio_pil": round(pillow_ms / ours_ms, 2),
        "grey_levels": round(float(apart), 2),
        "jpeg_kb": round(len(data) / 1000),
    }


def ours(data: bytes) -> Pixels:
    """Decode and resize as the detectors do."""
    return images.square(images.decode(data, "1080p.jpg"), SIDE)


def pillow(data: bytes) -> Pixels:
    """Decode and resize as the reference implementation does."""
    with Image.open(io.BytesIO(data)) as image:
        whole = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(whole)


def picture() -> bytes:
    """Return a noisy 1920 x 1080 JPEG of a real scene."""
    with Image.open(PICTURE) as image:
        scene = image.convert("RGB").resize((1920, 1278)).crop((0, 99, 1920, 1179))
    noise = np.random.default_rng(1).normal(0, 6, (1080, 1920, 3))
    pixels = (np.asarray(scene) + noise).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    return file.getvalue()


def _timed(decode: Callable[[bytes], Any], data: bytes) -> float:
    began = time.thread_time()
    decode(data)
    return (time.thread_time() - began) * 1000
