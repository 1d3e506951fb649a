"""History: the whole past of a stream, whether it still stands in Redis or in the archive only."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from streams.connection import redis_errors
from streams.envelope import START, Envelope, Position
from streams.log import EventLog
from streams.names import stream_key, trimmed_key
from streams.segments import ArchiveError, Entry, Segment, load_manifest, read_segment

READ_RUN = 2000
"""Envelopes one list holds at most."""


class MissingHistoryError(ArchiveError):
    """Entries were trimmed from the stream, and the archive at hand does not have them."""


async def trimmed_below(log: EventLog, stream: str, partition: int) -> Position:
    """Return the position below which the stream holds nothing any more; START: it is whole."""
    async with redis_errors():
        value = await log.client.get(trimmed_key(stream_key(partition, stream)))
    return Position.parse(value) if value else START


class History:
    """Reads archive and stream as one."""

    def __init__(self, log: EventLog, archive_dir: Path | None = None) -> None:
        """`archive_dir` is ARCHIVE_DIR; None reads the stream alone."""
        self._log = log
        self._archive_dir = archive_dir

    async def read_all(
        self, stream: str, partition: int, after: Position = START, *, count: int = READ_RUN
    ) -> AsyncIterator[list[Envelope]]:
        """Give everything behind `after`, oldest first, in lists of up to `count`.

        Ends where the stream ends at that moment; the caller follows the log from there. Raises
        MissingHistoryError when something was trimmed that the archive does not have, ArchiveError
        for a damaged archive.
        """
        while True:
            run = await self._log.read(stream, partition, after, count)
            # Asked after the read: whatever was trimmed by then may be missing from `run`.
            trimmed = await trimmed_below(self._log, stream, partition)
            if trimmed > after.next():
                async for archived in self._archived(stream, partition, after, trimmed, count):
                    yield archived
                after = trimmed.before()
            elif run:
                yield run
                after = run[-1].position
            else:
                return

    async def _archived(
        self, stream: str, partition: int, after: Position, end: Position, count: int
    ) -> AsyncIterator[list[Envelope]]:
        """Give what stood behind `after` and below `end`."""
        for segment in self._segments(stream, partition, end):
            if Position.parse(segment.last) <= after or Position.parse(segment.first) >= end:
                continue
            entries = await asyncio.to_thread(self._entries, segment, after, end)
            for start in range(0, len(entries), count):
                yield self._log.codec.decode_run(stream, partition, entries[start : start + count])

    def _segments(self, stream: str, partition: int, end: Position) -> list[Segment]:
        where = "no archive was named" if self._archive_dir is None else str(self._archive_dir)
        manifest = load_manifest(self._archive_dir) if self._archive_dir is not None else None
        known = manifest is not None and manifest.incarnation == self._log.incarnation
        if manifest is None or not known or manifest.end(stream, partition).next() < end:
            raise MissingHistoryError(
                f"{stream}/{partition} was trimmed below {end}, and the archive of this log does "
                f"not reach so far ({where}): set ARCHIVE_DIR to the folder that `hsi archive "
                "run` wrote, or restore it from a backup"
            )
        return manifest.of(stream, partition)

    def _entries(self, segment: Segment, after: Position, end: Position) -> list[Entry]:
        if self._archive_dir is None:
            return []
        return [
            entry
            for _, entry in read_segment(self._archive_dir, segment)
            if after < Position.parse(entry[0]) < end
        ]
