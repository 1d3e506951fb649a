"""The log's own events with the language model's say, by their ids: a file, not memory."""

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from domain.whatif import EventOutcome
from hsi.whatif.folder import RunFolder
from hsi.whatif.recorded import Refined
from hsi.whatif.sorting import sort_lines


class Known(Protocol):
    """Answers what the log made of an event."""

    def get(self, event_id: str, /) -> EventOutcome | None:
        """Return the recorded event, None when the log has none of this id."""
        ...


class _Id(msgspec.Struct, frozen=True):
    event_id: str


_ids = msgspec.json.Decoder(_Id)
_events = msgspec.json.Decoder(EventOutcome)
_says = msgspec.json.Decoder(Refined)


class KnownEvents:
    """Looks events up in a file sorted by their ids; in memory are eight bytes for each."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._starts = array("Q")
        start = 0
        for line in self._file:
            self._starts.append(start)
            start += len(line)

    def get(self, event_id: str, /) -> EventOutcome | None:
        """Return the recorded event, None when the log has none of this id."""
        low, high = 0, len(self._starts)
        while low < high:
            middle = (low + high) // 2
            line = self._line(middle)
            found = _ids.decode(line).event_id
            if found == event_id:
                return _events.decode(line)
            low, high = (middle + 1, high) if found < event_id else (low, middle)
        return None

    def _line(self, number: int) -> bytes:
        self._file.seek(self._starts[number])
        return self._file.readline()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def known_events(folder: RunFolder, partition: int) -> tuple[str, KnownEvents]:
    """Write the recorded events with the model's say; return the segment's name and a look-up."""
    events, says, said = f"recorded-{partition}", f"refined-{partition}", f"said-{partition}"
    by_id, says_by_id = f"{events}-by-id", f"{says}-by-id"
    sort_lines(folder.lines(events), folder.path_of(by_id), _id_of)
    sort_lines(folder.lines(says), folder.path_of(says_by_id), _id_of)
    with folder.segment(said) as segment:
        waiting = _last_says(folder, says_by_id)
        say = next(waiting, None)
        for outcome in map(_events.decode, folder.lines(by_id)):
            while say is not None and say.event_id < outcome.event_id:
                say = next(waiting, None)
            mine = say if say is not None and say.event_id == outcome.event_id else None
            segment.write(with_say(outcome, mine))
    for name in (by_id, says_by_id):
        folder.path_of(name).unlink()
    return said, KnownEvents(folder.path_of(said))


def _id_of(line: bytes) -> str:
    return _ids.decode(line).event_id


def _last_says(folder: RunFolder, name: str) -> Iterator[Refined]:
    """Give what the model said last of each event; the log's order was kept."""
    last: Refined | None = None
    for say in map(_says.decode, folder.lines(name)):
        if last is not None and last.event_id != say.event_id:
            yield last
        last = say
    if last is not None:
        yield last


def with_say(outcome: EventOutcome, said: Refined | None) -> EventOutcome:
    """Return the event with what the language model made of it."""
    if said is None:
        return outcome
    return msgspec.structs.replace(
        outcome,
        score=said.score,
        level=said.level,
        summary=said.summary,
        refined=True,
        canary=said.canary,
    )
