"""Pictures as browsers want them: the file itself, a thumbnail, the picture with a box drawn in.

Decoding happens in threads, two at a time, so that the event loop stays free; what was rendered
is kept up to a number of bytes. A picture's id names its bytes, so answers may be cached for ever.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from zlib import crc32

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from api.problems import ProblemError
from domain.errors import PermanentError
from domain.events import Box
from inference import images
from inference.crops import LEAST_SIDE, cut_out
from inference.pictures import ChangedSinceError
from projections.rows import DetectionRow, PictureRow

THUMBNAIL_WIDTH = 320
THUMBNAIL_HEIGHT = 640
BOXED_SIDE = 1280
JPEG_QUALITY = 85
CACHE_BYTES = 32 * 1024 * 1024
RENDERS_AT_ONCE = 2

_CONTENT_TYPES: Final = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
}
_BOX_COLOUR = (64, 64, 255)
"""Blue, green, red."""


class PictureSource(Protocol):
    """Where the bytes of pictures are."""

    def read(self, uri: str, *, expected_sha256: str | None = None) -> bytes:
        """Return a picture's file; blocks.

        PermanentError when it is gone for good, ChangedSinceError when it is another by now.
        """
        ...

    def path(self, uri: str) -> Path:
        """Return where a file lies, links resolved; PermanentError for one outside."""
        ...


@dataclass(frozen=True, slots=True)
class Rendered:
    """An image ready to be sent."""

    data: bytes
    content_type: str


class PictureRenderer:
    """Reads pictures from their store and renders what is asked for."""

    def __init__(self, source: PictureSource, *, cache_bytes: int = CACHE_BYTES) -> None:
        self.source = source
        self._cache: OrderedDict[str, Rendered] = OrderedDict()
        self._free = cache_bytes
        self._turn = asyncio.Semaphore(RENDERS_AT_ONCE)

    async def original(self, picture: PictureRow) -> Rendered:
        """Return the picture's file as it is."""
        data = await self._read(picture)
        try:
            header = await asyncio.to_thread(images.probe, data, picture.picture_id)
        except PermanentError as error:
            raise ProblemError("picture_unreadable", str(error)) from error
        return Rendered(data, _CONTENT_TYPES[header.format])

    async def thumbnail(self, picture: PictureRow) -> Rendered:
        """Return the picture at most 320 pixels wide, as JPEG."""
        return await self._rendered(f"{picture.picture_id}/thumbnail", picture, _thumbnail)

    async def boxed(self, picture: PictureRow, detection: DetectionRow) -> Rendered:
        """Return the picture with the detection's box and label drawn in, as JPEG."""
        return await self._rendered(
            f"{tag_of(detection)}/boxed", picture, lambda data: _boxed(data, detection)
        )

    async def crop(self, picture: PictureRow, detection: DetectionRow) -> Rendered:
        """Return the detected object with a little of what is around it, as JPEG."""
        return await self._rendered(
            f"{tag_of(detection)}/crop", picture, lambda data: _cropped(data, detection)
        )

    async def _read(self, picture: PictureRow) -> bytes:
        if picture.redacted_at is not None:
            when = picture.redacted_at.isoformat(timespec="seconds")
            raise ProblemError("picture_redacted", f"retention deleted this picture at {when}")
        try:
            return await asyncio.to_thread(
                self.source.read, picture.uri, expected_sha256=picture.sha256
            )
        except ChangedSinceError as error:
            raise ProblemError("picture_changed", str(error)) from error
        except PermanentError as error:
            raise ProblemError("picture_gone", str(error)) from error

    async def _rendered(
        self, key: str, picture: PictureRow, render: Callable[[bytes], bytes]
    ) -> Rendered:
        if picture.redacted_at is None and (found := self._cache.get(key)) is not None:
            self._cache.move_to_end(key)
            return found
        data = await self._read(picture)
        async with self._turn:
            try:
                made = Rendered(await asyncio.to_thread(render, data), "image/jpeg")
            except PermanentError as error:
                raise ProblemError("picture_unreadable", str(error)) from error
        self._keep(key, made)
        return made

    def _keep(self, key: str, made: Rendered) -> None:
        if key in self._cache:
            return
        self._cache[key] = made
        self._free -= len(made.data)
        while self._free < 0:
            _, oldest = self._cache.popitem(last=False)
            self._free += len(oldest.data)


def tag_of(detection: DetectionRow) -> str:
    """Return a tag that changes when the box, label or score of a detection does."""
    return f"{detection.id}-{crc32(msgspec.json.encode(detection)):08x}"


def _thumbnail(data: bytes) -> bytes:
    picture = images.decode(data, "thumbnail", target=THUMBNAIL_WIDTH)
    height, width = picture.rgb.shape[:2]
    scale = min(THUMBNAIL_WIDTH / width, THUMBNAIL_HEIGHT / height, 1.0)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return _jpeg(cv2.resize(_bgr(picture.rgb), size, interpolation=cv2.INTER_AREA))


def _cropped(data: bytes, detection: DetectionRow) -> bytes:
    box = Box(
        label=detection.label,
        score=detection.confidence,
        x=detection.x,
        y=detection.y,
        width=detection.width,
        height=detection.height,
    )
    (part,) = cut_out(data, "picture", [box])
    if part is None:
        raise PermanentError(f"the object is less than {LEAST_SIDE} pixels wide or high")
    return part


def _boxed(data: bytes, detection: DetectionRow) -> bytes:
    picture = images.decode(data, "picture", target=BOXED_SIDE)
    pixels = np.ascontiguousarray(_bgr(picture.rgb))
    # The picture may have been reduced while it was decoded; boxes count the file's pixels.
    scale = pixels.shape[1] / picture.width
    left, top = round(detection.x * scale), round(detection.y * scale)
    right = round((detection.x + detection.width) * scale)
    bottom = round((detection.y + detection.height) * scale)
    line = max(2, round(max(pixels.shape[:2]) / 400))
    cv2.rectangle(pixels, (left, top), (right, bottom), _BOX_COLOUR, line)
    text = f"{detection.label} {detection.confidence:.0%}"
    below = min(pixels.shape[0] - 4, max(12 * line, top - 2 * line))
    at = (left, below)
    font = cv2.FONT_HERSHEY_SIMPLEX
    for colour, width in (((0, 0, 0), 2 * line), (_BOX_COLOUR, line)):
        cv2.putText(pixels, text, at, font, 0.3 * line, colour, max(1, width // 2), cv2.LINE_AA)
    return _jpeg(pixels)


def _bgr(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return rgb[:, :, ::-1]


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes(encoded)
