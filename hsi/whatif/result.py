"""The result of a run: both sides compared, partition by partition, and put together.

Both sides are sorted on disk and gone through side by side, and so are the changes found: memory
grows neither with the pictures nor with the events that differ.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from domain.difference import KINDS, Change, Kind, paired
from domain.whatif import EventOutcome
from hsi.whatif.folder import Asked, RunFolder, Segment
from hsi.whatif.recorded import RecordedSummary, Span
from hsi.whatif.sorting import sort_lines

CHANGES: Final = "changes"
"""The segment of the changes, by time; it is there once the result is."""
FOUND: Final = "found"
"""The changes as they are found, partition by partition."""


class SettingShown(msgspec.Struct, frozen=True, kw_only=True):
    """One setting as it was, and as the run took it."""

    name: str
    before: str
    after: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a run found; the changes themselves are in a segment of its folder."""

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

    @property
    def changed(self) -> int:
        """Return how many events are not the same."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes of a finished run, by time; each time read anew from its folder."""

    folder: RunFolder

    def lines(self) -> Iterator[bytes]:
        """Give each change as JSON."""
        return self.folder.lines(CHANGES)

    def __iter__(self) -> Iterator[Change]:
        return map(_change_decoder.decode, self.lines())

    def by_weight(self, counts: Mapping[Kind, int]) -> Iterator[Change]:
        """Give the weightiest kind first, each by time; one reading of the segment a kind."""
        for kind in KINDS:
            if counts[kind]:
                yield from (change for change in self if change.kind == kind)


class _Order(msgspec.Struct, frozen=True):
    """The part of an event that says where it stands."""

    camera_id: str
    started_at: datetime
    event_id: str


class _ChangeOrder(msgspec.Struct, frozen=True):
    before: _Order | None = None
    after: _Order | None = None


_event_decoder = msgspec.json.Decoder(EventOutcome)
_change_decoder = msgspec.json.Decoder(Change)
_order_decoder = msgspec.json.Decoder(_Order)
_change_order_decoder = msgspec.json.Decoder(_ChangeOrder)


class Comparison:
    """Compares a run's partitions, one after the other, and writes what differs to `found`."""

    def __init__(self, folder: RunFolder, found: Segment) -> None:
        self._folder = folder
        self._found = found
        self.events_before = 0
        self.events_after = 0
        self.same = 0
        self.unfinished = 0
        """Events left out since the log holds no final assessment of them yet."""
        self.counts: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self.rules: set[str] = set()
        """Versions of the rules that the log's own events were assessed with."""
        self.prompts: set[str] = set()
        """Versions of the prompts in service that the language model had answered."""

    def compare(self, before: str, after: str, summary: RecordedSummary) -> None:
        """Compare two segments of one partition; `summary` is of the recorded one."""
        left, right = self._by_camera(before), self._by_camera(after)
        waits = _Waits(summary)
        for pair in paired(self._events(left), self._events(right)):
            change = pair.change()
            if change is not None and waits.for_the_log(change):
                continue
            self.events_before += pair.before is not None
            self.events_after += pair.after is not None
            if change is None:
                self.same += 1
            else:
                self.counts[change.kind] += 1
                self._found.write(change)
        self.unfinished += len(summary.unfinished)
        self.rules |= summary.rules
        self.prompts |= summary.prompts
        for name in (left, right):
            self._folder.path_of(name).unlink()

    def _by_camera(self, name: str) -> str:
        """Sort a segment the way `paired` wants it; return what the sorted one is called."""
        done = f"{name}-sorted"
        sort_lines(self._folder.lines(name), self._folder.path_of(done), _place)
        return done

    def _events(self, name: str) -> Iterator[EventOutcome]:
        return map(_event_decoder.decode, self._folder.lines(name))


def sort_changes(folder: RunFolder) -> None:
    """Bring what was found into the order of time, for all partitions together."""
    sort_lines(folder.lines(FOUND), folder.path_of(CHANGES), _change_time)
    folder.path_of(FOUND).unlink()


def _place(line: bytes) -> tuple[str, datetime, str]:
    order = _order_decoder.decode(line)
    return order.camera_id, order.started_at, order.event_id


def _change_time(line: bytes) -> tuple[datetime, str, str]:
    change = _change_order_decoder.decode(line)
    order = change.after or change.before
    if order is None:
        raise ValueError("a change without a side")
    return order.started_at, order.camera_id, order.event_id


class _Waits:
    """Knows what is only gained because the log has not finished it yet."""

    def __init__(self, summary: RecordedSummary) -> None:
        self._ids = {one.event_id for one in summary.unfinished}
        self._pictures = {p for one in summary.unfinished for p in one.picture_ids}

    def for_the_log(self, change: Change) -> bool:
        if change.kind != "gained" or change.after is None:
            return False
        return change.after.event_id in self._ids or not self._pictures.isdisjoint(
            change.after.picture_ids
        )
