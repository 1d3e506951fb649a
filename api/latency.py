"""Routes that say how long each step takes, from the times that stand in the events themselves."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from api.health import check_health
from api.routing import Routes
from api.schemas import StageBacklog
from api.services import SERVICES, ApiServices, answer
from projections.event_queries import StageTimes
from streams.envelope import Position

MOST_PICTURES: Final = 10_000
"""Pictures that are looked at, the newest of the window."""

_READ_RUN: Final = 500

routes = Routes("system")


class WindowQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/system/pipeline-latency."""

    window_minutes: Annotated[int, Meta(ge=1, le=1440)] = 60


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long one step took; null without a sample."""

    sample_count: int
    avg_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class PipelineLatency(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/system/pipeline-latency: of the pictures taken in during the window."""

    watch_to_detect: Latency
    """From taken in to looked at by the detector."""
    detect_to_batch: Latency
    """From there until its batch was closed; a batch waits for more pictures on purpose."""
    batch_to_analyze: Latency
    """From there to the assessment; the fast path assesses before its batch is closed."""
    total_pipeline: Latency
    """From taken in to assessed."""
    window_minutes: int
    timestamp: datetime


class Telemetry(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/system/telemetry: what waits, and how long the last hour's pictures took."""

    queues: dict[str, int]
    stages: list[StageBacklog]
    latencies: dict[str, Latency]
    timestamp: datetime


@routes.get("/api/system/pipeline-latency", PipelineLatency)
async def pipeline_latency(request: web.Request, query: WindowQuery) -> web.Response:
    """Answer how long each step took, by the times of the events."""
    now = datetime.now(UTC)
    since = now - timedelta(minutes=query.window_minutes)
    measured = await _measured(request.app[SERVICES], since)
    return answer(
        PipelineLatency(
            watch_to_detect=measured["detect"],
            detect_to_batch=measured["batch"],
            batch_to_analyze=measured["analyze"],
            total_pipeline=measured["total"],
            window_minutes=query.window_minutes,
            timestamp=now,
        )
    )


@routes.get("/api/system/telemetry", Telemetry)
async def telemetry(request: web.Request) -> web.Response:
    """Answer what waits at each stage, and how long the last hour's pictures took."""
    services = request.app[SERVICES]
    now = datetime.now(UTC)
    health = await check_health(services)
    measured = await _measured(services, now - timedelta(hours=1))
    left = {stage.stage: stage.pending + stage.processing for stage in health.stages}
    analysis = sum(count for stage, count in left.items() if stage != "detect")
    return answer(
        Telemetry(
            queues={"detection_queue": left.get("detect", 0), "analysis_queue": analysis},
            stages=health.stages,
            latencies={name: measured[name] for name in ("watch", "detect", "batch", "analyze")},
            timestamp=now,
        )
    )


async def _measured(services: ApiServices, since: datetime) -> dict[str, Latency]:
    pictures = await services.queries.stage_times(since, MOST_PICTURES)
    closed = await _closed_batches(services, since)
    ways = [_way(picture, closed.get(picture.batch_id or "")) for picture in pictures]
    return {
        name: latency_of(way[name] for way in ways if name in way)
        for name in ("watch", "detect", "batch", "analyze", "total")
    }


async def _closed_batches(services: ApiServices, since: datetime) -> dict[str, datetime]:
    """Return when each batch was closed, by the log."""
    closed: dict[str, datetime] = {}
    for partition in range(services.log.partitions):
        after = Position(int(since.timestamp() * 1000), 0)
        while run := await services.log.read("batches", partition, after, _READ_RUN):
            for envelope in run:
                batch_id = getattr(envelope.event, "batch_id", None)
                if batch_id is not None:
                    closed.setdefault(batch_id, envelope.recorded_at)
            after = run[-1].position
            if len(closed) >= MOST_PICTURES:
                break
    return closed


def _way(picture: StageTimes, closed: datetime | None) -> dict[str, float]:
    """Return the milliseconds of each step that was done; clocks that disagree give no sample."""
    steps = {
        "watch": (picture.captured_at, picture.received_at),
        "detect": (picture.received_at, picture.detected_at),
        "batch": (picture.detected_at, closed),
        "analyze": (closed, picture.assessed_at),
        "total": (picture.received_at, picture.assessed_at),
    }
    return {
        name: (end - begin).total_seconds() * 1000
        for name, (begin, end) in steps.items()
        if begin is not None and end is not None and end >= begin
    }


def latency_of(samples: Iterable[float]) -> Latency:
    """Return the figures of some samples."""
    found = sorted(samples)
    if not found:
        return Latency(sample_count=0)
    return Latency(
        sample_count=len(found),
        avg_ms=round(sum(found) / len(found), 3),
        min_ms=round(found[0], 3),
        max_ms=round(found[-1], 3),
        p50_ms=_percentile(found, 0.50),
        p95_ms=_percentile(found, 0.95),
        p99_ms=_percentile(found, 0.99),
    )


def _percentile(found: Sequence[float], share: float) -> float:
    """Return the smallest sample that at least this share of them does not exceed."""
    return round(found[ceil(share * len(found)) - 1], 3)
