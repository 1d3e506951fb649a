"""Health by its rule, readiness, GPU history, headers, CORS, and the page."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.servers import PrivatePostgres, PrivateValkey
from support.serving import BEGIN, Served, new, served, story, until

from domain.events import (
    SYSTEM,
    Event,
    GpuReading,
    GpuSampled,
    ServiceStateChanged,
    ServiceStatus,
)
from projections.migrate import migrate


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path) as running:
        yield running


def service(name: str, status: ServiceStatus, message: str, second: int = 0) -> Event:
    return ServiceStateChanged(
        camera_id=SYSTEM,
        service=name,
        status=status,
        message=message,
        changed_at=BEGIN + timedelta(seconds=second),
    )


def sample(second: int) -> Event:
    return GpuSampled(
        camera_id=SYSTEM,
        host="here",
        sampled_at=BEGIN + timedelta(seconds=second),
        source="nvml",
        gpus=(GpuReading(index=0, name="RTX", utilization_percent=float(second)),),
    )


async def test_health_follows_the_models(api: Served) -> None:
    health = await api.json("/api/system/health")
    assert health["status"] == "degraded"
    assert health["services"]["ai"]["details"]["detector"]["status"] == "unknown"
    await api.append(
        service("detector", "healthy", "ssdlite answers"),
        service("risk_model", "waiting", "loading"),
    )
    health = await api.json("/api/system/health")
    assert health["status"] == "degraded"
    assert health["services"]["ai"]["message"] == "risk_model: loading"
    await api.append(service("risk_model", "healthy", "tiny answers", 1))
    health = await api.json("/api/system/health")
    assert health["status"] == "healthy"
    assert {name: check["status"] for name, check in health["services"].items()} == {
        "database": "healthy",
        "redis": "healthy",
        "ai": "healthy",
        "live_feed": "healthy",
    }
    assert {stage["stage"]: stage["pending"] for stage in health["stages"]} == {
        "detect": 0,
        "batch": 0,
        "assess": 0,
        "refine_first": 0,
        "refine": 0,
    }
    assert all(lag["lag_seconds"] == 0 for lag in health["projections"])
    assert (health["app_name"], health["version"]) == ("HSI", "1.2.3")


async def test_health_shows_what_waits(api: Served) -> None:
    await api.log.append_all([new(event) for event in story("front").events])
    health = await api.json("/api/system/health")
    stages = {stage["stage"]: stage for stage in health["stages"]}
    assert 0 <= stages["detect"].pop("oldest_seconds") < 60
    assert stages["detect"] == {
        "stage": "detect",
        "pending": 1,
        "processing": 0,
        "gate": None,
        "waits_for": None,
        "handled_per_second": None,
        "clears_in_seconds": None,
    }
    assert stages["refine"]["oldest_seconds"] is None or stages["refine"]["pending"]
    await api.project()
    await api.log.append(new(sample(1)))
    health = await api.json("/api/system/health")
    behind = {lag["projection"]: lag["behind"] for lag in health["projections"]}
    assert [stream.split("/")[0] for stream in behind["telemetry"]] == ["system"]
    assert behind["timeline"] == []


async def test_a_paused_stage_is_shown_as_such(api: Served) -> None:
    # given a detector that went away while a picture waits
    await api.log.append_all([new(event) for event in story("front").events])
    await api.append(away(("detect",), second=1), service("risk_model", "healthy", "answers", 1))
    # then health, the live feed and the metrics say so, and promise nothing
    health = await api.json("/api/system/health")
    assert health["status"] == "degraded"
    stages = {stage["stage"]: stage for stage in health["stages"]}
    assert (stages["detect"]["gate"], stages["detect"]["waits_for"]) == ("closed", "detector")
    assert stages["detect"]["clears_in_seconds"] is None
    assert (stages["refine"]["gate"], stages["batch"]["gate"]) == (None, None)
    async with api.client.ws_connect("/ws/system") as socket:
        status = await until(socket, "system_status")
        assert status["data"]["queue"]["paused_stages"] == ["detect"]
        assert status["data"]["queue"]["clears_in_seconds"] is None
        told = await until(socket, "service_status")
        assert told["data"]["paused_stages"] == ["detect"]
    figures = await scraped(api)
    assert figures['hsi_stage_gate_closed{stage="detect"}'] == 1
    assert figures['hsi_stage_pending_entries{stage="detect"}'] == 1
    assert figures['hsi_stage_handled_entries_total{stage="detect"}'] == 0
    assert figures['hsi_parked_entries{stage="detect"}'] == 0
    assert figures['hsi_service_up{service="detector"}'] == 0
    assert not any("clears_in" in name and '"detect"' in name for name in figures)
    # and when it answers again before the stage has tried it, the stage still pauses
    await api.append(away(("detect",), second=2, status="healthy"))
    health = await api.json("/api/system/health")
    assert health["services"]["ai"]["message"] == "detector answers, but detect still pauses"
    await api.append(away((), second=3, status="healthy"))
    health = await api.json("/api/system/health")
    assert health["status"] == "healthy"
    assert {s["gate"] for s in health["stages"] if s["stage"] == "detect"} == {"open"}


def away(stages: tuple[str, ...], *, second: int, status: ServiceStatus = "unhealthy") -> Event:
    return ServiceStateChanged(
        camera_id=SYSTEM,
        service="detector",
        status=status,
        message="said so",
        changed_at=BEGIN + timedelta(seconds=second),
        paused_stages=stages,
    )


async def scraped(api: Served) -> dict[str, float]:
    """Return the metrics by name and labels, read by Prometheus' own parser."""
    response = await api.client.get("/api/metrics")
    assert (response.status, response.content_type) == (200, "text/plain")
    families = text_string_to_metric_families(await response.text())
    return {
        sample.name + "".join(f'{{{k}="{v}"}}' for k, v in sample.labels.items()): sample.value
        for family in families
        for sample in family.samples
    }


async def test_without_postgresql_the_state_of_the_stages_is_still_known(
    valkey_url: str, private_postgres: PrivatePostgres, tmp_path: Path
) -> None:
    migrate(private_postgres.url)
    async with served(valkey_url, private_postgres.url, tmp_path) as api:
        await api.append(away(("detect",), second=1))
        await api.json("/api/system/health")
        private_postgres.stop()
        health = await api.json("/api/system/health", status=503)
        assert {s["gate"] for s in health["stages"] if s["stage"] == "detect"} == {"closed"}
        assert health["projections"] == []
        figures = await scraped(api)
        assert figures['hsi_service_up{service="database"}'] == 0
        assert figures['hsi_stage_gate_closed{stage="detect"}'] == 1


async def test_rules_alone_is_no_degradation(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    async with served(
        valkey_url,
        database_url,
        tmp_path,
        config=lambda config: replace(config, risk_model_expected=False),
    ) as api:
        await api.append(service("detector", "healthy", "answers"))
        health = await api.json("/api/system/health")
        assert health["services"]["ai"]["details"]["risk_model"]["status"] == "off"
        assert health["status"] == "healthy"


async def test_alive_and_ready(api: Served) -> None:
    assert await api.json("/health") == {"status": "alive", "version": "1.2.3"}
    assert (await api.json("/ready"))["ready"] is True
    assert (await api.json("/api/system/health/ready"))["status"] == "ready"


async def test_without_postgresql(
    valkey_url: str, private_postgres: PrivatePostgres, tmp_path: Path
) -> None:
    migrate(private_postgres.url)
    async with served(valkey_url, private_postgres.url, tmp_path) as api:
        await api.append(sample(5))
        private_postgres.stop()
        response = await api.client.get("/api/events")
        assert response.headers["Retry-After"] == "5"
        problem = await api.is_problem(response, "database_unavailable", 503)
        assert "PostgreSQL" in problem["detail"]
        assert (await api.json("/ready", status=503))["ready"] is False
        health = await api.json("/api/system/health", status=503)
        assert health["status"] == "unhealthy"
        assert health["services"]["redis"]["status"] == "healthy"
        history = await api.json("/api/system/gpu/history")
        assert history["origin"] == "memory"
        assert [each["utilization"] for each in history["samples"]] == [5.0]
        assert (await api.json("/health"))["status"] == "alive"
        private_postgres.start()
        # The pool asks again by itself, with growing pauses.
        async with asyncio.timeout(30):
            while (await api.client.get("/ready")).status != 200:
                continue
        assert (await api.json("/api/events"))["count"] == 0


async def test_without_redis(
    private_valkey: PrivateValkey, database_url: str, tmp_path: Path
) -> None:
    async with served(private_valkey.url, database_url, tmp_path) as api:
        await api.register("front")
        async with api.client.ws_connect("/ws/events") as socket:
            await socket.receive_json()
            private_valkey.stop()
            change = {"name": "Porch"}
            response = await api.client.patch("/api/cameras/front", json=change)
            await api.is_problem(response, "redis_unavailable", 503)
            assert int(response.headers["Retry-After"]) >= 1
            health = await api.json("/api/system/health", status=503)
            assert health["services"]["redis"]["status"] == "unhealthy"
            assert (await api.json("/api/cameras"))["count"] == 1
            private_valkey.start()
            # The live feed goes on by itself, on the same connection.
            await api.append(*story("front").events)
            while (message := await socket.receive_json(timeout=10))["type"] != "event":
                continue
            assert message["data"]["camera_id"] == "front"
        assert api.services.broadcaster.error is None


async def test_gpu_history(api: Served) -> None:
    await api.append(*(sample(5 * number) for number in range(10)))
    everything = await api.json("/api/system/gpu/history")
    assert (everything["count"], everything["limit"]) == (10, 300)
    assert everything["origin"] == "database"
    assert [each["utilization"] for each in everything["samples"]] == [
        5.0 * number for number in range(10)
    ]
    since = "2025-12-30T12:00:20Z"
    later = await api.json(f"/api/system/gpu/history?since={since}&limit=2")
    assert [each["recorded_at"] for each in later["samples"]] == [
        "2025-12-30T12:00:40Z",
        "2025-12-30T12:00:45Z",
    ]


async def test_headers_and_origins(valkey_url: str, database_url: str, tmp_path: Path) -> None:
    friend, stranger = "http://localhost:5173", "http://evil.example"
    async with served(
        valkey_url, database_url, tmp_path, config=lambda c: replace(c, cors_origins=(friend,))
    ) as api:
        preflight = {"Access-Control-Request-Method": "POST"}
        response = await api.client.options(
            "/api/cameras", headers={"Origin": friend, **preflight}
        )
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == friend
        assert "PUT, PATCH" in response.headers["Access-Control-Allow-Methods"]
        for odd in ("http://[", "http://[::1", "null", "//"):
            response = await api.client.options(
                "/api/cameras", headers={"Origin": odd, **preflight}
            )
            await api.is_problem(response, "origin_not_allowed", 403)
        response = await api.client.options(
            "/api/cameras", headers={"Origin": stranger, **preflight}
        )
        await api.is_problem(response, "origin_not_allowed", 403)
        assert "Access-Control-Allow-Origin" not in response.headers
        response = await api.client.get("/api/cameras", headers={"Origin": friend})
        assert response.headers["Access-Control-Allow-Origin"] == friend
        response = await api.client.get("/ws/events", headers={"Origin": stranger})
        await api.is_problem(response, "upgrade_required", 426)
        upgrade = {"Origin": stranger, "Upgrade": "websocket"}
        response = await api.client.get("/ws/events", headers=upgrade)
        await api.is_problem(response, "origin_not_allowed", 403)
        body = {"name": "A", "folder_path": "a"}
        response = await api.client.post("/api/cameras", json=body, headers={"Origin": stranger})
        await api.is_problem(response, "origin_not_allowed", 403)
        response = await api.client.get("/health", headers={"X-Request-Id": "mine-1"})
        assert response.headers["X-Request-Id"] == "mine-1"
        response = await api.client.get("/health", headers={"X-Request-Id": "no spaces"})
        assert response.headers["X-Request-Id"] != "no spaces"


async def test_the_page(api: Served) -> None:
    for path, kind in {"/": "html", "/app.js": "javascript", "/style.css": "css"}.items():
        async with api.client.get(path) as response:
            assert response.status == 200
            assert kind in response.content_type
            text = await response.text()
            assert "http://" not in text.replace("http://www.w3.org", "")
            assert "https://" not in text
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'self'" in policy
    page = await (await api.client.get("/")).text()
    assert "style=" not in page
    assert "onclick" not in page
