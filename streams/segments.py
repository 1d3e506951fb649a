"""The archive's files: compressed segments, and one manifest whose hash chain covers them all.

A segment holds entries of one stream's partition, one JSON line each, as they stood in Redis. The
manifest is written as one canonical text, so that no byte of it can change unseen.
"""

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
import zstandard

from domain.errors import HsiError
from streams.block_sums import with_sums
from streams.envelope import START, Position

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
LEVEL: Final = 6

Entry = tuple[bytes, Mapping[bytes, bytes]]
"""An entry as Redis gives it: its id, and its fields."""


class ArchiveError(HsiError):
    """The archive is not what it should be; the message names the file and what to do."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the archive."""

    stream: str
    partition: int
    file: str
    """Path below the archive's folder."""
    count: int
    first: str
    last: str
    size_bytes: int
    sha256: str
    """Of the compressed file."""
    chain: str
    """Hash over the chain before it and everything above."""

    @property
    def lane(self) -> tuple[str, int]:
        """Return the stream and the partition."""
        return self.stream, self.partition

    def linked(self, before: str) -> str:
        """Return what `chain` has to be, given the link before."""
        told = msgspec.to_builtins(self) | {"chain": before}
        return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the archive holds."""

    format: int
    incarnation: str
    partitions: int
    segments: tuple[Segment, ...] = ()

    @property
    def origin(self) -> str:
        """Return the link before the first segment."""
        told = f"hsi-archive/{self.format}/{self.incarnation}/{self.partitions}"
        return sha256(told.encode()).hexdigest()

    @property
    def head(self) -> str:
        """Return the last link of the chain."""
        return self.segments[-1].chain if self.segments else self.origin

    def of(self, stream: str, partition: int) -> list[Segment]:
        """Return the segments of one lane, oldest first."""
        return [segment for segment in self.segments if segment.lane == (stream, partition)]

    def end(self, stream: str, partition: int) -> Position:
        """Return the last archived position of a lane, START when there is none."""
        mine = self.of(stream, partition)
        return Position.parse(mine[-1].last) if mine else START

    def with_segment(self, segment: Segment) -> "Manifest":
        """Return the manifest with one segment more, linked to the chain."""
        linked = msgspec.structs.replace(segment, chain=segment.linked(self.head))
        return msgspec.structs.replace(self, segments=(*self.segments, linked))

    def encode(self) -> bytes:
        """Return the one text that this manifest is written as."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


def load_manifest(folder: Path) -> Manifest | None:
    """Return the manifest, None where there is no archive yet; raises ArchiveError."""
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArchiveError(
            f"{path} cannot be read ({error.strerror}): check ARCHIVE_DIR"
        ) from error
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ArchiveError(
            f"{path} is damaged ({error}): run `hsi archive verify`, and restore it from a backup"
        ) from error
    if manifest.format != FORMAT:
        raise ArchiveError(
            f"{path} has format {manifest.format}, this version reads {FORMAT}: use the version "
            "that wrote it"
        )
    return manifest


def store_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest as a whole, or not at all."""
    write_whole(folder / MANIFEST, manifest.encode())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that, whenever the machine stops, it is there whole or not at all."""
    draft = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
        for folder in (path.parent, path.parent.parent):
            _sync(folder)
    except OSError as error:
        raise ArchiveError(
            f"{path} cannot be written ({error.strerror}): free space there, or set ARCHIVE_DIR; "
            "nothing is trimmed meanwhile"
        ) from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_segment(folder: Path, stream: str, partition: int, entries: Sequence[Entry]) -> Segment:
    """Write one segment and return it, not yet linked; the same entries replace a stray file."""
    first, last = (entries[k][0].decode() for k in (0, -1))
    text = b"".join(line_of(entry) for entry in entries)
    data = with_sums(zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(text))
    name = f"{stream}/{partition}/{first}.jsonl.zst"
    write_whole(folder / name, data)
    return Segment(
        stream=stream,
        partition=partition,
        file=name,
        count=len(entries),
        first=first,
        last=last,
        size_bytes=len(data),
        sha256=sha256(data).hexdigest(),
        chain="",
    )


def line_of(entry: Entry) -> bytes:
    """Return an entry as a line; bytes that are not UTF-8 are kept as lone surrogates."""
    position, fields = entry
    told = {
        "position": position.decode(),
        "fields": {_text(name): _text(value) for name, value in fields.items()},
    }
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"


def entry_of(line: bytes) -> Entry:
    """Read a line; raises ValueError, KeyError, TypeError or AttributeError on what is none."""
    told = json.loads(line)
    position = told["position"].encode()
    Position.parse(position)
    return position, {_bytes(name): _bytes(value) for name, value in told["fields"].items()}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def read_segment(folder: Path, segment: Segment) -> Iterator[tuple[int, Entry]]:
    """Give the entries of a segment with their line numbers; raises ArchiveError at a bad one.

    The file's hash is checked first: what does not match is never half read.
    """
    path = folder / segment.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArchiveError(
            f"{path} cannot be read ({error.strerror}): restore it from a backup of ARCHIVE_DIR"
        ) from error
    if sha256(data).hexdigest() != segment.sha256:
        raise ArchiveError(
            f"{path} is not what was archived (another SHA-256): run `hsi archive verify`, and "
            "restore it from a backup of ARCHIVE_DIR"
        )
    yield from lines_of(data)


def lines_of(data: bytes) -> Iterator[tuple[int, Entry]]:
    """Give the entries in a segment's bytes with their line numbers (from 1)."""
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)) as reader:
        for number, line in enumerate(io.BufferedReader(reader), start=1):
            yield number, entry_of(line)
