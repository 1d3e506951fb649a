"""Videos: is an MP4 whole, and single frames out of it.

An MP4 is a row of boxes that say their own length. A camera writes the index (`moov`) last, so a
file whose boxes end exactly at its end and that has its index is whole at once; a fragmented one
may go on at every fragment and needs to have been left alone for a while.
"""

import enum
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from domain.errors import PermanentError

MAX_VIDEO_BYTES: Final = 2 * 1024 * 1024 * 1024
_MOST_PIXELS: Final = 50_000_000
_MOST_BOXES: Final = 100_000
_LONGEST_SECONDS: Final = 86_400.0
_SEEK_ABOVE_SECONDS: Final = 4.0
_JPEG_QUALITY: Final = 90

# Read by OpenCV when it opens a video, and there is no other way to say it: no chatter on stderr
# about broken files, and nothing is opened but the file itself, whatever the video refers to.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "protocol_whitelist;file")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_FATAL)


class BrokenVideoError(PermanentError):
    """No frame can be read out of it."""


class Structure(enum.Enum):
    """What the boxes of an MP4 say."""

    WHOLE = enum.auto()
    OPEN = enum.auto()
    """Whole up to here, and may go on."""
    CUT = enum.auto()
    """Shorter than it announces, or without its index."""


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a video says about itself."""

    width: int
    height: int
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as JPEG; the first is number 1."""

    number: int
    offset_seconds: float
    jpeg: bytes
    width: int
    height: int


def structure_of(stream: BinaryIO, size: int) -> Structure:
    """Walk over the boxes without reading what is in them."""
    kinds: set[bytes] = set()
    at = 0
    for _ in range(_MOST_BOXES):
        if at == size:
            break
        stream.seek(at)
        header = stream.read(16)
        if len(header) < 8:
            return Structure.CUT
        length, kind = struct.unpack(">I4s", header[:8])
        if length == 1 and len(header) == 16:
            (length,) = struct.unpack(">Q", header[8:])
        kinds.add(kind)
        if length == 0:
            # "To the end of the file", wherever that will be.
            return Structure.OPEN if b"moov" in kinds else Structure.CUT
        at += length
        if length < 8 or at > size:
            return Structure.CUT
    if b"moov" not in kinds:
        return Structure.CUT
    return Structure.OPEN if b"moof" in kinds or at != size else Structure.WHOLE


class Clip:
    """An opened video; use it as a context manager."""

    def __init__(self, path: str) -> None:
        # One thread: decoding runs beside other work and must not take every core.
        self._capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        try:
            self.facts = self._read_facts()
        except BrokenVideoError:
            self._capture.release()
            raise

    def __enter__(self) -> "Clip":
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def _read_facts(self) -> VideoFacts:
        if not self._capture.isOpened():
            raise BrokenVideoError("the video cannot be opened: its index or codec is broken")
        width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if not 0 < width * height <= _MOST_PIXELS:
            raise BrokenVideoError(
                f"frames of {width} x {height}; at most {_MOST_PIXELS // 1_000_000} megapixels"
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        seconds = count / rate if rate > 0 and count > 0 else 0.0
        if seconds > _LONGEST_SECONDS:
            raise BrokenVideoError(f"announces {seconds:.0f} s; at most {_LONGEST_SECONDS:.0f} s")
        return VideoFacts(width, height, round(seconds, 3))

    def frames(self, interval_seconds: float, most: int) -> Iterator[Frame]:
        """Yield a frame every `interval_seconds`, beginning with the first.

        A video that would give more than `most` is looked at in as many even steps over its
        whole length: its end is never left out. A video that breaks off gives what it has.
        """
        step = max(interval_seconds, self.facts.duration_seconds / most)
        for number in range(1, most + 1):
            wanted = (number - 1) * step
            if step > _SEEK_ABOVE_SECONDS and number > 1:
                self._capture.set(cv2.CAP_PROP_POS_MSEC, wanted * 1000)
            try:
                offset = self._grab(wanted)
                if offset is None:
                    return
                jpeg, width, height = self._retrieve()
            except cv2.error:
                return
            if not jpeg:
                return
            yield Frame(number, round(offset, 3), jpeg, width, height)

    def _grab(self, wanted: float) -> float | None:
        """Move to the first frame at or after `wanted`; None when there is none."""
        while self._capture.grab():
            offset = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if offset > _LONGEST_SECONDS:
                return None
            if offset >= wanted - 0.001:
                return max(0.0, float(offset))
        return None

    def _retrieve(self) -> tuple[bytes, int, int]:
        ok, picture = self._capture.retrieve()
        if not ok:
            return b"", 0, 0
        pixels: NDArray[np.uint8] = picture
        ok, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        return (jpeg.tobytes() if ok else b""), pixels.shape[1], pixels.shape[0]
