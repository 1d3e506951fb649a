"""The result of a run: both sides compared, partition by partition, and put together."""

import heapq
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from domain.difference import KINDS, Change, Kind, compare
from domain.whatif import EventOutcome
from hsi.whatif.folder import Asked, RunFolder
from hsi.whatif.models import with_say
from hsi.whatif.recorded import RecordedSummary, Refined, Span

_decoder = msgspec.json.Decoder(EventOutcome)
_encoder = msgspec.json.Encoder()


class SettingShown(msgspec.Struct, frozen=True, kw_only=True):
    """One setting as it was, and as the run took it."""

    name: str
    before: str
    after: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a run found."""

    name: str
    asked: Asked
    span: Span
    settings: tuple[SettingShown, ...]
    notes: tuple[str, ...]
    """What a reader should know: where the log could not tell, what was left out."""
    pictures: int
    events_before: int
    events_after: int
    same: int
    """Events that are the same byte for byte."""
    unfinished: int
    """Events left out since the log holds no final assessment of them yet."""
    counts: dict[Kind, int]
    seconds: float
    changes: tuple[Change, ...]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One partition's comparison."""

    events_before: int
    events_after: int
    same: int
    unfinished: int
    changes: list[Change]


def recorded_lines(
    folder: RunFolder, partition: int, refined: Sequence[Refined]
) -> Iterator[bytes]:
    """Give the recorded events as lines, with the model's say where that counts."""
    said = {one.event_id: one for one in refined}
    for line in folder.lines(f"recorded-{partition}"):
        if not said:
            yield line
            continue
        outcome = _decoder.decode(line)
        yield _encoder.encode(with_say(outcome, said.get(outcome.event_id)))


def recorded_by_id(
    folder: RunFolder, partition: int, summary: RecordedSummary
) -> Mapping[str, EventOutcome]:
    """Return the recorded events by id."""
    lines = recorded_lines(folder, partition, summary.refined)
    return {one.event_id: one for one in map(_decoder.decode, lines)}


def compared(folder: RunFolder, partition: int, summary: RecordedSummary) -> Compared:
    """Compare one partition; lines that are the same never become objects."""
    name = f"changed-{partition}"
    after = {hash(line) for line in folder.lines(name)}
    left: list[EventOutcome] = []
    same: set[int] = set()
    events_before = events_after = 0
    for line in recorded_lines(folder, partition, summary.refined):
        events_before += 1
        if (key := hash(line)) in after:
            same.add(key)
        else:
            left.append(_decoder.decode(line))
    right: list[EventOutcome] = []
    for line in folder.lines(name):
        events_after += 1
        if hash(line) not in same:
            right.append(_decoder.decode(line))
    changes, unfinished = _without_unfinished(compare(left, right), summary)
    return Compared(
        events_before=events_before,
        events_after=events_after - unfinished,
        same=len(same),
        unfinished=len(summary.unfinished),
        changes=changes,
    )


def merged(parts: Sequence[Compared]) -> tuple[Change, ...]:
    """Return every partition's changes in the order of time."""
    return tuple(heapq.merge(*(part.changes for part in parts), key=lambda c: c.started_at))


def counts_of(changes: Sequence[Change]) -> dict[Kind, int]:
    """Count the changes of each kind."""
    counts: dict[Kind, int] = dict.fromkeys(KINDS, 0)
    for change in changes:
        counts[change.kind] += 1
    return counts


def _without_unfinished(
    changes: list[Change], summary: RecordedSummary
) -> tuple[list[Change], int]:
    """Leave out what is only gained because the log has not finished it yet."""
    ids = {one.event_id for one in summary.unfinished}
    pictures = {picture for one in summary.unfinished for picture in one.picture_ids}

    def waits(change: Change) -> bool:
        if change.kind != "gained" or change.after is None:
            return False
        return change.after.event_id in ids or not pictures.isdisjoint(change.after.picture_ids)

    kept = [change for change in changes if not waits(change)]
    return kept, len(changes) - len(kept)
