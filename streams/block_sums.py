"""Where a file is damaged: checksums of its blocks, kept behind its content.

They stand in a frame that every reader of zstd skips, so `zstdcat` shows the content alone. A hash
of the whole file tells that it is damaged; these tell where, down to the byte when it is one.
"""

import zlib
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Final

BLOCK: Final = 256
"""Bytes of content that one checksum covers; one checksum takes four."""
_MAGIC: Final = 0x184D2A5E
"""Begins one of the sixteen kinds of frames that zstd leaves to others."""
_HEADER: Final = Struct("<II")
_SUM: Final = Struct("<I")
_CHANGES: Final = tuple(zlib.crc32(bytes((flips,))) ^ zlib.crc32(b"\0") for flips in range(256))
"""How the checksum changes with the bits that change in its last byte."""
_FLIPS: Final = {change: flips for flips, change in enumerate(_CHANGES)}
_LAST: Final = {change >> 24: flips for flips, change in enumerate(_CHANGES)}


def with_sums(content: bytes) -> bytes:
    """Return the content with the checksums of its blocks behind it."""
    sums = b"".join(_SUM.pack(zlib.crc32(block)) for block in _blocks(content))
    return content + _HEADER.pack(_MAGIC, len(sums)) + sums


def first_damage(data: bytes, size: int, is_whole: Callable[[bytes], bool]) -> str | None:
    """Say where the first byte is that is not as it was written; None where that cannot be told.

    `size` is what `with_sums` gave, `is_whole` tells whether all bytes are right again.
    """
    blocks = -(-(size - _HEADER.size) // (BLOCK + _SUM.size))
    end = size - _HEADER.size - blocks * _SUM.size
    header = _HEADER.pack(_MAGIC, blocks * _SUM.size)
    if len(data) != size or end < 0 or not _is_nearly(data[end : end + _HEADER.size], header):
        return None  # What it was cut off from, or never had, are the checksums.
    content = data[:end]
    if is_whole(data):
        return None
    if is_whole(unharmed := with_sums(content)):
        return _first_other(data, unharmed)
    for number, block in enumerate(_blocks(content)):
        (told,) = _SUM.unpack_from(data, end + _HEADER.size + number * _SUM.size)
        if zlib.crc32(block) == told:
            continue
        begin = number * BLOCK
        for mended in _one_byte_mended(block, told):
            whole = content[:begin] + mended + data[begin + len(block) :]
            if is_whole(whole):
                return _first_other(data, whole)
        return f"bytes {begin} to {begin + len(block) - 1} are not as they were written"
    return None


def _is_nearly(found: bytes, header: bytes) -> bool:
    """Say whether this is the header, one damaged byte at most."""
    return sum(one != other for one, other in zip(found, header, strict=False)) <= 1


def _blocks(content: bytes) -> Iterator[bytes]:
    for begin in range(0, len(content), BLOCK):
        yield content[begin : begin + BLOCK]


def _one_byte_mended(block: bytes, wanted: int) -> Iterator[bytes]:
    """Give the block with one byte changed so that it has the wanted checksum.

    A checksum changes by the change of its input alone: so the difference is taken back byte by
    byte from the end, until it is one that a single byte makes.
    """
    change = zlib.crc32(block) ^ wanted
    for at in reversed(range(len(block))):
        if (flips := _FLIPS.get(change)) is not None:
            yield block[:at] + bytes((block[at] ^ flips,)) + block[at + 1 :]
        last = _LAST[change >> 24]
        change = (change ^ _CHANGES[last]) << 8 | last


def _first_other(data: bytes, whole: bytes) -> str:
    at = next(k for k, (is_, was) in enumerate(zip(data, whole, strict=True)) if is_ != was)
    return f"byte {at} is 0x{data[at]:02x} and was written as 0x{whole[at]:02x}"
