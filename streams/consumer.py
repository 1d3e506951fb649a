"""ConsumerGroup: read new entries, claim stale ones, keep what is in hand, settle by outcome.

One instance reads one partition of one stream for one consumer. An entry belongs to the consumer
that the group's pending list names; settling is fenced by that, so a consumer that was thought
dead and comes back can neither append twice nor acknowledge for somebody else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from domain.errors import PermanentError
from domain.events import Event, FailedAttempt
from domain.ids import follow_up_id
from domain.outcomes import Done, Outcome, Park, Retry
from domain.trace import traceparent_of
from streams import scripts
from streams.connection import Script, redis_errors
from streams.deadletter import parked
from streams.envelope import Envelope, NewEvent, Position
from streams.failures import Failures
from streams.lease import Lease
from streams.log import EventLog, entries_of
from streams.names import STREAM_OF, redrive_name, redrives_key, stream_key

_settle = Script(scripts.SETTLE)
_hold = Script(scripts.HOLD)

_Entry = tuple[str, list[str | bytes]]
"""A stream, and the fields of an entry to append to it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One entry in this consumer's hands."""

    envelope: Envelope
    attempts: int
    """How often it was handed out, this time included."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settlement did."""

    flags: tuple[bool, ...]
    """For each entry: settled, or left because it was not ours any more."""
    last_positions: Mapping[str, Position]
    """Stream → position of the last follow-up that was appended to it."""


class ConsumerGroup:
    """One consumer of one group on one partition."""

    def __init__(self, log: EventLog, group: str, partition: int, consumer: str) -> None:
        self.log = log
        self.group = group
        self.stream = STREAM_OF[group]
        self.partition = partition
        self.consumer = consumer
        self.key = stream_key(partition, self.stream)
        self.failures = Failures(log, group, partition)

    async def read(self, count: int, block_ms: int) -> list[Delivery]:
        """Return up to `count` entries that nobody was given yet; [] after `block_ms`."""
        async with redis_errors():
            answer = await self.log.client.xreadgroup(
                self.group, self.consumer, {self.key: ">"}, count=count, block=block_ms
            )
        return [
            Delivery(self._envelope(entry_id, fields), attempts=1)
            for entry_id, fields in entries_of(answer)
        ]

    async def claim_stale(
        self, min_idle_ms: int, count: int, start: Position
    ) -> tuple[list[Delivery], Position]:
        """Take over up to `count` entries whose consumer has been silent for `min_idle_ms`.

        Looks through the pending list from `start`; answers what was claimed and where to go on
        (START once it is through).
        """
        async with redis_errors():
            following, entries, *_ = await self.log.client.xautoclaim(
                self.key, self.group, self.consumer, min_idle_ms, start_id=str(start), count=count
            )
        return await self._with_attempts(entries), Position.parse(following)

    async def hold(
        self, positions: Sequence[Position], *, count_delivery: bool = False
    ) -> set[Position]:
        """Say that these entries are still in hand; answer which of them still are ours.

        Resets their idle time, so that nobody claims them; with `count_delivery` they count as
        handed out once more. One atomic call: an entry claimed by another is never taken back.
        """
        if not positions:
            return set()
        arguments = [self.group, self.consumer, "1" if count_delivery else "0"]
        held = await _hold.run(
            self.log.client, [self.key], [*arguments, *map(str, sorted(positions))]
        )
        return {Position.parse(entry) for entry in held}

    async def settle(
        self,
        settlements: Sequence[tuple[Delivery, Outcome]],
        *,
        lease: Lease | None = None,
    ) -> Settled:
        """Append the follow-ups and acknowledge, in one atomic call, what is still ours.

        Takes Done and Park outcomes, ascending by position; a Retry is not a settlement. With a
        lease, nothing at all happens once the lease is somebody else's. An entry whose follow-ups
        cannot be stored is parked.

        Raises BehindLogError, and does nothing, when the lease's fold is not the log's end.
        """
        targets: dict[str, int] = {}
        arguments: list[str | bytes | int] = [
            self.group,
            self.consumer,
            lease.token if lease else "",
            lease.fence[1] if lease else "",
            len(settlements),
        ]
        for delivery, events in await self._follow_ups(settlements):
            arguments += [str(delivery.envelope.position), len(events)]
            for stream, fields in events:
                target = targets.setdefault(stream, len(targets) + 1)
                arguments += [target, len(fields), *fields]
        keys = [self.key, lease.key, lease.fence[0]] if lease else [self.key] * 3
        keys += [stream_key(self.partition, stream) for stream in targets]
        answer = await _settle.run(self.log.client, keys, arguments)
        count = len(settlements)
        last = {
            stream: Position.parse(entry_id)
            for stream, entry_id in zip(targets, answer[count:], strict=True)
            if entry_id
        }
        for stream, position in last.items():
            self.log.continuity.saw(stream_key(self.partition, stream), position)
        flags = tuple(flag == 1 for flag in answer[:count])
        await self.failures.forget(
            [
                delivery.envelope.position
                for (delivery, outcome), ours in zip(settlements, flags, strict=True)
                if ours and (delivery.attempts > 1 or not isinstance(outcome, Done))
            ]
        )
        return Settled(flags, last)

    async def _follow_ups(
        self, settlements: Sequence[tuple[Delivery, Outcome]]
    ) -> list[tuple[Delivery, list[_Entry]]]:
        """Return what each outcome appends; what cannot be stored parks the entry instead."""
        found: list[tuple[Delivery, list[_Entry]]] = []
        parks: dict[int, Park | Retry] = {}
        for delivery, outcome in settlements:
            if isinstance(outcome, Done):
                entries = self._entries(delivery.envelope, outcome.events)
                if isinstance(entries, Park):
                    parks[len(found)], entries = entries, []
            else:
                parks[len(found)], entries = outcome, []
            found.append((delivery, entries))
        if parks:
            causes = [found[index][0].envelope for index in parks]
            rounds = await self._redrives(causes)
            failures = await self.failures.known([cause.position for cause in causes])
            for index, redrives, failed in zip(parks, rounds, failures, strict=True):
                delivery, entries = found[index]
                entries += self._parked(delivery, parks[index], redrives, failed)
        return found

    def _entries(self, cause: Envelope, events: Sequence[Event]) -> list[_Entry] | Park:
        try:
            return [
                (new.event.STREAM, self.log.codec.encode(new)) for new in follow_ups(cause, events)
            ]
        except (msgspec.MsgspecError, ValueError, TypeError, OverflowError) as error:
            refusal = PermanentError(f"what follows from it cannot be stored: {error}")
            refusal.__cause__ = error
            return Park(refusal)

    def _parked(
        self,
        delivery: Delivery,
        outcome: Park | Retry,
        redrives: int,
        failures: tuple[FailedAttempt, ...],
    ) -> list[_Entry]:
        """Return the entries that say so; parked again after a redrive, they have other ids."""
        model = (
            (outcome.model, outcome.model_version) if isinstance(outcome, Park) else (None, None)
        )
        cause = delivery.envelope
        event = parked(cause, self.group, outcome.error, delivery.attempts, model)
        event = msgspec.structs.replace(event, failures=failures)
        told = outcome.events if isinstance(outcome, Park) else ()
        return [
            (new.event.STREAM, self.log.codec.encode(new))
            for new in follow_ups(cause, (event, *told), first=redrives)
        ]

    async def _redrives(self, causes: Sequence[Envelope]) -> list[int]:
        """Return how often each of these was redriven for this group."""
        names = [redrive_name(self.group, cause.id) for cause in causes]
        async with redis_errors():
            counts = await self.log.client.hmget(redrives_key(self.partition), names)
        return [int(count or 0) for count in counts]

    def _envelope(self, entry_id: bytes, fields: Any) -> Envelope:  # noqa: ANN401 - driver's own
        envelope = self.log.codec.decode_or_mark(self.stream, self.partition, entry_id, fields)
        self.log.continuity.saw(self.key, envelope.position)
        return envelope

    async def _pending(self, first: Position, last: Position) -> dict[Position, int]:
        """Return this consumer's pending entries from `first` to `last` with delivery counts."""
        async with redis_errors():
            rows = await self.log.client.xpending_range(
                self.key,
                self.group,
                min=str(first),
                max=str(last),
                count=100_000,
                consumername=self.consumer,
            )
        return {Position.parse(row["message_id"]): int(row["times_delivered"]) for row in rows}

    async def _with_attempts(self, entries: Sequence[tuple[bytes, Any]]) -> list[Delivery]:
        envelopes = [self._envelope(entry_id, fields) for entry_id, fields in entries]
        if not envelopes:
            return []
        counts = await self._pending(envelopes[0].position, envelopes[-1].position)
        return [
            Delivery(envelope, counts[envelope.position])
            for envelope in envelopes
            if envelope.position in counts
        ]


def follow_ups(cause: Envelope, events: Sequence[Event], *, first: int = 0) -> list[NewEvent]:
    """Give events the ids, correlation and causation that follow from their cause.

    Events of one tag are numbered from `first` on.
    """
    seen: dict[str, int] = {}
    news = []
    for event in events:
        index = seen.get(event.TAG, first)
        seen[event.TAG] = index + 1
        news.append(
            NewEvent(
                id=follow_up_id(cause.id, event.TAG, index),
                event=event,
                correlation_id=cause.correlation_id,
                causation_id=cause.id,
                traceparent=traceparent_of(event, cause.traceparent),
                caused_ms=cause.position.ms,
            )
        )
    return news
