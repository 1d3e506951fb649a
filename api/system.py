"""Routes of the system itself: alive, ready, health, GPUs, figures."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Literal

from aiohttp import web

from api.health import check_health, check_stores
from api.parse import parse_query
from api.schemas import (
    AliveAnswer,
    GpuHistoryAnswer,
    GpuHistoryQuery,
    GpuHistorySample,
    NoQuery,
    ReadyAnswer,
    StatsAnswer,
    WebSocketStats,
)
from api.services import SERVICES, answer
from api.system_feed import gpu_answer
from domain.errors import TransientError
from projections.rows import GpuSampleRow, State

routes = web.RouteTableDef()


@routes.get("/health")
async def alive(request: web.Request) -> web.Response:
    """Answer that this process runs; asks nobody else."""
    parse_query(request, NoQuery)
    version = request.app[SERVICES].config.app_version
    return answer(AliveAnswer(status="alive", version=version))


@routes.get("/ready")
@routes.get("/api/system/health/ready")
async def ready(request: web.Request) -> web.Response:
    """Answer whether requests can be served: 503 without PostgreSQL or Redis."""
    parse_query(request, NoQuery)
    checks = await check_stores(request.app[SERVICES])
    fine = all(check.status == "healthy" for check in checks.values())
    body = ReadyAnswer(
        ready=fine,
        status="ready" if fine else "not_ready",
        services=checks,
        timestamp=datetime.now(UTC),
    )
    return answer(body, status=HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE)


@routes.get("/api/system/health")
async def health(request: web.Request) -> web.Response:
    """Answer how everything is; the rule is written in api/health.py."""
    parse_query(request, NoQuery)
    body = await check_health(request.app[SERVICES])
    unhealthy = body.status == "unhealthy"
    return answer(body, status=HTTPStatus.SERVICE_UNAVAILABLE if unhealthy else HTTPStatus.OK)


@routes.get("/api/system/gpu")
async def gpu(request: web.Request) -> web.Response:
    """Answer the newest readings; without a GPU every field is null and the source `none`."""
    parse_query(request, NoQuery)
    return answer(gpu_answer(request.app[SERVICES].gpu))


@routes.get("/api/system/gpu/history")
async def gpu_history(request: web.Request) -> web.Response:
    """Answer the newest readings since a moment, oldest first."""
    wanted = parse_query(request, GpuHistoryQuery)
    services = request.app[SERVICES]
    origin: Literal["database", "memory"] = "database"
    try:
        rows = await services.queries.gpu_history(since=wanted.since, limit=wanted.limit)
    except TransientError:
        rows = services.gpu.rows(since=wanted.since, limit=wanted.limit)
        origin = "memory"
    return answer(
        GpuHistoryAnswer(
            samples=[_sample(row) for row in rows],
            count=len(rows),
            limit=wanted.limit,
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


@routes.get("/api/system/stats")
async def stats(request: web.Request) -> web.Response:
    """Answer how much there is, and what the live feed has done."""
    parse_query(request, NoQuery)
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
        websocket={
            name: WebSocketStats(
                clients=len(channel.listeners),
                connections=channel.metrics.connections,
                messages=channel.metrics.messages,
                delivered=channel.metrics.delivered,
                replayed=channel.metrics.replayed,
                fell_behind=channel.metrics.fell_behind,
                cut_slow=channel.metrics.cut_slow,
            )
            for name, channel in services.broadcaster.channels.items()
        },
    )
    return answer(body)
