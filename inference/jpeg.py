"""The segments of a JPEG: its EXIF block taken out or put in, and where the picture itself ends.

Nothing is decoded, so an EXIF block that would upset a decoder never reaches one, and a new block
costs no quality.
"""

import struct
from dataclasses import dataclass
from typing import Final

START: Final = b"\xff\xd8"
END: Final = b"\xff\xd9"
SCAN: Final = b"\xff\xda"
_APP1: Final = 0xE1
_EXIF: Final = b"Exif\0\0"
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})


class CutError(ValueError):
    """The data ends before the first scan of the picture begins."""


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A JPEG taken apart."""

    exif: bytes | None
    """Content of the first EXIF segment, beginning with `Exif`."""
    segments: tuple[bytes, ...]
    """Every segment before the first scan, without EXIF and other APP1 ones."""
    scans: bytes
    """From the first scan to the end of the data."""

    @property
    def is_complete(self) -> bool:
        """Say whether the end marker is there.

        Only behind the first scan: the thumbnail in an EXIF block has one too, and coded data
        never contains one by chance.
        """
        return END in self.scans

    def without_exif(self) -> bytes:
        """Return the picture up to its end marker, without EXIF."""
        end = self.scans.find(END)
        return b"".join((START, *self.segments, self.scans[:end], END))

    def with_exif(self, block: bytes) -> bytes:
        """Return the picture with `block` (beginning with `Exif`) as its EXIF."""
        header = struct.pack(">BBH", 0xFF, _APP1, len(block) + 2)
        return b"".join((START, header, block, *self.segments, self.scans))


def take_apart(data: bytes) -> Jpeg:
    """Walk over the segments; raises CutError when they are cut, ValueError when they are none."""
    exif: bytes | None = None
    segments: list[bytes] = []
    at = len(START)
    while (marker := _marker(data, at)) != SCAN[1]:
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + _length(data, at)
        if marker != _APP1:
            segments.append(data[at:end])
        elif exif is None and data.startswith(_EXIF, at + 4):
            exif = data[at + 4 : end]
        at = end
    return Jpeg(exif, tuple(segments), data[at:])


def _marker(data: bytes, at: int) -> int:
    if at + 4 > len(data):
        raise CutError("the picture ends before its first scan")
    if data[at] != 0xFF:
        raise ValueError(f"no JPEG segment at byte {at}")
    return data[at + 1]


def _length(data: bytes, at: int) -> int:
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    if length < 2:
        raise ValueError(f"a JPEG segment of {length} bytes at byte {at}")
    return length
