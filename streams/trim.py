"""Trim: drops from the streams what every reader has had and the archive holds, never more."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from streams.connection import Script, redis_errors
from streams.envelope import START, Position
from streams.log import EventLog
from streams.names import OPTIONAL_GROUPS, stream_key, trimmed_key
from streams.segments import Manifest

TRIMMED: Final = (
    "files",
    "detections",
    "batches",
    "assessments",
    "enrichments",
    "trials",
    "scenes",
    "system",
)
"""Streams that are trimmed. `cameras`, `alerts` and `parked` stay whole: they are small, and they
are read from their beginning."""

FOLDED: Final = {"batches": "batch", "scenes": "scene"}
"""Stream → role that folds it from its newest snapshot on, and so needs everything behind that."""

# The mark is set in the same step, so that nobody can read around a gap without seeing it.
TRIM: Final = """
-- KEYS: stream, its trimmed-below mark. ARGV: position. Returns the number of entries dropped.
redis.call('SET', KEYS[2], ARGV[1])
return redis.call('XTRIM', KEYS[1], 'MINID', '=', ARGV[1])
"""

_trim = Script(TRIM)

Lane = tuple[str, int]
Checkpoints = Mapping[Lane, Mapping[str, Position]]
"""For each lane, how far each read model that reads it has got; a missing one is at START."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Up to where a lane may be trimmed, and who needs what stands from there on."""

    stream: str
    partition: int
    below: Position
    held_by: str


class _Place(msgspec.Struct):
    """The part of a role's snapshot that says where it stands."""

    incarnation: str
    ms: int
    seq: int


async def bound_of(
    log: EventLog, lane: Lane, manifest: Manifest, checkpoints: Checkpoints, keep_from: datetime
) -> Bound:
    """Return the lowest position that anybody still needs.

    Needed are: what a consumer group has not acknowledged or not been given (a group that is
    missing needs everything), what a read model has not applied, what a role's next rebuild
    folds, what is not archived, and what was recorded at `keep_from` or later.
    """
    stream, partition = lane
    needs = await _groups(log, lane)
    for name, applied in checkpoints.get(lane, {}).items():
        needs[f"read model {name}"] = applied.next() if applied != START else START
    if stream in FOLDED:
        needs[f"snapshot of role {FOLDED[stream]}"] = await _folded(log, lane)
    end = manifest.end(stream, partition)
    needs["archive"] = end.next() if end != START else START
    needs["time to keep"] = Position(int(keep_from.timestamp() * 1000), 0)
    holder = min(needs, key=lambda name: needs[name])
    return Bound(stream, partition, needs[holder], holder)


async def trim(log: EventLog, bound: Bound) -> int:
    """Drop what stands below the bound; return how many entries that were."""
    if bound.below == START:
        return 0
    name = stream_key(bound.partition, bound.stream)
    return int(await _trim.run(log.client, [name, trimmed_key(name)], [str(bound.below)]))


async def _groups(log: EventLog, lane: Lane) -> dict[str, Position]:
    """Return the oldest position each consumer group of a lane still needs."""
    stream, partition = lane
    name = stream_key(partition, stream)
    needs = {f"group {group}": START for group, read in log.groups.items() if read == stream}
    async with redis_errors():
        if not await log.client.exists(name):
            return needs
        rows = await log.client.xinfo_groups(name)
        for row in rows:
            group = row["name"].decode()
            if group in OPTIONAL_GROUPS and group not in log.groups:
                continue  # Its service is no longer configured: nobody will ever read on there.
            pending = await log.client.xpending(name, group)
            delivered = Position.parse(row["last-delivered-id"])
            first = Position.parse(pending["min"]) if pending["min"] else delivered.next()
            needs[f"group {group}"] = first if delivered != START else START
    return needs


async def _folded(log: EventLog, lane: Lane) -> Position:
    stream, partition = lane
    stored = await log.load_snapshot(FOLDED[stream], partition)
    if stored is None:
        return START
    try:
        place = msgspec.json.decode(stored, type=_Place)
    except msgspec.MsgspecError:
        return START
    return Position(place.ms, place.seq).next() if place.incarnation == log.incarnation else START


def lanes(log: EventLog) -> Iterable[Lane]:
    """Return every lane that is trimmed."""
    return [(stream, partition) for stream in TRIMMED for partition in range(log.partitions)]
