"""`/api/metrics`: named by its rules, bounded, the same from every process, true to the log."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import msgspec
import psycopg
import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from support.logs import until
from support.parking import BrokenError, RefusedError, park
from support.risk_scenes import envelope
from support.serving import Served, new, refinement, served, story

from agents.intake import new_event
from api import ledger_metrics
from api.metric_names import METRICS, UNITS, MetricName, table
from domain.events import (
    AssessmentRefined,
    BatchClosed,
    Event,
    PictureBatched,
    RiskAssessed,
)
from domain.trace import trace_id_of
from projections.database import open_pool
from projections.metric_sums import Sums
from projections.metrics import Metrics
from projections.rows import LedgerRow
from projections.runner import Projector
from runtime.settings import PROJECT_ROOT
from streams.bookmark import Bookmark
from streams.consumer import follow_ups
from streams.envelope import START
from streams.spans import READER

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
SUFFIXES = ("_total", "_bucket", "_sum", "_count", "_info")


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(
        valkey_url, database_url, tmp_path, config=lambda config: replace(config, traces=True)
    ) as running:
        yield running


async def scraped(api: Served, **headers: str) -> list[Metric]:
    """Return what is served, read by Prometheus' own parsers."""
    async with api.client.get("/api/metrics", headers=headers) as response:
        assert response.status == 200
        text = await response.text()
        if headers:
            assert response.content_type == "application/openmetrics-text"
            return list(openmetrics_families(text))  # type: ignore[no-untyped-call]
        assert response.content_type == "text/plain"
        return list(text_string_to_metric_families(text))


def values(families: Iterable[Metric]) -> dict[str, float]:
    return {
        sample.name + "".join(f'{{{k}="{v}"}}' for k, v in sample.labels.items()): sample.value
        for family in families
        for sample in family.samples
    }


async def follow(api: Served, file_id: str, events: Iterable[Event]) -> None:
    """Append events, each following from the one before, and bring the tables up to them."""
    first, *rest = events
    news = new_event(file_id, first)
    for event in (*rest, None):
        position = await api.log.append(news)
        partition = api.log.partition_of(news.event.camera_id)
        (found,) = await api.log.read(news.event.STREAM, partition, position.before(), 1)
        if event is not None:
            (news,) = follow_ups(found, [event])
    await api.project()


async def a_way(api: Served, camera: str, number: int = 0, *, refined: bool = True) -> str:
    """Let a picture become an event that the language model has looked at; return its file."""
    way = story(camera, number)
    *before, assessed = way.events
    assert isinstance(assessed, RiskAssessed)
    more = [refinement(assessed)] if refined else []
    await follow(api, way.file_id, (*before, assessed, *more))
    return way.file_id


# --- true to the log --------------------------------------------------------------------------


async def test_every_stage_has_its_durations_with_a_trace_to_look_at(api: Served) -> None:
    file_id = await a_way(api, "front")
    figures = values(families := await scraped(api, **OPENMETRICS))
    for stage in ("watch", "detect", "assess", "refine"):
        name = f'hsi_stage_duration_seconds_count{{stage="{stage}"}}'
        assert figures[name] == 1, stage
    traces = {
        sample.exemplar.labels["trace_id"]
        for family in families
        if family.name == "hsi_stage_duration_seconds"
        for sample in family.samples
        if sample.exemplar
    }
    assert traces == {trace_id_of(file_id)}
    assert figures['hsi_log_entries_total{type="objects.detected"}'] == 1
    assert figures['hsi_batches_closed_total{reason="idle"}'] == 1
    assert figures['hsi_events_assessed_total{level="medium"}'] == 1

    async def counted() -> bool:  # Counting may take longer than a scrape waits.
        return values(await scraped(api)).get('hsi_ledger_files{state="assessed"}') == 1

    await until(counted)


async def test_the_tokens_are_those_that_stand_in_the_tables(
    api: Served, database_url: str
) -> None:
    for number in range(5):
        await a_way(api, "front", number)
    # An event that was asked about on the fast path, too, has the tokens of both questions.
    told = next(each for each in story("front", 0).events if isinstance(each, RiskAssessed))
    fast = msgspec.structs.replace(refinement(told), stage="fast_path", tokens_in=7, tokens_out=3)
    await api.append(fast)
    # The same word a second time, as a redelivery brings it, is not spent a second time.
    partition = api.log.partition_of("front")
    (*_, last) = await api.log.read("assessments", partition, START, 100)
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await Metrics().apply(connection, [last])
    figures = values(await scraped(api))
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT sum(tokens_in), sum(tokens_out), max(tokens_in), count(tokens_in) FROM events"
        ).fetchone()
    assert row == (507, 103, 107, 5)
    names = ("tokens_in_total", "tokens_out_total", "questions_total")
    assert [figures[f'hsi_risk_model_{name}{{model="tiny"}}'] for name in names] == [507, 103, 6]
    # What is kept of the answer in force is that answer's alone.
    event = await api.json(f"/api/events/{told.event_id}")
    assert (event["model_tokens_in"], event["tokens_in"], event["tokens_out"]) == (100, 107, 23)


async def test_what_is_parked_is_told_by_cause(api: Served) -> None:
    await park(api.log, {"a": BrokenError, "b": BrokenError, "c": RefusedError})
    await api.project()
    figures = values(await scraped(api))
    assert figures['hsi_parked_entries{stage="detect"}'] == 3
    causes = {n: v for n, v in figures.items() if n.startswith("hsi_parked_cause_entries")}
    assert causes == {
        'hsi_parked_cause_entries{cause="BrokenError"}{stage="detect"}': 2,
        'hsi_parked_cause_entries{cause="RefusedError"}{stage="detect"}': 1,
    }
    assert figures['hsi_entries_parked_total{stage="detect"}'] == 3


async def test_a_batch_lasts_from_its_first_picture_to_its_end(api: Served) -> None:
    closed = story("front").events[2]
    assert isinstance(closed, BatchClosed)
    began = datetime.now(UTC) - timedelta(seconds=40)
    joined = PictureBatched(
        camera_id="front", batch_id=closed.batch_id, member=closed.members[0], detected_at=began
    )
    later = msgspec.structs.replace(joined, detected_at=began + timedelta(seconds=20))
    await api.append(joined)
    await api.append(later, closed)
    figures = values(await scraped(api))
    assert figures['hsi_stage_duration_seconds_count{stage="batch"}'] == 1
    assert 39 < figures['hsi_stage_duration_seconds_sum{stage="batch"}'] < 70


async def test_several_processes_say_the_same_of_the_whole(
    api: Served, valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    await a_way(api, "front")
    (tmp_path / "two").mkdir()
    async with served(valkey_url, database_url, tmp_path / "two") as other:
        one, two = await whole(api), await whole(other)
    moving = ("hsi_stage_oldest_age", "hsi_stage_handled_per", "hsi_stage_clears")
    own = {m.family for m in METRICS.values() if m.own}

    def same(figures: dict[str, float]) -> dict[str, float]:
        return {
            name: value for name, value in figures.items() if not name.startswith((*moving, *own))
        }

    assert same(one) == same(two)
    assert len(same(one)) > 40


async def whole(api: Served) -> dict[str, float]:
    """Scrape until no source was too slow to be in it, as each may be on a busy machine."""
    found: dict[str, float] = {}

    async def nothing_left_out() -> bool:
        found.clear()
        found.update(values(await scraped(api)))
        needed = ('up{service="database"}', 'up{service="redis"}')
        up = all(found[f"hsi_service_{name}"] for name in needed)
        return up and 'hsi_ledger_files{state="assessed"}' in found

    await until(nothing_left_out)
    return found


# --- named by the rules, as the page says -----------------------------------------------------


async def filled(api: Served) -> None:
    """Let there be a sample of as much as can be."""
    await a_way(api, "front")
    async with api.client.ws_connect("/ws/events") as socket:
        await socket.receive_json()


def family_of(metric: MetricName, *, openmetrics: bool) -> str:
    """Return a metric's name as the parser of a format gives it."""
    if metric.kind == "info" and not openmetrics:
        return metric.name
    return metric.family


async def test_what_is_served_is_what_the_table_says(api: Served) -> None:
    await filled(api)
    compared(await scraped(api), openmetrics=False)
    compared(await scraped(api, **OPENMETRICS), openmetrics=True)


def compared(families: Iterable[Metric], *, openmetrics: bool) -> None:
    """Compare what was scraped with the table."""
    wanted = {family_of(m, openmetrics=openmetrics): m for m in METRICS.values()}
    found = set()
    for family in families:
        metric = wanted[family.name]
        found.add(family.name)
        kind = "gauge" if metric.kind == "info" and not openmetrics else metric.kind
        assert (family.type, family.documentation) == (kind, metric.about)
        if openmetrics:  # The library tells no unit of the process's own figures.
            own = metric.name.startswith("process_")
            assert family.unit == ("" if own else metric.unit)
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        assert labels <= set(metric.labels), family.name
    assert found == set(wanted)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_names_follow_the_rules(metric: MetricName) -> None:
    assert re.fullmatch(r"(hsi|process)_[a-z][a-z_]*[a-z]", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.name.endswith("_info") == (metric.kind == "info")
    assert metric.about.strip()
    assert metric.about[0].isalnum()
    assert metric.about.endswith(".")
    assert not {"camera", "camera_id", "path", "ip", "id"} & set(metric.labels)
    wrong = {"ms", "milliseconds", "minutes", "kib", "mib", "kb", "mb"}
    assert not wrong & set(metric.name.split("_"))
    if metric.kind == "histogram":
        assert metric.unit in UNITS


def test_the_page_has_the_table() -> None:
    page = (PROJECT_ROOT / "docs" / "telemetry.md").read_text()
    assert table() in page, "put `python -m api.metric_names` into docs/telemetry.md"


# --- bounded ----------------------------------------------------------------------------------


async def test_names_from_outside_make_no_series(api: Served) -> None:
    await filled(api)
    before = Counter(name.partition("{")[0] for name in values(await scraped(api)))
    odd = [f'cam"{number}\n{{\\é' for number in range(10_000)]
    taken = [msgspec.structs.replace(story("x").events[0], camera_id=name) for name in odd]
    await api.log.append_all([new(event) for event in taken])
    (metrics,) = [each for each in api.projectors if each.name == "metrics"]
    while await metrics.run_once():
        continue
    for number in range(300):
        path = f"/api/{quote(odd[number], safe='')}"
        method = ("GET", "GET", "MKCOL", "PROPFIND")[number % 4]
        async with api.client.request(method, path) as response:
            assert response.status in (404, 405)
        async with api.client.get(f"/api/events/evt_{number}") as response:
            assert response.status == 404
    figures = values(await scraped(api))
    after = Counter(name.partition("{")[0] for name in figures)
    grown = sum((after - before).values())
    # Three methods on no route and one route more, ten lines each; and what a minute brings.
    assert grown <= 60, after - before
    counted = sum(
        value
        for name, value in figures.items()
        if name.startswith("hsi_http_request_duration_seconds_count") and "4xx" in name
    )
    assert counted == 600
    assert figures['hsi_log_entries_total{type="image.received"}'] == 10_001


# --- cheap, and true when something is down ---------------------------------------------------


async def test_a_scrape_is_quick(api: Served) -> None:
    await filled(api)
    took = []
    for _ in range(15):
        began = time.process_time()  # of client and server; the clock is others' on a busy machine
        async with api.client.get("/api/metrics") as response:
            await response.read()
        took.append(time.process_time() - began)
    assert min(took) < 0.02, [round(each, 4) for each in took]


async def test_the_first_scrape_of_a_process_waits_for_a_count_that_takes_a_moment(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_way(api, "front", refined=False)
    monkeypatch.setattr(ledger_metrics, "FIRST_WAIT_SECONDS", 10.0)
    count = api.services.queries.ledger

    async def slow() -> list[LedgerRow]:
        await asyncio.sleep(0.1)
        return await count()

    monkeypatch.setattr(api.services.queries, "ledger", slow)
    assert values(await scraped(api))['hsi_ledger_files{state="assessed"}'] == 1


async def test_the_ledgers_count_never_holds_a_scrape_up(
    api: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ledger_metrics, "FIRST_WAIT_SECONDS", 0.05)
    waiting = asyncio.Event()

    async def slow(**_: object) -> list[object]:
        await waiting.wait()
        return []

    monkeypatch.setattr(api.services.queries, "ledger", slow)
    async with asyncio.timeout(5):
        await scraped(api)
        figures = values(await scraped(api))
    assert not any(name.startswith("hsi_ledger_files") for name in figures)
    assert figures['hsi_service_up{service="database"}'] == 1
    assert "hsi_ledger_files is left out" in caplog.text
    waiting.set()


async def test_the_lag_of_the_traces_is_told_where_they_are_sent(api: Served) -> None:
    assert not [n for n in values(await scraped(api)) if n.startswith("hsi_trace_export_lag")]
    place = Bookmark(api.log, READER)
    assert await place.lease.acquire()
    await a_way(api, "front", refined=False)
    partition = api.log.partition_of("front")
    first = (await api.log.read("files", partition, START, 1))[0].position
    await place.store({("files", partition): first, ("batches", partition): first})
    lag = values(await scraped(api))["hsi_trace_export_lag_seconds"]
    ends = [
        (await api.log.newest(stream, partition)).ms - first.ms for stream in ("files", "batches")
    ]
    assert lag == max(*ends, 0) / 1000


def test_old_events_without_the_time_of_their_cause_count_but_have_no_duration() -> None:
    told = refinement(story("a").events[3])  # type: ignore[arg-type]
    assert isinstance(told, AssessmentRefined)
    sums = Sums()
    sums.add([envelope(told)], {})
    assert sums.durations == {}
    assert sums.counters["entries", "assessment.refined"] == 1


async def test_it_stays_out_of_the_way_and_counts_a_moment_later(
    api: Served, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Metrics, "pace_seconds", 0.5)
    applied: list[int] = []
    pool = await open_pool(database_url, name="test", max_size=1)
    projector = Projector(
        api.log, pool, Metrics(), on_applied=lambda envelopes: applied.append(len(envelopes))
    )
    stop = asyncio.Event()
    running = asyncio.create_task(projector.run(stop))
    for event in story("front").events:
        await api.log.append(new(event))
    await until(lambda: sum(applied) == 4)
    stop.set()
    await asyncio.wait_for(running, 10)
    await pool.close()
    assert len(applied) <= 2  # one, unless the machine took longer for the four of them
