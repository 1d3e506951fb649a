"""Picture bytes to pixels: checked before they are decoded, reduced while they are decoded.

Rules that everything here keeps:

- The header is read first; a picture above MAX_PIXELS is refused without decoding it.
- Pixels are RGB with 8 bits. CMYK and grey become RGB, 16 bits keep their upper 8, transparency
  is dropped, of an animation only the first frame counts.
- A picture is upright: its EXIF orientation is applied, and width, height and boxes are given in
  the upright picture, which is also what a browser shows.
- JPEGs are decoded by OpenCV at 1/2, 1/4 or 1/8 of their size where a detector that looks at
  640 x 640 pixels loses nothing by it; everything else goes through Pillow.
"""

import io
import struct
import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from domain.errors import PermanentError
from inference.ports import Picture

MAX_PIXELS = 64_000_000
"""More would take 192 MB decoded; a 100-megapixel file of a few kB must not stop a camera."""
TARGET_SIDE = 640
"""The largest square that a detector looks at."""
FORMATS = ("JPEG", "PNG")
"""What cameras write. Pillow reports a JPEG with a preview behind it as MPO."""

Pixels = NDArray[np.uint8]

_ORIENTATION = 0x0112
_EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_SIXTEEN_BIT_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_BROKEN = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What Pillow raises for bytes that are not the picture they claim to be."""


class UnreadablePictureError(PermanentError):
    """The bytes are no picture that can be decoded, or one that claims too many pixels."""


# One picture at a time is decoded on one core; OpenCV's own pool would only stand idle beside it.
cv2.setNumThreads(1)


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture says of itself, read without decoding it."""

    width: int
    """Pixels of the upright picture."""
    height: int
    format: str
    mode: str
    orientation: int
    """EXIF orientation, 1 to 8; 1 is upright."""


def probe(data: bytes, name: str) -> Header:
    """Return the header of the picture in `data`; PermanentError for none or a huge one."""
    with _open(data, name) as image:
        return _header(image, name)


def decode(data: bytes, name: str, *, target: int = TARGET_SIDE) -> Picture:
    """Return the picture in `data` for a detector that looks at `target` x `target` pixels.

    Takes milliseconds of CPU: call it in a thread. Raises PermanentError, naming the reason, for
    bytes that are no picture, a picture that is cut off, and one above MAX_PIXELS.
    """
    with _open(data, name) as image:
        header = _header(image, name)
        if header.format in ("JPEG", "MPO") and header.mode in ("RGB", "L"):
            pixels = _decode_jpeg(data, name, header, target)
        else:
            pixels = _decode_any(image, name)
    upright = _upright(pixels, header.orientation)
    return Picture(upright, header.width, header.height, data, name)


def upload(picture: Picture) -> tuple[bytes, str]:
    """Return the picture as a file, and its media type, for a detector that decodes it itself.

    That is the file as it lies there, or an upright JPEG of it when it relies on EXIF: detectors
    differ in whether they turn a picture, and none can go wrong with this.
    """
    header = probe(picture.encoded, picture.name)
    if header.orientation == 1:
        return picture.encoded, Image.MIME.get(header.format, "application/octet-stream")
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture.rgb, cv2.COLOR_RGB2BGR))
    return encoded.tobytes(), "image/jpeg"


def square(picture: Picture, side: int) -> Pixels:
    """Return the picture stretched to a square, at the least cost that its decoding allows.

    Pixels that were reduced while they were decoded differ from Pillow's by a grey level anyway,
    and OpenCV's bilinear adds a tenth of one, in a ninth of the time. Others stay Pillow's to the
    bit, which is what RT-DETR's reference implementation looks at.
    """
    decoded_height, decoded_width = picture.rgb.shape[:2]
    reduced = (decoded_width, decoded_height) != (picture.width, picture.height)
    # Further away than this, bilinear would skip pixels.
    if reduced and decoded_width <= 2 * side and decoded_height <= 2 * side:
        resized: Pixels = cv2.resize(picture.rgb, (side, side), interpolation=cv2.INTER_LINEAR)
        return resized
    return stretch(picture.rgb, side)


def stretch(rgb: Pixels, side: int) -> Pixels:
    """Return the picture as a square, not keeping its shape (what RT-DETR was trained with)."""
    return _resize(rgb, side, side)


def letterbox(rgb: Pixels, side: int) -> Pixels:
    """Return the picture in the top left of a grey square; its longer side fills the square's."""
    height, width = rgb.shape[:2]
    scale = side / max(width, height)
    inner_width, inner_height = max(1, round(width * scale)), max(1, round(height * scale))
    square = np.full((side, side, 3), 127, np.uint8)
    square[:inner_height, :inner_width] = _resize(rgb, inner_width, inner_height)
    return square


def _resize(rgb: Pixels, width: int, height: int) -> Pixels:
    """Resize as Pillow does: bilinear over all pixels a target pixel covers (antialiased)."""
    if rgb.shape[:2] == (height, width):
        return rgb
    resized = Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _open(data: bytes, name: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadablePictureError(
            f"{name}: above the limit of {_megapixels()}: {error}"
        ) from error
    except _BROKEN as error:
        reason = "it is empty" if not data else f"{len(data)} bytes without a readable header"
        raise UnreadablePictureError(f"{name} is neither a JPEG nor a PNG: {reason}") from error


def _header(image: Image.Image, name: str) -> Header:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadablePictureError(
            f"{name}: {width} x {height} pixels are above the limit of {_megapixels()}"
        )
    orientation = _orientation(image)
    if orientation >= 5:
        width, height = height, width
    return Header(width, height, image.format or "", image.mode, orientation)


def _megapixels() -> str:
    return f"{MAX_PIXELS // 1_000_000} megapixels"


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; a broken EXIF block is no reason to lose a picture."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _BROKEN:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _reduction(width: int, height: int, target: int) -> int:
    """Return by how much a JPEG may shrink while it is decoded.

    The longer side must still fill the target; the shorter one may lack a fifth of it, which
    lets 1080p be halved (960 x 540). That costs less than one grey level a pixel on average.
    """
    for factor in (8, 4, 2):
        longer, shorter = max(width, height) // factor, min(width, height) // factor
        if longer >= target and shorter * 5 >= target * 4:
            return factor
    return 1


def _decode_jpeg(data: bytes, name: str, header: Header, target: int) -> Pixels:
    if not _has_end_marker(data):
        raise UnreadablePictureError(f"{name}: the JPEG is cut off after {len(data)} bytes")
    flags = {
        1: cv2.IMREAD_COLOR,
        2: cv2.IMREAD_REDUCED_COLOR_2,
        4: cv2.IMREAD_REDUCED_COLOR_4,
        8: cv2.IMREAD_REDUCED_COLOR_8,
    }[_reduction(header.width, header.height, target)]
    try:
        # Orientation is left to _upright, so that there is one place that turns pictures.
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise UnreadablePictureError(f"{name}: the JPEG does not decode: {error}") from error
    if bgr is None:
        raise UnreadablePictureError(f"{name}: the JPEG does not decode")
    pixels: Pixels = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return pixels


def _has_end_marker(data: bytes) -> bool:
    """Tell whether the compressed data reaches its end marker.

    OpenCV fills what is missing with grey and says nothing. An EXIF thumbnail has an end marker
    of its own, so the segments are walked to the start of the picture's own data first.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker == 0xDA:
            return data.find(b"\xff\xd9", position) != -1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def _decode_any(image: Image.Image, name: str) -> Pixels:
    try:
        if image.mode in _SIXTEEN_BIT_MODES:
            # Pillow's own conversion would clip everything above 255 to white.
            grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
            return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
        if image.mode not in _EIGHT_BIT_MODES:
            raise UnreadablePictureError(
                f"{name}: pictures of mode {image.mode} are not supported"
            )
        return np.array(image.convert("RGB"))
    except (*_BROKEN, Image.DecompressionBombError) as error:
        raise UnreadablePictureError(
            f"{name}: the {image.format} does not decode: {error}"
        ) from error


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn and mirror as EXIF says: 2 to 4 keep the sides, 5 to 8 exchange them."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    flip_columns = orientation in (2, 3, 6, 7)
    flip_rows = orientation in (3, 4, 7, 8)
    pixels = pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return np.ascontiguousarray(pixels)
