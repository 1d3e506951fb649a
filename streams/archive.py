"""Archive: copies what the log holds into segments, and tells whether these are still whole.

In this order, so that a stop anywhere leaves nothing half done: (1) write a segment as a whole,
(2) replace the manifest as a whole, (3) only then may the stream be trimmed (`streams.trim`). A
segment without its line in the manifest is written again, under the same name.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import zstandard

from streams.block_sums import first_damage
from streams.connection import redis_errors
from streams.envelope import Position
from streams.holding import holding
from streams.lease import Lease
from streams.log import EventLog
from streams.names import STREAMS, stream_key
from streams.segments import (
    FORMAT,
    MANIFEST,
    ArchiveError,
    Entry,
    Manifest,
    Segment,
    lines_of,
    load_manifest,
    store_manifest,
    write_segment,
)

SEGMENT_ENTRIES = 20_000
"""Entries one segment holds at most."""

READ_RUN = 2000

Lane = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Archived:
    """What one run added."""

    entries: int
    segments: int
    size_bytes: int


class Archive:
    """The archive of one log in one folder."""

    def __init__(
        self, log: EventLog, folder: Path, *, segment_entries: int = SEGMENT_ENTRIES
    ) -> None:
        self._log = log
        self._folder = folder
        self._segment_entries = segment_entries

    def lanes(self) -> Iterator[Lane]:
        """Give every stream and partition."""
        for stream in STREAMS:
            for partition in range(self._log.partitions):
                yield stream, partition

    def manifest(self) -> Manifest:
        """Return the manifest, a new one where there is no archive yet.

        Raises ArchiveError when the folder holds another log's archive.
        """
        found = load_manifest(self._folder)
        if found is None:
            return Manifest(
                format=FORMAT,
                incarnation=self._log.incarnation,
                partitions=self._log.partitions,
            )
        if found.incarnation != self._log.incarnation or found.partitions != self._log.partitions:
            raise ArchiveError(
                f"{self._folder} holds the archive of another log ({found.incarnation}) than the "
                f"one at REDIS_URL ({self._log.incarnation}): set ARCHIVE_DIR to another folder"
            )
        return found

    async def run(self, *, said: Callable[[Segment], None] | None = None) -> Archived:
        """Archive everything that is not archived yet.

        Raises HeldElsewhereError while another process does so.
        """
        lease = Lease(self._log, "archive", 0)
        entries = segments = size = 0
        async with holding(lease, "archiving") as lost:
            for lane in self.lanes():
                while not lost.is_set() and (segment := await self._next(*lane)):
                    entries += segment.count
                    segments += 1
                    size += segment.size_bytes
                    if said is not None:
                        said(segment)
        return Archived(entries, segments, size)

    async def _next(self, stream: str, partition: int) -> Segment | None:
        """Archive one segment of a lane; None when there is nothing left to archive."""
        manifest = await asyncio.to_thread(self.manifest)
        end = manifest.end(stream, partition)
        entries = await self._read(stream, partition, end)
        if not entries:
            if await self._log.newest(stream, partition) < end:
                raise ArchiveError(
                    f"{stream}/{partition} ends before what is archived ({end}): the log has lost "
                    "its end; restore the log, or set ARCHIVE_DIR to another folder"
                )
            return None
        return await asyncio.to_thread(self._store, manifest, stream, partition, entries)

    def _store(
        self, manifest: Manifest, stream: str, partition: int, entries: list[Entry]
    ) -> Segment:
        segment = write_segment(self._folder, stream, partition, entries)
        store_manifest(self._folder, manifest.with_segment(segment))
        return segment

    async def _read(self, stream: str, partition: int, after: Position) -> list[Entry]:
        entries: list[Entry] = []
        while len(entries) < self._segment_entries:
            count = min(READ_RUN, self._segment_entries - len(entries))
            async with redis_errors():
                run = await self._log.client.xrange(
                    stream_key(partition, stream), min=str(after.next()), count=count
                )
            entries += run
            if len(run) < count:
                break
            after = Position.parse(run[-1][0])
        return entries


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found: None for `problem` says that every byte is as it was archived."""

    segments: int
    entries: int
    size_bytes: int
    problem: str | None = None


def verify(folder: Path) -> Verdict:
    """Read the whole archive and name the first thing that is not as it was archived."""
    try:
        manifest = load_manifest(folder)
    except ArchiveError as error:
        return Verdict(0, 0, 0, str(error))
    if manifest is None:
        return Verdict(0, 0, 0, f"{folder} holds no archive ({MANIFEST} is missing)")
    if problem := _manifest_problem(folder, manifest):
        return Verdict(0, 0, 0, problem)
    entries = size = 0
    ends: dict[Lane, Position] = {}
    for number, segment in enumerate(manifest.segments):
        if problem := _segment_problem(folder, segment, ends):
            return Verdict(number, entries, size, problem)
        entries += segment.count
        size += segment.size_bytes
    return Verdict(len(manifest.segments), entries, size)


def _manifest_problem(folder: Path, manifest: Manifest) -> str | None:
    stored, canonical = (folder / MANIFEST).read_bytes(), manifest.encode()
    if stored != canonical:
        at = next(
            (
                k
                for k, pair in enumerate(zip(stored, canonical, strict=False))
                if pair[0] != pair[1]
            ),
            min(len(stored), len(canonical)),
        )
        return f"{MANIFEST}: byte {at} is not as it was written"
    link = manifest.origin
    for segment in manifest.segments:
        if segment.linked(link) != segment.chain:
            return f"{MANIFEST}: the hash chain breaks at {segment.file}"
        link = segment.chain
    return None


def _segment_problem(folder: Path, segment: Segment, ends: dict[Lane, Position]) -> str | None:
    path = folder / segment.file
    try:
        data = path.read_bytes()
    except OSError as error:
        return f"{segment.file}: cannot be read ({error.strerror})"

    def is_whole(found: bytes) -> bool:
        return sha256(found).hexdigest() == segment.sha256

    problem = _lines_problem(segment, data, ends)
    if not is_whole(data):
        where = first_damage(data, segment.size_bytes, is_whole)
        problem = where or problem or "its bytes have another SHA-256 than the manifest says"
    if problem is None:
        return None
    return f"{segment.file} ({segment.size_bytes} bytes archived, {len(data)} found): {problem}"


def _lines_problem(segment: Segment, data: bytes, ends: dict[Lane, Position]) -> str | None:
    """Name the first line that is damaged, out of order, or missing."""
    number = 0
    first = last = ends.get(segment.lane, Position(0, 0))
    try:
        for number, (position, _) in lines_of(data):
            at = Position.parse(position)
            if at <= last:
                return f"line {number}: {at} does not come after {last}"
            first, last = (at if number == 1 else first), at
    except zstandard.ZstdError as error:
        return f"behind line {number}: it does not unpack ({error})"
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        return f"line {number + 1}: it is not an entry ({error})"
    if (number, str(first), str(last)) != (segment.count, segment.first, segment.last):
        return f"line {number}: it ends there, after {last}; {segment.count} lines were archived"
    ends[segment.lane] = last
    return None
