"""EventLog: append, take in a file, read a range, follow, newest position."""

import asyncio
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from redis.exceptions import ResponseError

from domain.errors import HsiError
from runtime.tasks import end
from streams import scripts
from streams.codec import Codec
from streams.connection import Client, Script, connect, redis_errors
from streams.continuity import Continuity, is_lost, is_whole
from streams.envelope import START, Envelope, NewEvent, Position
from streams.names import GROUPS, META_KEY, STREAM_OF, key, partition_of, stream_key

REMEMBER_IDS_SECONDS = 86_400
"""How long a second append with the same id is recognised and does nothing."""

APPEND_RUN = 200
"""Events one script call appends at most: keeps the server free for others."""

_append = Script(scripts.APPEND)
_take_in = Script(scripts.TAKE_IN)
_handled_until = Script(scripts.HANDLED_UNTIL)

Cursors = Mapping[tuple[str, int], Position]


@dataclass(frozen=True, slots=True)
class Intake:
    """One file that a watcher found whole, with what to append for it."""

    camera_id: str
    path: str
    signature: str
    """Changes when the file changes: size and modification time."""
    file_id: str
    sha256: str | None
    """None when the content does not matter (a rejected file, a duplicate already told apart)."""
    dedupe_ttl_seconds: int
    events: tuple[NewEvent, ...]


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What became of an intake."""

    status: Literal["appended", "known", "duplicate"]
    duplicate_of: str | None = None


@dataclass(frozen=True, slots=True)
class GroupBacklog:
    """What a consumer group still has to do, over all partitions."""

    group: str
    stream: str
    pending: int
    """Delivered, not yet acknowledged."""
    lag: int
    """Not yet delivered."""
    oldest_ms: int | None
    """Redis time (ms) at which the oldest entry that is not yet handled was recorded."""
    handled: int | None
    """Acknowledged since the group began; None when Redis has lost count."""

    @property
    def left(self) -> int:
        """Return how many entries are not yet handled."""
        return self.pending + self.lag


class EventLog:
    """The event log of one installation; one instance a process."""

    def __init__(
        self,
        client: Client,
        *,
        cluster: bool,
        partitions: int,
        incarnation: str,
        continuity: Continuity | None = None,
    ) -> None:
        self.client = client
        self.cluster = cluster
        self.partitions = partitions
        self.incarnation = incarnation
        """Names this life of the log: a checkpoint of another life does not count here."""
        self.continuity = continuity or Continuity()
        self.continuity.execute = self._execute
        self.codec = Codec.of()
        self.groups: dict[str, str] = dict(GROUPS)
        """The consumer groups of this installation, with the optional ones that it uses."""

    @classmethod
    async def open(
        cls, url: str, *, password: str | None = None, partitions: int = 4
    ) -> "EventLog":
        """Connect, and found the log if this is its first start.

        Raises HsiError when the log was founded with another number of partitions.
        """
        continuity = Continuity()
        client, cluster = await connect(
            url, password=password, on_connect=continuity.on_connect, on_moved=continuity.moved
        )
        try:
            async with redis_errors():
                await client.hsetnx(META_KEY, "partitions", partitions)
                await client.hsetnx(META_KEY, "incarnation", secrets.token_hex(8))
                meta = await client.hgetall(META_KEY)
            stored = int(meta[b"partitions"])
            if stored != partitions:
                raise HsiError(
                    f"STREAM_PARTITIONS is {partitions}, but this log was founded with {stored} "
                    f"partitions and keeps them: set STREAM_PARTITIONS={stored}, or begin another "
                    "log (REDIS_URL, DATABASE_URL, ARCHIVE_DIR; files still there are taken in)"
                )
            log = cls(
                client,
                cluster=cluster,
                partitions=stored,
                incarnation=meta[b"incarnation"].decode(),
                continuity=continuity,
            )
            await log.use_groups(GROUPS)
        except BaseException:
            await client.aclose()
            raise
        return log

    async def use_groups(self, groups: Collection[str]) -> None:
        """Create these consumer groups at 0, so that no entry can come before its reader."""
        self.groups |= {group: STREAM_OF[group] for group in groups}
        for partition in range(self.partitions):
            for group in groups:
                await self.ensure_group(STREAM_OF[group], partition, group)

    async def ensure_group(self, stream: str, partition: int, group: str) -> None:
        """Create `group` at the start of the stream unless it is there."""
        async with redis_errors():
            name = stream_key(partition, stream)
            try:
                await self.client.xgroup_create(name, group, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def close(self) -> None:
        """Close every connection."""
        await self.continuity.close()
        await self.client.aclose()

    async def _execute(self, *command: str) -> Any:  # noqa: ANN401 - the driver's own
        async with redis_errors():
            return await self.client.execute_command(*command)

    def partition_of(self, camera_id: str) -> int:
        """Return the partition of a camera."""
        return partition_of(camera_id, self.partitions)

    # --- writing ----------------------------------------------------------------------------

    async def append(self, new: NewEvent) -> Position:
        """Append one event; the same id again within a day answers the first position."""
        return (await self.append_all([new]))[0]

    async def append_all(self, news: Sequence[NewEvent]) -> list[Position]:
        """Append events in order (per partition); each is recognised by its id like in append."""
        by_partition: dict[int, list[int]] = {}
        for index, new in enumerate(news):
            by_partition.setdefault(self.partition_of(new.event.camera_id), []).append(index)
        positions: dict[int, Position] = {}
        for partition, indexes in by_partition.items():
            for start in range(0, len(indexes), APPEND_RUN):
                run = indexes[start : start + APPEND_RUN]
                answer = await self._append_run(partition, [news[i] for i in run])
                positions.update(zip(run, answer, strict=True))
        return [positions[index] for index in range(len(news))]

    async def _append_run(self, partition: int, news: Sequence[NewEvent]) -> list[Position]:
        keys: list[str] = []
        arguments: list[str | bytes | int] = [REMEMBER_IDS_SECONDS]
        for new in news:
            keys += [stream_key(partition, new.event.STREAM), key(partition, "once", new.id)]
            fields = self.codec.encode(new)
            arguments += [len(fields), *fields]
        ids = await _append.run(self.client, keys, arguments)
        return [Position.parse(entry) for entry in ids]

    async def take_in(self, intake: Intake) -> TakenIn:
        """Record a file and append its events, once, in one atomic call.

        A path already recorded with this signature is `known`, and bytes seen from this camera
        within the time-to-live are a `duplicate`; in both cases nothing is written. The caller
        then tells the duplicate by a second call with `sha256=None`.
        """
        partition = self.partition_of(intake.camera_id)
        known = self._known_key(intake.camera_id)
        keys = [known, known]
        if intake.sha256 is not None:
            keys[1] = key(partition, "dedupe", intake.camera_id, intake.sha256)
        arguments: list[str | bytes | int] = [
            intake.path.encode("utf-8", "surrogateescape"),
            intake.signature,
            intake.file_id if intake.sha256 is not None else "",
            intake.dedupe_ttl_seconds,
        ]
        for new in intake.events:
            keys.append(stream_key(partition, new.event.STREAM))
            fields = self.codec.encode(new)
            arguments += [len(fields), *fields]
        answer = await _take_in.run(self.client, keys, arguments)
        status: Literal["appended", "known", "duplicate"] = answer[0].decode()
        return TakenIn(status, answer[1].decode() if len(answer) > 1 else None)

    def _known_key(self, camera_id: str) -> str:
        return key(self.partition_of(camera_id), "known-files", camera_id)

    # --- reading ----------------------------------------------------------------------------

    async def known_files(self, camera_id: str, paths: Sequence[str]) -> list[str | None]:
        """Return the signature recorded for each path, None where there is none."""
        if not paths:
            return []
        names = [path.encode("utf-8", "surrogateescape") for path in paths]
        async with redis_errors():
            found = await self.client.hmget(self._known_key(camera_id), names)
        return [value.decode() if value is not None else None for value in found]

    async def read(
        self, stream: str, partition: int, after: Position, count: int
    ) -> list[Envelope]:
        """Return up to `count` envelopes behind `after`, oldest first.

        An entry that does not decode comes as an `UnreadableEntry` event, so that a reader's
        cursor moves past it; the consumer group that owns it parks it.
        """
        async with redis_errors():
            entries = await self.client.xrange(
                stream_key(partition, stream), min=str(after.next()), count=count
            )
        return self._decoded(stream, partition, entries)

    async def follow(self, cursors: Cursors, *, count: int, block_ms: int) -> list[Envelope]:
        """Return what stands behind the cursors, waiting up to `block_ms` for the first entry.

        In log order within each (stream, partition); an empty list after the wait.
        """
        if not self.cluster:
            return await self._follow_slot(cursors, count, block_ms)
        slots: dict[int, dict[tuple[str, int], Position]] = {}
        for (stream, partition), after in cursors.items():
            slots.setdefault(partition, {})[stream, partition] = after
        # What is there is taken from every slot alike, so that a busy one never hides another.
        at_once = await asyncio.gather(
            *(self._follow_slot(slot, count, 0) for slot in slots.values())
        )
        if block_ms == 0 or any(at_once):
            return [envelope for envelopes in at_once for envelope in envelopes]
        return await self._first_of(list(slots.values()), count, block_ms)

    async def _first_of(
        self, slots: Sequence[Cursors], count: int, block_ms: int
    ) -> list[Envelope]:
        reads = [asyncio.ensure_future(self._follow_slot(slot, count, block_ms)) for slot in slots]
        try:
            # A blocked XREAD has taken nothing, so the slots that are still empty may be dropped.
            done, _ = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
            return [envelope for task in done for envelope in task.result()]
        finally:
            await end(*reads)

    async def _follow_slot(self, cursors: Cursors, count: int, block_ms: int) -> list[Envelope]:
        names = {stream_key(partition, s): (s, partition) for s, partition in cursors}
        request = {name: str(cursors[where]) for name, where in names.items()}
        async with redis_errors():
            answer = await self.client.xread(request, count=count, block=block_ms or None)
        envelopes: list[Envelope] = []
        for name, entries in _streams_of(answer):
            envelopes += self._decoded(*names[name], entries)
        return envelopes

    def _decoded(
        self, stream: str, partition: int, entries: Sequence[tuple[bytes, Any]]
    ) -> list[Envelope]:
        envelopes = self.codec.decode_run(stream, partition, entries)
        if envelopes:
            self.continuity.saw(stream_key(partition, stream), envelopes[-1].position)
        return envelopes

    async def has_lost(self, stream: str, partition: int, position: Position) -> bool:
        """Say whether an entry that was at `position` is gone, though it was not trimmed."""
        return await is_lost(self._execute, stream_key(partition, stream), position)

    async def is_whole(self, stream: str, partition: int) -> bool:
        """Say whether every entry a stream ever took in still stands there or is archived."""
        return await is_whole(self._execute, stream_key(partition, stream))

    async def newest(self, stream: str, partition: int) -> Position:
        """Return the position of the last entry ever appended, START when there was none."""
        async with redis_errors():
            try:
                info = await self.client.xinfo_stream(stream_key(partition, stream))
            except ResponseError as error:
                if "no such key" in str(error):
                    return START
                raise
        return Position.parse(info["last-generated-id"])

    async def oldest(self, stream: str, partition: int) -> Position:
        """Return the position of the first entry still in the stream, START when it is empty."""
        async with redis_errors():
            first = await self.client.xrange(stream_key(partition, stream), count=1)
        return Position.parse(first[0][0]) if first else START

    async def handled_until(self, group: str, partition: int) -> datetime:
        """Return up to when, on the log's own clock, a group has handled all of a partition.

        That is now, or when the oldest entry was recorded that is not handled yet. Nothing that is
        appended after the answer has an earlier position, unless that clock is set back.
        """
        name = stream_key(partition, STREAM_OF[group])
        answer = await _handled_until.run(self.client, [name], [group])
        return Position(int(answer), 0).recorded_at

    async def load_snapshot(self, role: str, partition: int) -> bytes | None:
        """Return the newest stored fold of a role's state, None when there is none."""
        async with redis_errors():
            value: bytes | None = await self.client.get(key(partition, "snapshot", role))
        return value

    async def store_snapshot(self, role: str, partition: int, value: bytes) -> None:
        """Store a fold of a role's state; it only shortens the next fold from the log."""
        async with redis_errors():
            await self.client.set(key(partition, "snapshot", role), value)

    async def check_writable(self) -> None:
        """Raise ServiceUnavailableError when Redis answers but takes no writes (a full disk)."""
        for partition in range(self.partitions):
            async with redis_errors():
                # Nothing is there to delete; a server that cannot write refuses all the same.
                await self.client.delete(key(partition, "write-check"))

    async def backlog(self) -> list[GroupBacklog]:
        """Return what every consumer group still has to do, over all partitions."""
        return [await self._backlog(group, stream) for group, stream in self.groups.items()]

    async def _backlog(self, group: str, stream: str) -> GroupBacklog:
        pending = lag = 0
        handled: int | None = 0
        recorded: list[int] = []
        for partition in range(self.partitions):
            name = stream_key(partition, stream)
            async with redis_errors():
                rows = await self.client.xinfo_groups(name)
                summary = await self.client.xpending(name, group)
            row = next(row for row in rows if row["name"] == group.encode())
            pending += row["pending"]
            # Redis answers no lag after an XDEL or XTRIM below the group; count it then.
            behind, taken = row["lag"], row["entries-read"]
            if taken is None and Position.parse(row["last-delivered-id"]) == START:
                taken = 0  # Redis does not count for a group that has read nothing yet.
            if behind != 0:
                after = Position.parse(row["last-delivered-id"])
                most = 1 if behind is not None else None
                async with redis_errors():
                    new = await self.client.xrange(name, min=str(after.next()), count=most)
                behind = len(new) if behind is None else behind
                recorded += [Position.parse(entry[0]).ms for entry in new[:1]]
            lag += behind
            handled = (
                None if handled is None or taken is None else handled + taken - row["pending"]
            )
            if summary["min"]:
                recorded.append(Position.parse(summary["min"]).ms)
        return GroupBacklog(group, stream, pending, lag, min(recorded, default=None), handled)


def entries_of(answer: Any) -> Sequence[tuple[bytes, Any]]:  # noqa: ANN401 - the driver's own
    """Return the entries of a read of one stream."""
    return [entry for _, entries in _streams_of(answer) for entry in entries]


def _streams_of(answer: Any) -> list[tuple[str, Sequence[tuple[bytes, Any]]]]:  # noqa: ANN401
    """Read XREAD's answer: redis-py gives a list of pairs (RESP2) or a dict (RESP3)."""
    if not answer:
        return []
    if isinstance(answer, dict):
        return [(name.decode(), entries[0]) for name, entries in answer.items()]
    return [(name.decode(), entries) for name, entries in answer]
