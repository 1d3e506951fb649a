"""DeadLetters: hand a parked entry back to the group that parked it, or discard it; once.

What the group gets is the original entry: it becomes pending again where it always stood, so no
other reader of the stream sees anything, and the ids of what follows are those of a first try.
Only when the original has been trimmed is it appended anew, marked for this one group. The entry,
the event that says what was decided and the verdict that a second try meets are written by one
script in the partition's slot: whoever dies when, a parked entry is in exactly one place.
"""

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from domain.errors import PermanentError
from domain.events import EntryDiscarded, EntryParked, EntryRedriven, Event
from domain.ids import follow_up_id
from streams.connection import Script, redis_errors
from streams.envelope import Envelope, NewEvent, Position
from streams.log import EventLog
from streams.names import failures_key, key, redrive_name, redrives_key, stream_key

Verdict = Literal["redriven", "discarded", "already", "pending", "gone"]
"""already: decided before; pending: the entry is in a consumer's hands; gone: not in the log."""

HANDED_BACK: Final = "redrive"
"""The consumer in whose name a redriven entry waits until a living one claims it."""

LONG_IDLE_MS: Final = 86_400_000
"""How long the entry claims to have been idle: any consumer may take it at once."""

REDRIVE: Final = """
-- KEYS: stream `parked`, verdicts, source stream, redrives, failures. ARGV: position in `parked`,
-- group, position in the source stream, field in redrives, consumer, idle milliseconds, number of
-- the event's fields, these; the fields of the entry, for the case that the original was trimmed.
-- Returns 'redriven', 'already', 'pending' or 'gone', and the position of what was appended.
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return {'already', ''} end
if not redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1] then return {'gone', ''} end
if redis.call('XPENDING', KEYS[3], ARGV[2], ARGV[3], ARGV[3], 1)[1] then
  return {'pending', ''}
end
local n = tonumber(ARGV[7])
redis.call('XCLAIM', KEYS[3], ARGV[2], ARGV[5], 0, ARGV[3], 'IDLE', ARGV[6],
  'RETRYCOUNT', 0, 'FORCE', 'JUSTID')
if not redis.call('XPENDING', KEYS[3], ARGV[2], ARGV[3], ARGV[3], 1)[1] then
  redis.call('XADD', KEYS[3], '*', unpack(ARGV, 8 + n))
end
redis.call('HSET', KEYS[2], ARGV[1], 'redriven')
redis.call('DEL', KEYS[5])
redis.call('HINCRBY', KEYS[4], ARGV[4], 1)
return {'redriven', redis.call('XADD', KEYS[1], '*', unpack(ARGV, 8, 7 + n))}
"""

DISCARD: Final = """
-- KEYS: stream `parked`, verdicts. ARGV: position in `parked`, the event's fields.
-- Returns 'discarded', 'already' or 'gone', and the position of what was appended.
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return {'already', ''} end
if not redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1] then return {'gone', ''} end
redis.call('HSET', KEYS[2], ARGV[1], 'discarded')
return {'discarded', redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))}
"""

_redrive = Script(REDRIVE)
_discard = Script(DISCARD)


class BadDeadLetterIdError(PermanentError):
    """An id that no parked entry can have."""


@dataclass(frozen=True, slots=True, order=True)
class DeadLetterId:
    """Which parked entry: its partition and its position in the stream `parked`."""

    partition: int
    position: Position

    def __str__(self) -> str:
        return f"{self.partition}-{self.position}"

    @classmethod
    def parse(cls, text: str) -> "DeadLetterId":
        """Read `partition-ms-seq`; raises BadDeadLetterIdError on anything else."""
        parts = text.split("-")
        if len(parts) != 3 or not all(p.isascii() and p.isdigit() and len(p) < 20 for p in parts):
            raise BadDeadLetterIdError(
                f"{text[:80]!r} is no id of a parked entry: give one like 2-1767225600000-0, as "
                "`hsi dlq list` shows them"
            )
        partition, ms, seq = map(int, parts)
        return cls(partition, Position(ms, seq))


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of one request about one parked entry."""

    verdict: Verdict
    position: Position | None = None
    """Where the event that says so stands in `parked`."""


class DeadLetters:
    """The parked entries of one log."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def find(self, wanted: DeadLetterId) -> Envelope | None:
        """Return the `entry.parked` at that place, None when there is none."""
        if wanted.partition >= self._log.partitions:
            return None
        at = str(wanted.position)
        name = stream_key(wanted.partition, EntryParked.STREAM)
        async with redis_errors():
            entries = await self._log.client.xrange(name, min=at, max=at)
        for entry_id, fields in entries:
            found = self._log.codec.decode_or_mark(
                EntryParked.STREAM, wanted.partition, entry_id, fields
            )
            if isinstance(found.event, EntryParked):
                return found
        return None

    async def redrive(self, wanted: DeadLetterId, *, actor: str = "anonymous") -> Decided:
        """Hand the entry back to its group, unless that or its discarding was done before."""
        found = await self.find(wanted)
        if found is None or not isinstance(found.event, EntryParked):
            return Decided("gone")
        parked, partition = found.event, wanted.partition
        keys = [
            *_own_keys(partition),
            stream_key(partition, parked.source_stream),
            redrives_key(partition),
            failures_key(partition, parked.group, parked.position),
        ]
        told = self._told(found, _redriven(parked, wanted.position, actor))
        arguments = [
            str(wanted.position),
            parked.group,
            parked.position,
            redrive_name(parked.group, parked.event_id),
            HANDED_BACK,
            LONG_IDLE_MS,
            len(told),
            *told,
            *self._original(found, parked),
        ]
        return _decided(await _redrive.run(self._log.client, keys, arguments))

    async def discard(self, wanted: DeadLetterId, *, actor: str = "anonymous") -> Decided:
        """Say that the entry is not to be handled any more, unless it was decided before."""
        found = await self.find(wanted)
        if found is None or not isinstance(found.event, EntryParked):
            return Decided("gone")
        told = self._told(found, _discarded(found.event, wanted.position, actor))
        arguments = [str(wanted.position), *told]
        keys = _own_keys(wanted.partition)
        return _decided(await _discard.run(self._log.client, keys, arguments))

    def _told(self, parked: Envelope, event: Event) -> list[str | bytes]:
        """Return the fields of the event that says what was decided."""
        return self._log.codec.encode(
            NewEvent(
                id=follow_up_id(parked.id, event.TAG),
                event=event,
                correlation_id=parked.correlation_id,
                causation_id=parked.id,
                traceparent=parked.traceparent,
            )
        )

    def _original(self, found: Envelope, parked: EntryParked) -> list[str | bytes]:
        """Return the entry's fields as they were, marked for the group that parked it."""
        fields: list[str | bytes] = [
            *("id", parked.event_id),
            *("type", f"{parked.event_tag}/{parked.event_version}"),
        ]
        if (at := self._occurred_at(parked)) is not None:
            fields += ["at", at]
        fields += ["cor", found.correlation_id, "cau", ""]
        if found.traceparent:
            fields += ["tp", found.traceparent]
        return [*fields, "for", parked.group, "data", parked.payload]

    def _occurred_at(self, parked: EntryParked) -> str | None:
        """Return the event time that stands in the payload, None for one that is not readable."""
        kind = self._log.codec.types.get(parked.event_tag)
        try:
            event = msgspec.json.decode(parked.payload, type=kind) if kind else None
        except (msgspec.MsgspecError, RecursionError):
            return None
        at = event.occurred_at if event else None
        return at.isoformat() if at else None


def _own_keys(partition: int) -> list[str]:
    return [stream_key(partition, EntryParked.STREAM), key(partition, "dead-letters")]


def _decided(answer: list[bytes]) -> Decided:
    verdict: Verdict = answer[0].decode()  # type: ignore[assignment]  # the scripts' own words
    return Decided(verdict, Position.parse(answer[1]) if answer[1] else None)


def _redriven(parked: EntryParked, position: Position, actor: str) -> EntryRedriven:
    return EntryRedriven(
        camera_id=parked.camera_id,
        parked_position=str(position),
        group=parked.group,
        event_id=parked.event_id,
        cause=parked.cause,
        actor=actor,
        picture_id=parked.picture_id,
        file_id=parked.file_id,
        batch_id=parked.batch_id,
    )


def _discarded(parked: EntryParked, position: Position, actor: str) -> EntryDiscarded:
    return EntryDiscarded(
        camera_id=parked.camera_id,
        parked_position=str(position),
        group=parked.group,
        event_id=parked.event_id,
        cause=parked.cause,
        actor=actor,
        picture_id=parked.picture_id,
        file_id=parked.file_id,
        batch_id=parked.batch_id,
    )
