"""Routes of the system itself: alive, ready, health, GPUs, figures."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Literal

import msgspec
from aiohttp import web

from api.health import check_health, check_stores
from api.routing import Routes
from api.schemas import (
    AliveAnswer,
    GpuAnswer,
    GpuHistoryAnswer,
    GpuHistoryQuery,
    GpuHistorySample,
    HealthAnswer,
    ReadyAnswer,
    Worker,
)
from api.services import SERVICES, ApiServices, answer
from api.system_feed import gpu_answer
from domain.errors import TransientError
from projections.rows import GpuSampleRow, State

routes = Routes("system")


class WebSocketStats(msgspec.Struct, frozen=True, kw_only=True):
    """What happened on one WebSocket channel since this process started."""

    clients: int
    """Connected now."""
    catching_up: int
    """Of these, fed from the log at present: they resumed, or read too slowly."""
    waiting_bytes: int
    """Sent to them and still in this process."""
    connections: int
    refused: int
    """Came while there were as many clients as there may be."""
    messages: int
    delivered: int
    replayed: int
    """Messages told from the log to clients that resumed or fell behind."""
    fell_behind: int
    """Times that a client read too slowly, so that it went on from the log."""
    cut_slow: int
    """Clients that were closed since they had stopped reading."""


class StatsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/system/stats."""

    total_cameras: int
    total_events: int
    total_detections: int
    total_files: int
    files: dict[State, int]
    uptime_seconds: float
    websocket: dict[str, WebSocketStats]


@routes.get("/health", AliveAnswer, role="public")
async def alive(request: web.Request) -> web.Response:
    """Answer that this process runs; asks nobody else."""
    version = request.app[SERVICES].config.app_version
    return answer(AliveAnswer(status="alive", version=version))


@routes.get("/ready", {200: ReadyAnswer, 503: ReadyAnswer}, role="public")
async def ready_short(request: web.Request) -> web.StreamResponse:
    """Answer the same as /api/system/health/ready, where probes expect it."""
    return await ready(request)


@routes.get("/api/system/health/ready", {200: ReadyAnswer, 503: ReadyAnswer}, role="public")
async def ready(request: web.Request) -> web.Response:
    """Answer whether requests can be served: 503 without PostgreSQL or Redis."""
    services = request.app[SERVICES]
    checks = await check_stores(services)
    fine = all(check.status == "healthy" for check in checks.values())
    troubled = bool(services.supervision.troubles())
    served: Literal["ready", "degraded"] = "degraded" if troubled else "ready"
    body = ReadyAnswer(
        ready=fine,
        status=served if fine else "not_ready",
        services=checks,
        workers=[
            Worker(name=name, running=word.status == "running", message=word.message)
            for name, word in sorted(services.supervision.known.services.items())
        ],
        timestamp=datetime.now(UTC),
    )
    return answer(body, status=HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE)


@routes.get("/api/system/health", {200: HealthAnswer, 503: HealthAnswer}, role="public")
async def health(request: web.Request) -> web.Response:
    """Answer how everything is; the rule is written in api/health.py."""
    body = await check_health(request.app[SERVICES])
    unhealthy = body.status == "unhealthy"
    return answer(body, status=HTTPStatus.SERVICE_UNAVAILABLE if unhealthy else HTTPStatus.OK)


@routes.get("/api/system/gpu", GpuAnswer)
async def gpu(request: web.Request) -> web.Response:
    """Answer the newest readings; without a GPU every field is null and the source `none`."""
    services = request.app[SERVICES]
    return answer(gpu_answer(services.gpu, services.rates.of("detect").handled_per_second))


@routes.get("/api/system/gpu/history", GpuHistoryAnswer)
async def gpu_history(request: web.Request, query: GpuHistoryQuery) -> web.Response:
    """Answer the newest readings since a moment, oldest first."""
    services = request.app[SERVICES]
    origin: Literal["database", "memory"] = "database"
    try:
        rows = await services.queries.gpu_history(since=query.since, limit=query.limit)
    except TransientError:
        rows = services.gpu.rows(since=query.since, limit=query.limit)
        origin = "memory"
    return answer(
        GpuHistoryAnswer(
            samples=[_sample(row) for row in rows],
            count=len(rows),
            limit=query.limit,
            origin=origin,
        )
    )


def _sample(row: GpuSampleRow) -> GpuHistorySample:
    return GpuHistorySample(
        recorded_at=row.sampled_at,
        host=row.host,
        gpu_index=row.gpu_index,
        gpu_name=row.name,
        utilization=row.utilization_percent,
        memory_used=row.memory_used_mib,
        memory_total=row.memory_total_mib,
        temperature=row.temperature_celsius,
        power_usage=row.power_watts,
    )


@routes.get("/api/system/stats", StatsAnswer)
async def stats(request: web.Request) -> web.Response:
    """Answer how much there is, and what the live feed has done."""
    services = request.app[SERVICES]
    totals = await services.queries.totals()
    files: dict[State, int] = {}
    for row in await services.queries.file_counts():
        files[row.state] = files.get(row.state, 0) + row.files
    body = StatsAnswer(
        total_cameras=totals.cameras,
        total_events=totals.events,
        total_detections=totals.detections,
        total_files=sum(files.values()),
        files=files,
        uptime_seconds=services.uptime_seconds,
        websocket=websocket_stats(services),
    )
    return answer(body)


def websocket_stats(services: ApiServices) -> dict[str, WebSocketStats]:
    """Return what happened on each channel since this process started."""
    return {
        name: WebSocketStats(
            clients=len(channel.connections),
            catching_up=len(channel.connections - channel.listeners),
            waiting_bytes=sum(each.waiting_bytes for each in channel.connections),
            connections=channel.metrics.connections,
            refused=channel.metrics.refused,
            messages=channel.metrics.messages,
            delivered=channel.metrics.delivered,
            replayed=channel.metrics.replayed,
            fell_behind=channel.metrics.fell_behind,
            cut_slow=channel.metrics.cut_slow,
        )
        for name, channel in services.broadcaster.channels.items()
    }
