"""Trace context: one trace from file to event, the same on every delivery."""

from datetime import UTC, datetime

from support.logs import POLICY, box, detected, new, received

from agents.intake import new_event
from domain.batching import CameraBatches, decide
from domain.events import BatchEscalated
from domain.trace import trace_id, trace_id_of, traceparent
from streams.consumer import follow_ups
from streams.envelope import Envelope, Position


def envelope(event: object, parent: str) -> Envelope:
    told = new(event)  # type: ignore[arg-type]
    now = datetime(2026, 3, 1, tzinfo=UTC)
    return Envelope(told.id, told.event, "files", 0, Position(1, 0), now, "file-a", "", parent)


def test_it_has_the_form_of_w3c_and_follows_from_the_file() -> None:
    version, trace, span, flags = traceparent("file-a").split("-")
    assert (version, flags, len(trace), len(span)) == ("00", "01", 32, 16)
    assert trace == trace_id_of("file-a") == trace_id(traceparent("file-a"))
    assert traceparent("file-a") == traceparent("file-a") != traceparent("file-b")
    assert trace_id("") == ""


def test_from_the_watch_on_events_carry_their_files_trace() -> None:
    seen = new_event("file-a", received("a"))
    assert trace_id(seen.traceparent) == trace_id_of("file-a")
    (told,) = follow_ups(envelope(received("a"), seen.traceparent), [detected("a")])
    assert told.traceparent == seen.traceparent


def test_a_batch_has_the_trace_of_its_first_picture() -> None:
    first = detected("a", 0, box("person", 0.95))
    found = decide(CameraBatches(), POLICY, first, first.captured_at)
    other = envelope(detected("b"), traceparent("file-b"))
    news = {type(each.event): each for each in follow_ups(other, found)}
    assert trace_id(news[BatchEscalated].traceparent) == trace_id_of("file-a")
