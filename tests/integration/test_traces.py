"""Traces from the log: complete, none invented, none lost, and nobody waits for the collector."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support import traces_process
from support.collector import Collector, collecting
from support.logs import NOON, detected, opened, received, rejected, until
from support.servers import free_ports
from support.serving import story

from agents import traces
from agents.intake import new_event
from agents.traces import Traces
from domain.events import BatchClosed, Event, ImageReceived, SceneBaselineSet, SceneView
from domain.ids import follow_up_id
from domain.trace import span_id_of, trace_id_of
from runtime import span_outbox
from runtime.otlp import OtlpExporter, OtlpOptions
from runtime.span_outbox import SpanOutbox
from streams import lease
from streams.consumer import follow_ups
from streams.envelope import START, Envelope, NewEvent, Position
from streams.log import EventLog
from streams.names import stream_key, trimmed_key
from streams.spans import OpenBatches, spans_of

pytestmark = pytest.mark.usefixtures("_hurry")


@pytest.fixture
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_MS", 800)
    monkeypatch.setattr(traces, "RENEW_SECONDS", 0.1)
    for name in ("PACE_SECONDS", "FIRST_WAIT_SECONDS", "LONGEST_WAIT_SECONDS"):
        monkeypatch.setattr(traces, name, 0.05)


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    with collecting() as found:
        yield found


def exporter(url: str, role: str = "traces", **headers: str) -> OtlpExporter:
    options = OtlpOptions(
        endpoint=url, headers=headers, certificate=None, service="house", version="1"
    )
    return OtlpExporter(options, role)


@asynccontextmanager
async def following(log: EventLog, url: str, **options: int) -> AsyncIterator[Traces]:
    """Send the log's traces; returns once the place to begin at is kept."""
    sending, stop = exporter(url), asyncio.Event()
    role = Traces(log, sending, **options)
    task = asyncio.create_task(role.run(stop))
    try:
        await until(lambda: _is_placed(role))
        yield role
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)
        sending.close()


async def _is_placed(role: Traces) -> bool:
    return bool(await role._bookmark.load())


async def told(log: EventLog, new: NewEvent, *followers: Event) -> Envelope:
    """Append an event and what follows from it, one from the other; return the last envelope."""
    news = new
    for event in (*followers, None):
        position = await log.append(news)
        partition = log.partition_of(news.event.camera_id)
        found = await log.read(news.event.STREAM, partition, position.before(), 1)
        if event is None:
            return found[0]
        (news,) = follow_ups(found[0], [event])
    raise AssertionError


async def a_story(log: EventLog, number: int = 0) -> str:
    """Let a picture become an event; return its file id."""
    way = story("porch", number)
    first, *rest = way.events
    await told(log, new_event(way.file_id, first), *rest)
    return way.file_id


async def test_one_picture_is_one_trace_from_file_to_assessment(
    valkey_url: str, collector: tuple[Collector, str]
) -> None:
    found, url = collector
    async with opened(valkey_url, 2) as log, following(log, url):
        file_id = await a_story(log)
        await until(lambda: len(found.spans) == 4)
    (trace,) = found.traces().values()
    assert [span.name for span in trace] == ["file seen", "detect", "batch", "assess"]
    assert {span.trace_id for span in trace} == {trace_id_of(file_id)}
    # Every span hangs on the one before, but the batch: it lies in its first picture's trace.
    seen, detect, batch, assess = trace
    assert (seen.span_id, seen.parent_id) == (span_id_of(file_id), "")
    assert (detect.parent_id, batch.parent_id) == (seen.span_id, seen.span_id)
    assert assess.parent_id == batch.span_id
    assert seen.end_ns == detect.start_ns <= detect.end_ns == batch.start_ns
    assert {span.service for span in trace} == {"house"}
    assert detect.attributes["hsi.model"] == "ssdlite"
    assert batch.attributes["hsi.close_reason"] == "idle"
    assert (assess.attributes["hsi.score"], assess.attributes["hsi.camera_id"]) == (45, "porch")


async def test_what_failed_says_so(valkey_url: str, collector: tuple[Collector, str]) -> None:
    found, url = collector
    async with opened(valkey_url, 2) as log, following(log, url):
        await log.append(new_event("file_x", rejected("file_x")))
        await until(lambda: bool(found.spans))
    (span,) = found.spans
    assert (span.name, span.error) == ("file seen", "empty: 0 bytes")


def envelope(event: Event, new_id: str, cause: str, *, ms: int, caused_ms: int = 0) -> Envelope:
    parent = f"00-{trace_id_of('file-a')}-{span_id_of('file-a')}-01"
    now = datetime.fromtimestamp(ms / 1000, UTC)
    return Envelope(
        id=new_id,
        event=event,
        stream=event.STREAM,
        partition=0,
        position=Position(ms, 0),
        occurred_at=now,
        correlation_id="file-a",
        causation_id=cause,
        traceparent=parent,
        caused_ms=caused_ms,
    )


def test_times_that_nobody_can_believe_make_no_span_longer() -> None:
    # A camera whose clock is years behind, and an entry that claims a cause of the future.
    old = envelope(received("a"), "e1", "", ms=1_900_000_000_000)
    wild = envelope(detected("a"), "e2", "e1", ms=1_000, caused_ms=10**30)
    spans = spans_of([old, wild], OpenBatches())
    assert [span.end_ns - span.start_ns for span in spans] == [0, 0]


def test_what_is_no_part_of_a_trace_has_no_span() -> None:
    lone = Envelope("e", received("a"), "files", 0, START, datetime.now(UTC), "c", "")
    assert spans_of([lone], OpenBatches()) == []


def test_what_follows_from_a_file_without_naming_it_hangs_on_the_files_span() -> None:
    cause = follow_up_id("file-a", ImageReceived.TAG)
    view = SceneView(
        picture_id="a", file_id="file-a", path="a.jpg", uri="camera:porch/a.jpg", captured_at=NOON
    )
    told = SceneBaselineSet(camera_id="porch", view=view, reason="first")
    (span,) = spans_of([envelope(told, "e2", cause, ms=2_000)], OpenBatches())
    assert span.parent_id == span_id_of("file-a")
    (span,) = spans_of([envelope(told, "e3", "e2", ms=2_000)], OpenBatches())
    assert span.parent_id == span_id_of("e2")


def test_a_batch_names_the_other_pictures_it_puts_together() -> None:
    (first, _, closed, _), (_, _, other, _) = story("porch").events, story("porch", 1).events
    assert isinstance(closed, BatchClosed)
    assert isinstance(other, BatchClosed)
    member = other.members[0]
    both = BatchClosed(
        **{
            name: getattr(closed, name)
            for name in closed.__struct_fields__
            if name not in ("members", "ended_at")
        },
        members=(*closed.members, member),
        ended_at=closed.ended_at + timedelta(minutes=1),
    )
    file_id = closed.members[0].file_id
    new = new_event(file_id, both)
    told = Envelope(new.id, both, "batches", 0, Position(5, 0), both.ended_at, "", "other-cause")
    traced = Envelope(
        **{n: getattr(told, n) for n in told.__struct_fields__ if n != "traceparent"},
        traceparent=new.traceparent,
    )
    (span,) = spans_of([traced], OpenBatches())
    assert span.links == ((trace_id_of(member.file_id), span_id_of(member.file_id)),)
    assert span.parent_id == span_id_of(file_id)
    assert first.TAG == "image.received"


async def test_a_collector_that_is_away_costs_nothing_and_misses_nothing(
    valkey_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    (port,) = free_ports(1)
    async with opened(valkey_url, 2) as log, following(log, f"http://127.0.0.1:{port}"):
        for number in range(20):
            await a_story(log, number)
        await until(lambda: "traces wait for the collector" in caplog.text)
        # Nothing of ours is pending anywhere: retention may trim what it likes.
        rows = await log.client.xinfo_groups(stream_key(log.partition_of("porch"), "files"))
        assert [row["name"] for row in rows] == [b"detect"]
        with collecting(port) as (found, _):
            await until(lambda: len(found.spans) == 80)
    assert set(found.times().values()) == {1}


async def test_a_span_that_the_collector_refuses_is_left_out_alone(
    valkey_url: str, collector: tuple[Collector, str], caplog: pytest.LogCaptureFixture
) -> None:
    found, url = collector
    found.refuses = lambda span: span.name == "batch"
    async with opened(valkey_url, 2) as log, following(log, url):
        await a_story(log)
        await until(lambda: len(found.spans) == 3)
        await until(lambda: "the collector refuses span batch" in caplog.text)
    assert "code: 400" in caplog.text


async def test_what_was_trimmed_unsent_is_skipped_and_said(
    valkey_url: str, collector: tuple[Collector, str], caplog: pytest.LogCaptureFixture
) -> None:
    found, url = collector
    async with opened(valkey_url, 2) as log:
        async with following(log, url):
            await a_story(log, 0)
            await until(lambda: len(found.spans) == 4)
        await a_story(log, 1)
        await a_story(log, 2)
        name = stream_key(log.partition_of("porch"), "files")
        last = await log.newest("files", log.partition_of("porch"))
        await log.client.set(trimmed_key(name), str(last))
        await log.client.xtrim(name, minid=str(last))
        async with following(log, url):
            await until(lambda: len(found.spans) == 11)
    assert "traces skip what files/" in caplog.text
    assert len(found.named("file seen")) == 2
    assert len(found.named("detect")) == 3


async def test_of_two_one_sends_and_the_other_takes_over(
    valkey_url: str, collector: tuple[Collector, str]
) -> None:
    found, url = collector
    async with opened(valkey_url, 2) as log, opened(valkey_url, 2) as other:
        async with following(log, url), following(other, url):
            await a_story(log)
            await until(lambda: len(found.spans) == 4)
        async with following(other, url):
            await a_story(log, 1)
            await until(lambda: len(found.spans) == 8)
    assert set(found.times().values()) == {1}


async def test_kill_9_loses_no_span_and_what_comes_twice_is_the_same(
    valkey_url: str, collector: tuple[Collector, str]
) -> None:
    found, url = collector
    async with opened(valkey_url, 2) as log:
        for killing in range(3):
            before = found.asked
            async with _process(valkey_url, url) as running:
                if killing == 0:
                    await until(lambda: _has_begun(log))
                for number in range(10):
                    await a_story(log, 10 * killing + number)
                await until(lambda b=before: found.asked > b)  # type: ignore[misc]
                running.kill()  # perhaps between the collector's word and the bookmark
        async with following(log, url):
            await until(lambda: len(found.times()) == 120)
    once = {(span.trace_id, span.span_id): span for span in found.spans}
    told_twice = [
        span for span in found.spans if _what(once[span.trace_id, span.span_id]) != _what(span)
    ]
    assert told_twice == []
    assert len(found.traces()) == 30


def _what(span: object) -> dict[str, object]:
    kept = vars(span).items()
    return {name: value for name, value in kept if name not in ("instance", "service")}


async def _has_begun(log: EventLog) -> bool:
    return bool(await Traces(log, exporter("http://127.0.0.1:9"))._bookmark.load())


@asynccontextmanager
async def _process(valkey_url: str, url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    root = Path(traces_process.__file__).parents[2]
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # or modules beside it would stand for those of Python
        traces_process.__file__,
        valkey_url,
        url,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{root}:{root / 'tests'}"},
    )
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.kill()
        await running.wait()


async def test_headers_go_along(collector: tuple[Collector, str]) -> None:
    found, url = collector
    sending = exporter(url, authorization="Bearer abc")
    assert await sending.send([])
    sending.close()
    assert found.headers[0]["authorization"] == "Bearer abc"


async def test_the_outbox_is_bounded_and_the_newest_stay(
    monkeypatch: pytest.MonkeyPatch, collector: tuple[Collector, str]
) -> None:
    monkeypatch.setattr(span_outbox, "PACE_SECONDS", 0.02)
    monkeypatch.setattr(span_outbox, "LONGEST_WAIT_SECONDS", 0.05)
    found, url = collector
    found.closed.set()
    outbox, stop = SpanOutbox(sending := exporter(url, "api")), asyncio.Event()
    steps = [envelope(detected("a"), f"e{n}", "", ms=1000 + n) for n in range(2500)]
    spans = [span for each in steps for span in spans_of([each], OpenBatches())]
    task = asyncio.create_task(outbox.run(stop))
    for span in spans:
        outbox.add(span)
    await until(lambda: found.asked > 0)
    assert outbox.dropped == 500
    found.closed.clear()
    await until(lambda: len(found.spans) == 2000)
    stop.set()
    await task
    sending.close()
    assert {span.span_id for span in found.spans} == {span.span_id for span in spans[500:]}
