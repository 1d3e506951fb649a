"""Lineage as tables: the conclusion first, then what it rests on."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from api.lineage_schemas import (
    AssessmentFact,
    DetectionFact,
    Ending,
    Entry,
    EventLineage,
    FileFact,
    FileLineage,
    NotificationFact,
    PictureFact,
    PicturePath,
)
from domain.names import counted
from hsi.happenings import visible
from hsi.screen import LEVEL_STYLES

_STATE_STYLES: Final = {"assessed": "green", "parked": "red", "pending": "yellow"}
_SHOWN_BOXES: Final = 10
_WIDE: Final = 120
"""Columns from which on positions in the log have room; `--json` always has them."""


def show_file(
    console: Console, lineage: FileLineage, zone: ZoneInfo, earlier: Sequence[str] = ()
) -> None:
    """Print where a file stopped and why, then each picture's way."""
    file, ending = lineage.file, lineage.ending
    console.print(_text(lineage.conclusion, f"bold {_STATE_STYLES.get(ending.state, '')}".strip()))
    if ending.to_do:
        console.print(_text(f"What to do: {ending.to_do}"))
    console.print()
    console.print(_file_table(file, zone))
    for picture in lineage.pictures:
        _show_picture(console, picture, zone, several=len(lineage.pictures) > 1)
    if not lineage.pictures and file.entry:
        console.print(_text(f"In the log: {_place(file.entry)}", "dim"))
    if lineage.duplicates:
        console.print(_text(f"Came again as: {', '.join(lineage.duplicates)}"))
    if earlier:
        console.print(_text(f"At the same path before: {', '.join(earlier)}"))
    _show_missing(console, lineage.missing)


def show_event(console: Console, lineage: EventLineage, zone: ZoneInfo) -> None:
    """Print an event back to its files, what is in force first."""
    for assessment in lineage.assessments:
        _show_assessment(console, assessment, lineage.event_id, zone)
    if (batch := lineage.batch) is not None:
        ended = f"closed ({batch.close_reason})" if batch.close_reason else "still open"
        span = f"{_time(batch.started_at, zone)} to {_time(batch.ended_at, zone)}"
        console.print()
        console.print(_text(f"Batch {batch.batch_id}, {ended}: {span}", "bold"))
        for escalation in batch.escalations:
            what = f"{escalation.label} {escalation.score:.2f}"
            what += f", {counted('picture', escalation.members)} by then"
            at = _time(escalation.entry.recorded_at, zone)
            console.print(_text(f"  fast path at {at} by {what}"))
    if lineage.pictures:
        console.print(_pictures_table(lineage, zone, wide=console.width >= _WIDE))
    for parked in lineage.parked:
        tries = f"{parked.group}, {parked.attempts} attempts"
        console.print(_text(f"Moved aside ({tries}): {parked.cause}: {parked.error}", "red"))
    for notification in lineage.notifications:
        _show_notification(console, notification, zone)
    for review in lineage.reviews:
        at = _time(review.entry.recorded_at, zone)
        note = f": {review.notes}" if review.notes else ""
        console.print(_text(f"Looked at by {review.actor} at {at}{note}"))
    _show_missing(console, lineage.missing)


def _show_notification(console: Console, told: NotificationFact, zone: ZoneInfo) -> None:
    """Print who was told by what, and whether it got there."""
    what = f"Notification {told.notification_id} by {told.channel}"
    since = _time(told.requested.recorded_at, zone)
    if told.outcome == "waiting":
        words = f"{what} waits since {since}: the receiver has not taken it"
        console.print(_text(words, "yellow"))
        return
    at = _time(told.attempted_at or told.requested.recorded_at, zone)
    if told.outcome == "failed":
        console.print(_text(f"{what} given up at {at}: {told.reason}", "red"))
        return
    console.print(_text(f"{what} sent at {at}, answered {told.status} in {told.seconds:.2f} s"))


def _show_assessment(
    console: Console, assessment: AssessmentFact, event_id: str, zone: ZoneInfo
) -> None:
    """Print one assessment; what the model said comes before what the rules had said."""
    verdict = assessment.refinement or assessment
    force = "" if assessment.in_force else " (no longer in force)"
    head = f"Event {event_id}: risk {verdict.score} of 100 ({verdict.level}){force}"
    style = LEVEL_STYLES[verdict.level] if assessment.in_force else "dim"
    console.print(_text(head, style))
    console.print(_text(verdict.summary))
    rules = f"Rules {assessment.rules_version} ({assessment.stage}): {assessment.score}"
    at = _time(assessment.entry.recorded_at, zone)
    console.print(_text(f"{rules}, floor {assessment.floor}, at {at}"))
    if assessment.alert_reason == "too_old":
        console.print(_text(f"Too old to alert: {_ages(assessment)}", "yellow"))
    if assessment.in_force:
        table = _table("points", "sign", "value", "why")
        for sign in assessment.signals:
            if sign.points:
                table.add_row(*map(_text, (f"{sign.points:+d}", sign.name, sign.value, sign.why)))
        console.print(Padding(table, (0, 0, 0, 2)))
        idle = [f"{sign.name} ({sign.value})" for sign in assessment.signals if not sign.points]
        if idle:
            console.print(_text(f"  no points for: {', '.join(idle)}", "dim"))
    if (word := assessment.refinement) is not None:
        said = f"Model {word.model}: {word.score} (it answered {word.model_score})"
        said += ", a canary of the candidate on trial," if word.canary else ""
        prompt = f"prompt {word.prompt_version} {word.prompt_sha256[:12]}"
        console.print(_text(f"{said} in {word.seconds:.1f} s, {prompt}: {word.reasoning}"))
        if word.candidate_failure is not None:
            console.print(_text(f"  was to be a canary: {word.candidate_failure}", "dim"))
        console.print(_text(f"  raw text: {word.raw_text}", "dim"))
        console.print(_text(f"  in the log: {_place(word.entry)}", "dim"))
    console.print(_text(f"  in the log: {_place(assessment.entry)}", "dim"))


def _ages(assessment: AssessmentFact) -> str:
    """Return how old it was and might have been, like `83 min, the limit is 60 min`."""
    limit = assessment.alert_within_seconds or 0
    return f"{_span(assessment.age_seconds)}, the limit is {_span(limit)}"


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _pictures_table(lineage: EventLineage, zone: ZoneInfo, *, wide: bool) -> Table:
    """Return the pictures; the batch above them has their day."""
    paths = {file.file_id: file.path for file in lineage.files}
    table = _table("taken", "file", "counted", "too faint", "model", *_in_log(wide=wide))
    for picture in lineage.pictures:
        cells = [
            Text(f"{picture.captured_at.astimezone(zone):%H:%M:%S}"),
            _text(paths.get(picture.file_id, picture.file_id)),
            *_detection_cells(picture),
        ]
        if wide:
            cells.append(_text(_place(picture.received) if picture.received else "–", "dim"))
        table.add_row(*cells)
    return table


def _in_log(*, wide: bool) -> tuple[str, ...]:
    """Return the column of positions, where it does not squeeze the others."""
    return ("in the log",) if wide else ()


def _detection_cells(picture: PictureFact) -> tuple[Text, Text, Text]:
    found = picture.detection
    if found is None:
        return Text("–"), Text("–"), Text("–")
    sure = [box for box in found.boxes if box.counts]
    below = len(found.boxes) - len(sure)
    labels = ", ".join(f"{box.label} {box.score:.2f}" for box in sure)
    ran = f"{found.model} {found.model_version}, {found.inference_ms:.0f} ms"
    ran += ", canary" if found.canary else ""
    faint = f"{below} below {found.threshold:.2f}" if below else "none"
    return _text(labels), Text(faint), _text(ran)


def _file_table(file: FileFact, zone: ZoneInfo) -> Table:
    table = Table.grid(padding=(0, 2))
    taken = "unknown"
    if file.captured_at is not None:
        taken = f"{_time(file.captured_at, zone)} (by {file.captured_from})"
    size = f"{file.size_bytes} bytes" + (f", {file.width}×{file.height}" if file.width else "")
    rows = {
        "file": f"{file.path}  {file.file_id}",
        "camera": file.camera_id,
        "size": size,
        "sha256": file.sha256 or "not computed",
        "taken": taken,
        "received": _time(file.received_at, zone),
    }
    for name, value in rows.items():
        table.add_row(Text(name, "dim"), _text(value))
    return table


def _show_picture(
    console: Console, picture: PicturePath, zone: ZoneInfo, *, several: bool
) -> None:
    console.print()
    if several:
        head = f"Picture {picture.frame} ({_time(picture.captured_at, zone)}): "
        console.print(_text(head + _ending_words(picture.ending), "bold"))
    wide = console.width >= _WIDE
    table = _table("at", "step", "what happened", *_in_log(wide=wide))
    for step in picture.steps:
        cells = [_text(_time(step.at, zone)), _text(step.step), _text(step.text)]
        if wide:
            cells.append(_text(_place(step.entry), "dim"))
        table.add_row(*cells)
    console.print(table)
    if picture.detection is not None and picture.ending.state != "assessed":
        _show_boxes(console, picture.detection)


def _show_boxes(console: Console, detection: DetectionFact) -> None:
    if not detection.boxes:
        return
    table = _table("seen", "score", f"counts at {detection.threshold:.2f}", "where")
    for box in detection.boxes[:_SHOWN_BOXES]:
        where = f"{box.x:.0f},{box.y:.0f} {box.width:.0f}×{box.height:.0f}"
        counts = "yes" if box.counts else "no"
        table.add_row(_text(box.label), f"{box.score:.2f}", counts, where)
    console.print(table)
    more = len(detection.boxes) - _SHOWN_BOXES
    if more > 0:
        console.print(Text(f"… and {more} fainter ones (--json shows all)", "dim"))


def _show_missing(console: Console, missing: Sequence[str]) -> None:
    for line in missing:
        console.print(_text(f"! {line}", "yellow"))


def _ending_words(ending: Ending) -> str:
    return f"{ending.state}, {ending.because}"


def _table(*columns: str) -> Table:
    table = Table(*columns, box=None, pad_edge=False, header_style="dim")
    return table


def _time(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S}"


def _place(entry: Entry) -> str:
    return f"{entry.stream}/{entry.partition} {entry.position}"


def _text(words: str, style: str = "") -> Text:
    """Return words from outside as text: nothing in them steers the terminal or its markup."""
    return Text(visible(words), style)
