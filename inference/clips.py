"""Makes a clip of single pictures: two a second, in a format that browsers play.

OpenCV's own FFmpeg writes VP9 in MP4, which browsers have decoders for; it has no H.264. Encoding
takes a tenth to a fifth of a second of processor time a picture, so it belongs into a thread that
gives way to everything else.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from domain.errors import HsiError, PermanentError, TransientError
from inference import images
from inference.video import BrokenVideoError, Clip

FRAMES_PER_SECOND: Final = 2.0
_LONGEST_SIDE: Final = 960
_FOURCC: Final = "vp09"
_LINE: Final = 24

Pixels = NDArray[np.uint8]


class NoPicturesError(PermanentError):
    """Not one of the pictures can be shown."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture of a clip."""

    data: bytes
    caption: str
    """Drawn into its lower left corner: pictures may lie minutes apart."""


def write_clip(target: Path, shots: Iterable[Shot]) -> int:
    """Write an MP4 of the pictures, whole or not at all; return how many it has.

    What does not decode is left out. Raises NoPicturesError when that leaves nothing,
    TransientError naming the folder when it cannot be written (a full disk).
    """
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        written = _write(target, shots)
        _check(target, written)
    except OSError as error:
        _remove(target)
        raise _unwritable(target.parent, error.strerror or str(error)) from error
    except HsiError:
        _remove(target)
        raise
    return written


def _remove(target: Path) -> None:
    with suppress(OSError):  # What made writing impossible does not stand in for the reason.
        target.unlink()


def _write(target: Path, shots: Iterable[Shot]) -> int:
    writer: cv2.VideoWriter | None = None
    size, written = (0, 0), 0
    try:
        for shot in shots:
            try:
                picture = images.decode(shot.data, "picture", target=_LONGEST_SIDE)
            except images.UnreadablePictureError:
                continue
            if writer is None:
                size = _size_of(picture.rgb)
                writer = _open(target, size)
            writer.write(_frame(picture.rgb, size, shot.caption))
            written += 1
    finally:
        if writer is not None:
            writer.release()
    if not written:
        raise NoPicturesError("none of the pictures of that time can be read any more")
    return written


def _open(target: Path, size: tuple[int, int]) -> cv2.VideoWriter:
    code = cv2.VideoWriter.fourcc(*_FOURCC)
    writer = cv2.VideoWriter(str(target), cv2.CAP_FFMPEG, code, FRAMES_PER_SECOND, size)
    if not writer.isOpened():
        writer.release()
        raise _unwritable(target.parent, "the file cannot be made")
    return writer


def _check(target: Path, written: int) -> None:
    """Read the clip back: the writer does not say when it could not write."""
    try:
        with Clip(str(target)) as clip:
            seconds = clip.facts.duration_seconds
    except BrokenVideoError as error:
        raise _unwritable(target.parent, str(error)) from error
    if round(seconds * FRAMES_PER_SECOND) != written:
        raise _unwritable(target.parent, f"{seconds:g} s of {written} pictures were written")
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _unwritable(folder: Path, why: str) -> TransientError:
    return TransientError(
        f"clips cannot be saved in {folder} ({why}): make room there, or make it writable"
    )


def _size_of(rgb: Pixels) -> tuple[int, int]:
    """Return the clip's width and height: even, and no larger than a page shows."""
    height, width = rgb.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    return max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2)


def _frame(rgb: Pixels, size: tuple[int, int], caption: str) -> Pixels:
    """Return the picture in the clip's size, with bars where its shape is another."""
    width, height = size
    scale = min(width / rgb.shape[1], height / rgb.shape[0])
    inner = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    frame = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    resized = cv2.resize(rgb, inner, interpolation=cv2.INTER_AREA)
    frame[top : top + inner[1], left : left + inner[0]] = resized[:, :, ::-1]
    at, font, size_of_text = (8, height - 10), cv2.FONT_HERSHEY_SIMPLEX, height / _LINE / 22
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(frame, caption, at, font, size_of_text, colour, thickness, cv2.LINE_AA)
    return frame
