"""Capture time and orientation out of a picture's EXIF block; a broken block is the same as none.

Only four text tags and a number are read, each bounded: no block costs more than a few look-ups.
"""

import re
import struct
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

_EXIF_IFD: Final = 0x8769
_DATE_TIME_ORIGINAL: Final = 0x9003
_OFFSET_TIME: Final = 0x9010
_OFFSET_TIME_ORIGINAL: Final = 0x9011
_SUBSECONDS_ORIGINAL: Final = 0x9291

_ORIENTATION: Final = 0x0112
_TURNED: Final = range(5, 9)

_ASCII: Final = 2
_SHORT: Final = 3
_MOST_ENTRIES: Final = 512
_MOST_TEXT: Final = 64
_OFFSET: Final = re.compile(r"([+-])(\d\d):(\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ExifTime:
    """When the camera says it took the picture, by its own clock."""

    local: datetime
    """Without a time zone, as EXIF writes it."""
    zone: timezone | None
    """None where the camera does not say."""


def exif_time(block: bytes) -> ExifTime | None:
    """Read DateTimeOriginal with its fraction and offset; None where they are not there."""
    tiff = block.removeprefix(b"Exif\0\0")
    try:
        texts = _texts(tiff)
        local = datetime.strptime(texts[_DATE_TIME_ORIGINAL], "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007
    except (struct.error, KeyError, ValueError):
        return None
    fraction = texts.get(_SUBSECONDS_ORIGINAL, "")
    if fraction.isascii() and fraction.isdigit():
        local = local.replace(microsecond=int(fraction[:6].ljust(6, "0")))
    offset = texts.get(_OFFSET_TIME_ORIGINAL) or texts.get(_OFFSET_TIME) or ""
    return ExifTime(local, _zone(offset))


def exif_turns(block: bytes) -> bool:
    """Say whether a viewer turns the picture by a quarter, so that its sides exchange."""
    tiff = block.removeprefix(b"Exif\0\0")
    try:
        order = {b"II*\0": "<", b"MM\0*": ">"}[tiff[:4]]
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        kind, value, count = _entries(tiff, order, first)[_ORIENTATION]
        (turn,) = struct.unpack_from(f"{order}H", value)
    except (struct.error, KeyError):
        return False
    return kind == _SHORT and count == 1 and turn in _TURNED


def _texts(tiff: bytes) -> dict[int, str]:
    """Return the text tags of the EXIF directory."""
    order = {b"II*\0": "<", b"MM\0*": ">"}[tiff[:4]]
    (first,) = struct.unpack_from(f"{order}I", tiff, 4)
    _, pointer, _ = _entries(tiff, order, first)[_EXIF_IFD]
    (directory,) = struct.unpack(f"{order}I", pointer)
    texts: dict[int, str] = {}
    for tag, (kind, value, count) in _entries(tiff, order, directory).items():
        if kind == _ASCII and count <= _MOST_TEXT:
            data = value[:count]
            if count > len(value):
                (at,) = struct.unpack(f"{order}I", value)
                data = tiff[at : at + count]
            texts[tag] = data.split(b"\0")[0].decode("ascii", "replace").strip()
    return texts


def _entries(tiff: bytes, order: str, at: int) -> dict[int, tuple[int, bytes, int]]:
    """Return tag → (kind, the four bytes of the value or its offset, count) of one directory."""
    (number,) = struct.unpack_from(f"{order}H", tiff, at)
    found: dict[int, tuple[int, bytes, int]] = {}
    for index in range(min(number, _MOST_ENTRIES)):
        tag, kind, count, value = struct.unpack_from(f"{order}HHI4s", tiff, at + 2 + 12 * index)
        found.setdefault(tag, (kind, value, count))
    return found


def _zone(offset: str) -> timezone | None:
    match = _OFFSET.fullmatch(offset)
    if match is None:
        return None
    ahead = timedelta(hours=int(match[2]), minutes=int(match[3]))
    if ahead >= timedelta(hours=24):
        return None
    return timezone(ahead if match[1] == "+" else -ahead)
