"""What the API says of the installation as a whole."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.serving import Served, served, story

from api.latency import latency_of
from api.storage import forecast
from domain.events import ServiceStateChanged
from domain.risk import Bands, level_of
from projections.storage_queries import TakenIn

NOW = datetime(2026, 1, 8, tzinfo=UTC)


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    bands = Bands(low_max=20, medium_max=50, high_max=90)
    async with served(
        valkey_url, database_url, tmp_path, config=lambda given: replace(given, bands=bands)
    ) as running:
        await running.register("front")
        yield running


async def test_severity_covers_every_score_once_and_as_the_rules_do(api: Served) -> None:
    said = await api.json("/api/system/severity")
    assert [each["severity"] for each in said["definitions"]] == [
        "critical",
        "high",
        "medium",
        "low",
    ]
    assert said["thresholds"] == {"low_max": 20, "medium_max": 50, "high_max": 90}
    for score in range(101):
        (level,) = [
            each["severity"]
            for each in said["definitions"]
            if each["min_score"] <= score <= each["max_score"]
        ]
        assert level == level_of(score, Bands(20, 50, 90))


async def test_services_and_gates_are_as_they_were_last_told(api: Served) -> None:
    said = await api.json("/api/system/services")
    by_name = {each["name"]: each for each in said["services"]}
    assert by_name["database"]["status"] == by_name["redis"]["status"] == "healthy"
    assert by_name["detector"]["status"] == "unknown"
    gates = await api.json("/api/system/circuit-breakers")
    assert {each["state"] for each in gates["circuit_breakers"]} == {"unknown"}
    away = ServiceStateChanged(
        camera_id="system",
        service="detector",
        status="unhealthy",
        message="it does not answer",
        changed_at=NOW,
        paused_stages=("detect",),
    )
    await api.append(away)
    gates = await api.json("/api/system/circuit-breakers")
    (detect,) = [each for each in gates["circuit_breakers"] if each["name"] == "detect"]
    assert (detect["state"], detect["service"]) == ("open", "detector")
    assert (detect["message"], gates["open_count"]) == ("it does not answer", 1)
    ai = await api.json("/api/system/services?category=ai")
    assert ai["by_category"] == {"ai": ai["count"]}
    (detector,) = [each for each in ai["services"] if each["name"] == "detector"]
    assert (detector["status"], detector["paused_stages"]) == ("unhealthy", ["detect"])
    await api.problem("/api/system/services?category=x", "invalid_parameter", status=400)


async def test_the_live_feed_says_how_it_is(api: Served) -> None:
    async with api.client.ws_connect("/ws/events") as socket:
        await socket.receive_json()
        said = await api.json("/api/system/health/websocket")
    assert (said["status"], said["channels"]["events"]["clients"]) == ("healthy", 1)


async def test_storage_names_what_is_kept(api: Served) -> None:
    await api.append(*story("front", 0).events, *story("front", 1).events)
    said = await api.json("/api/system/storage")
    assert said["images"] == {"file_count": 2, "size_bytes": 2000}
    assert said["clips"] == {"file_count": 0, "size_bytes": 0}
    assert said["disk"]["total_bytes"] >= said["disk"]["free_bytes"] > 0
    assert "events" in {table["name"] for table in said["tables"]}
    assert said["forecast"]["days_until_full"] is None


def test_a_forecast_needs_growth_that_was_measured_for_some_time() -> None:
    early = forecast(TakenIn(files=9, bytes=900, first_at=NOW - timedelta(hours=1)), NOW, 9, 30, 0)
    assert (early.growth_bytes_per_day, early.days_until_full) == (None, None)
    week = TakenIn(files=70, bytes=7000, first_at=NOW - timedelta(days=7))
    short = forecast(week, NOW, free=5000, retention_days=30, stored=7000)
    assert (short.growth_bytes_per_day, short.files_per_day) == (1000, 10)
    assert (short.days_until_full, short.full_at) == (5.0, NOW + timedelta(days=5))
    assert (short.bytes_at_retention, short.retention_suffices) == (30_000, False)
    enough = forecast(week, NOW, free=23_000, retention_days=30, stored=7000)
    assert (enough.days_until_full, enough.retention_suffices) == (None, True)
    still = forecast(TakenIn(files=0, bytes=0, first_at=None), NOW, 9, 30, 0)
    assert still.days_until_full is None


def test_percentiles_are_samples_that_were_there() -> None:
    assert latency_of([]).p95_ms is None
    one = latency_of([7.0])
    assert (one.p50_ms, one.p99_ms, one.sample_count) == (7, 7, 1)
    many = latency_of(float(n) for n in range(1, 101))
    assert (many.p50_ms, many.p95_ms, many.p99_ms, many.max_ms) == (50, 95, 99, 100)


async def test_latency_is_measured_by_the_times_in_the_events(api: Served) -> None:
    told = story("front", 0)
    await api.append(*told.events)
    said = await api.json("/api/system/pipeline-latency?window_minutes=5")
    for step in ("watch_to_detect", "detect_to_batch", "batch_to_analyze", "total_pipeline"):
        assert said[step]["sample_count"] == 1, step
        assert 0 <= said[step]["p50_ms"] < 300_000
    telemetry = await api.json("/api/system/telemetry")
    assert telemetry["latencies"]["detect"]["sample_count"] == 1
    assert telemetry["queues"]["detection_queue"] == 1
    await api.problem(
        "/api/system/pipeline-latency?window_minutes=1441", "invalid_parameter", status=400
    )
