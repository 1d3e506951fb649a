"""Is a file whole, and what is it: a picture, a video, or not to be taken in as it is.

The content decides, not the name. A picture is whole when it decodes to its end marker; then it is
whole at once, without waiting for the writer to close it. Everything is bounded before anything is
decoded: bytes, pixels, and the scans of a progressive JPEG.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from domain.exif import ExifTime, exif_time, exif_turns
from inference.jpeg import SCAN, CutError, take_apart
from inference.pictures import MAX_PICTURE_BYTES, OpenFile
from inference.video import MAX_VIDEO_BYTES, Structure, structure_of

MAX_PIXELS: Final = 50_000_000
MAX_SCANS: Final = 100
"""A progressive JPEG needs about ten; thousands are made to keep a decoder busy."""

_JPEG_START: Final = b"\xff\xd8\xff"
_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_PNG_END: Final = b"IEND\xae\x42\x60\x82"
_CHUNK: Final = 1024 * 1024

DECODER_ERRORS: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
    struct.error,
    zlib.error,
)
"""What Pillow has been seen to raise on broken files; all of it means: this does not decode."""


@dataclass(frozen=True, slots=True)
class Still:
    """A whole picture."""

    sha256: str
    size_bytes: int
    width: int
    """Pixels of the upright picture, as the detector counts them."""
    height: int
    exif: ExifTime | None


@dataclass(frozen=True, slots=True)
class Video:
    """A whole video, as far as its structure tells; its frames are yet to be read."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Unfit:
    """Not to be taken in as it is now; a file that is still being written may become fit."""

    reason: str
    """Stable code, as `file.rejected` stores it."""
    detail: str


Finding = Still | Video | Unfit

_CUT: Final = Unfit("truncated", "the picture ends before its end marker")


def check(file: OpenFile, *, settled: bool) -> Finding:
    """Find out what a file is; `settled` says that nobody has written to it for a while."""
    head = file.stream.read(16)
    if not head:
        return Unfit("empty", "the file has 0 bytes")
    if head[4:8] == b"ftyp":
        finding = _video(file, settled=settled)
    elif head.startswith((_JPEG_START, _PNG_START)):
        finding = _picture(file, head)
    else:
        return Unfit("unsupported", "the content is neither JPEG nor PNG nor MP4")
    if not isinstance(finding, Unfit) and not file.unchanged():
        return Unfit("truncated", "the file is still being written")
    return finding


def _picture(file: OpenFile, head: bytes) -> Finding:
    if file.size_bytes > MAX_PICTURE_BYTES:
        return Unfit(
            "too_large", f"{file.size_bytes} bytes; a picture may have {MAX_PICTURE_BYTES}"
        )
    data = head + file.stream.read(MAX_PICTURE_BYTES)
    try:
        if head.startswith(_JPEG_START):
            return _jpeg(data)
        if _PNG_END not in data:
            return _CUT
        # The classes themselves, since Image.open would try every format it knows, and only
        # warns about the pixels that a picture claims.
        with PngImageFile(io.BytesIO(data)) as image:
            return _decoded(image, data, image.info.get("exif"))
    except CutError:
        return _CUT
    except DECODER_ERRORS as error:
        return Unfit("broken", f"the picture does not decode to its end: {error}")


def _jpeg(data: bytes) -> Finding:
    parts = take_apart(data)
    if not parts.is_complete:
        return _CUT
    if parts.scans.count(SCAN) > MAX_SCANS:
        return Unfit("unsupported", f"a JPEG of more than {MAX_SCANS} scans")
    with JpegImageFile(io.BytesIO(parts.without_exif())) as image:
        # An eighth of the size still reads the data to its end, at a fraction of the cost.
        return _decoded(image, data, parts.exif, shrink=8)


def _decoded(
    image: JpegImageFile | PngImageFile, data: bytes, exif: object, *, shrink: int = 1
) -> Finding:
    width, height = image.size
    if width * height > MAX_PIXELS:
        return Unfit(
            "too_large",
            f"{width} x {height} are {width * height // 1_000_000} megapixels; "
            f"a picture may have {MAX_PIXELS // 1_000_000}",
        )
    if shrink > 1:
        image.draft("L", (max(1, width // shrink), max(1, height // shrink)))
    image.load()
    block = exif if isinstance(exif, bytes) else b""
    if exif_turns(block):
        width, height = height, width
    return Still(
        sha256=sha256(data).hexdigest(),
        size_bytes=len(data),
        width=width,
        height=height,
        exif=exif_time(block),
    )


def _video(file: OpenFile, *, settled: bool) -> Finding:
    if file.size_bytes > MAX_VIDEO_BYTES:
        return Unfit("too_large", f"{file.size_bytes} bytes; a video may have {MAX_VIDEO_BYTES}")
    structure = structure_of(file.stream, file.size_bytes)
    if structure is Structure.CUT or (structure is Structure.OPEN and not settled):
        return Unfit("truncated", "the video ends before the end that it announces")
    file.stream.seek(0)
    digest = sha256()
    while chunk := file.stream.read(_CHUNK):
        digest.update(chunk)
    return Video(digest.hexdigest(), file.size_bytes)
