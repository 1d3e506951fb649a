"""Events in words, and the two screens that show them."""

import os
from datetime import UTC, datetime
from io import StringIO
from zoneinfo import ZoneInfo

from rich.console import Console

from domain import events
from domain.events import Box, Event
from hsi.happenings import Happening, describe
from hsi.screen import LINES_AT_ONCE, Forgiving, LiveScreen, PlainScreen
from streams.envelope import Envelope, Position

WHEN = datetime(2026, 3, 1, 22, 30, 5, tzinfo=UTC)


def envelope(event: Event) -> Envelope:
    return Envelope(
        id="e1",
        event=event,
        stream=event.STREAM,
        partition=0,
        position=Position(1, 0),
        occurred_at=WHEN,
        correlation_id="c",
        causation_id="",
    )


def told(event: Event) -> Happening:
    happening = describe(envelope(event), ZoneInfo("Europe/Berlin"))
    assert happening is not None
    return happening


def box(label: str, score: float) -> Box:
    return Box(label=label, score=score, x=0, y=0, width=1, height=1)


def detected(*boxes: Box) -> events.ObjectsDetected:
    return events.ObjectsDetected(
        camera_id="front",
        picture_id="p",
        file_id="f",
        uri="camera:front/a.jpg",
        captured_at=WHEN,
        width=10,
        height=10,
        boxes=boxes,
        threshold=0.5,
        model="m",
        model_version="1",
        engine="embedded",
        inference_ms=1.0,
    )


def test_objects_are_counted_by_kind_above_the_threshold() -> None:
    event = detected(box("person", 0.93), box("person", 0.6), box("car", 0.71), box("cat", 0.4))
    line = told(event)
    assert line.text == "2 person 0.93, car 0.71"
    assert line.time == "01:00:00"  # when the log took it in
    assert line.camera == "front"
    assert told(detected(box("cat", 0.4))).text == "nothing"


def test_a_service_that_is_away_is_trouble() -> None:
    event = events.ServiceStateChanged(
        camera_id=events.SYSTEM,
        service="detector",
        status="unhealthy",
        message="refused",
        changed_at=WHEN,
    )
    assert told(event).trouble
    assert told(event).text == "detector is unhealthy: refused"


def test_what_the_supervisor_says_of_its_processes_is_not_said_again() -> None:
    facts = events.ProcessFacts(process="pipeline", host="h")
    event = events.ServiceStateChanged(
        camera_id=events.SYSTEM,
        service="detect",
        status="running",
        message="runs",
        changed_at=WHEN,
        process=facts,
    )
    assert describe(envelope(event), ZoneInfo("UTC")) is None


def test_what_nobody_watches_has_no_line() -> None:
    event = events.GpuSampled(
        camera_id=events.SYSTEM, host="h", sampled_at=WHEN, source="none", gpus=()
    )
    assert describe(envelope(event), ZoneInfo("UTC")) is None


def test_names_cannot_steer_the_terminal() -> None:
    event = events.FileRejected(
        camera_id="front",
        file_id="f",
        path="front/\x1b[2J\n\u202eevil\udcff.jpg",
        size_bytes=0,
        reason="empty",
        detail="0 bytes",
    )
    line = told(event)
    assert line.text == "front/\\x1b[2J\\n\\u202eevil\\udcff.jpg  0 bytes"


def happening(number: int) -> Happening:
    return Happening("12:00:00", "front", "picture", f"file {number} [bold]not markup[/]")


def test_plain_lines_are_bounded() -> None:
    out = StringIO()
    screen = PlainScreen(out)
    screen.show([happening(number) for number in range(LINES_AT_ONCE + 7)])
    lines = out.getvalue().splitlines()
    assert len(lines) == LINES_AT_ONCE + 1
    assert "7 more lines left out" in lines[0]
    assert lines[-1].endswith(f"file {LINES_AT_ONCE + 6} [bold]not markup[/]")


def test_live_table_shows_the_latest_and_counts_all() -> None:
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=20, highlight=False)
    screen = LiveScreen(console)
    screen.say("starting [not markup]")
    screen.show([happening(number) for number in range(30)])
    screen.close()
    text = out.getvalue()
    assert "starting [not markup]" in text
    assert "file 29 [bold]not markup[/]" in text
    assert "file 0 " not in text
    assert "30 pictures" in text


def test_a_reader_that_goes_away_stops_nothing() -> None:
    reader, writer = os.pipe()
    raw = Forgiving(writer)
    assert raw.write(b"read") == 4
    os.close(reader)
    assert raw.write(b"nobody reads this") == 17
    assert raw.write(b"nor this") == 8
    assert os.path.samestat(os.fstat(writer), os.stat(os.devnull))
    os.close(writer)
