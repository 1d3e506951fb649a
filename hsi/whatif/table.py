"""A run's result for people at a terminal."""

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table
from rich.text import Text

from domain.difference import KINDS, Change, Kind
from domain.names import counted
from domain.whatif import EventOutcome
from hsi.whatif.result import Changes, Result

ROWS: Final = 40
_STYLES: Final[dict[Kind, str]] = {
    "gained": "green",
    "lost": "red",
    "level": "yellow",
    "score": "cyan",
    "details": "dim",
}


def show(result: Result, changes: Changes, zone: ZoneInfo, console: Console) -> None:
    """Print settings, counts and the first changes."""
    for setting in result.settings:
        if setting.before != setting.after:
            console.print(Text(f"{setting.name}: {setting.before} → {setting.after}", "bold"))
    for note in result.notes:
        console.print(Text(f"! {note}", "yellow"))
    if result.changed:
        console.print(_table(changes, zone))
    if result.changed > ROWS:
        console.print(f"… and {result.changed - ROWS} more: --json or --report shows them")
    for line in summary_lines(result, zone):
        console.print(line)


def summary_lines(result: Result, zone: ZoneInfo) -> Iterator[str]:
    """Give the result in two or three sentences."""
    begin, end = (clock(moment, zone) for moment in (result.span.begin, result.span.end))
    cameras = ", ".join(sorted(result.span.cameras)) if result.span.cameras else "all cameras"
    pictures = counted("picture", result.pictures)
    yield f"{begin} to {end}, {cameras}: {pictures} in {result.seconds:.1f} s"
    if not result.changed:
        yield f"no difference, byte for byte: {counted('event', result.same)}"
    else:
        counts = ", ".join(f"{result.counts[kind]} {_WORDS[kind]}" for kind in KINDS)
        yield f"{result.events_before} → {result.events_after} events: {counts}"
        yield f"the same byte for byte: {counted('event', result.same)}"
    if result.unfinished:
        yield f"left out, not finished in the log yet: {counted('event', result.unfinished)}"


_WORDS: Final[dict[Kind, str]] = {
    "gained": "gained",
    "lost": "lost",
    "level": "changed level",
    "score": "changed score only",
    "details": "changed details only",
}


def _table(changes: Changes, zone: ZoneInfo) -> Table:
    table = Table("change", "time", "camera", "before", "after", "what", box=None, pad_edge=False)
    for change in islice(changes, ROWS):
        style = _STYLES[change.kind]
        table.add_row(
            Text(change.kind, style),
            clock(change.started_at, zone),
            Text(change.shown.camera_id),
            Text(verdict(change.before)),
            Text(verdict(change.after)),
            Text(what(change)),
        )
    return table


def clock(moment: datetime, zone: ZoneInfo) -> str:
    """Return a moment in the cameras' local time."""
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M:%S}"


def verdict(outcome: EventOutcome | None) -> str:
    """Return score and level, or a dash where there is no event."""
    return "–" if outcome is None else f"{outcome.score} {outcome.level}"


def what(change: Change) -> str:
    """Return what the event is, and for details what differs."""
    before, after = change.before, change.after
    if before is None or after is None or change.kind != "details":
        return change.shown.summary
    parts = []
    if before.picture_ids != after.picture_ids:
        parts.append(f"{len(before.picture_ids)} → {len(after.picture_ids)} pictures")
    if before.close_reason != after.close_reason:
        parts.append(f"closed by {before.close_reason} → {after.close_reason}")
    if before.is_fast_path != after.is_fast_path:
        parts.append("fast path on" if after.is_fast_path else "fast path off")
    return f"{after.summary} ({', '.join(parts) or 'facts or wording'})"
