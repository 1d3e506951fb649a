"""`GET /api/metrics` for Prometheus, in the form it asks for; what is not known is left out.

What concerns the whole installation is read from the log and its tables, so every API process
says the same and a restart does not begin at 0. Each source is asked once and for a short time:
a scrape must see what is down. The backlog is at most LOOK_OLD_SECONDS old: it is looked at all
the while, and several scrapers cost no more than one.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeVar

from aiohttp import web
from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.core import CollectorRegistry, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from api.health import known_checks, stage_backlog
from api.http_metrics import HttpMetrics
from api.ledger_metrics import LedgerMetrics
from api.log_metrics import (
    counter_metrics,
    duration_metrics,
    lag_metrics,
    lag_seconds,
    parked_metrics,
)
from api.metric_names import counter, gauge, info
from api.model_metrics import gpu_metrics, model_metrics
from api.routing import Routes
from api.schemas import StageBacklog
from api.services import SERVICES, ApiServices
from api.socket_metrics import socket_metrics
from domain.errors import TransientError
from projections.metric_queries import Figures
from streams.bookmark import Bookmark, Lane
from streams.ends import Ends, ends_of
from streams.envelope import Position
from streams.log import GroupBacklog
from streams.names import STREAMS
from streams.spans import READER

ASK_SECONDS: Final = 1.0
"""A source that does not answer so long is left out, and counts as down."""
LOOK_OLD_SECONDS: Final = 10.0

OPENMETRICS: Final = "application/openmetrics-text"

HTTP_METRICS: Final = web.AppKey("http_metrics", HttpMetrics)
LEDGER_METRICS: Final = web.AppKey("ledger_metrics", LedgerMetrics)

T = TypeVar("T")
routes = Routes("metrics")

_STAGES: Final = {
    "pending": "hsi_stage_pending_entries",
    "processing": "hsi_stage_processing_entries",
    "oldest_seconds": "hsi_stage_oldest_age_seconds",
    "handled_per_second": "hsi_stage_handled_per_second",
    "clears_in_seconds": "hsi_stage_clears_in_seconds",
}


@dataclass(frozen=True, slots=True)
class LogLook:
    """What Redis says."""

    backlog: list[GroupBacklog]
    ends: Ends
    traced: dict[Lane, Position] = field(default_factory=dict)
    """How far the role traces has got; empty where none is meant to run."""


@dataclass(frozen=True, eq=False)
class Scrape(Collector):
    """Everything of one moment."""

    services: ApiServices
    log: LogLook | None
    figures: Figures | None
    files: dict[str, int]

    def collect(self) -> Iterator[Metric]:
        """Give every metric but those of this process."""
        yield self._build()
        yield self._up()
        if self.log is not None:
            yield from self._stages(self.log)
        if self.figures is not None:
            yield from self._figures(self.figures)
        ledger = gauge("hsi_ledger_files")
        for state, files in sorted(self.files.items()):
            ledger.add_metric([state], files)
        yield ledger
        yield from gpu_metrics(self.services.gpu)

    def _build(self) -> Metric:
        found = info("hsi_build_info")
        found.add_metric([], {"version": self.services.config.app_version})
        return found

    def _up(self) -> Metric:
        found = gauge("hsi_service_up")
        found.add_metric(["database"], float(self.figures is not None))
        found.add_metric(["redis"], float(self.log is not None))
        checks = known_checks(self.services)
        checks |= checks.pop("ai").details or {}
        for name, check in checks.items():
            if check.status not in ("unknown", "off"):
                found.add_metric([name], float(check.status == "healthy"))
        return found

    def _stages(self, log: LogLook) -> Iterator[Metric]:
        now = datetime.now(UTC)
        stages = [stage_backlog(self.services, group, now) for group in log.backlog]
        for attribute, name in _STAGES.items():
            family = gauge(name)
            for stage in stages:
                if (value := getattr(stage, attribute)) is not None:
                    family.add_metric([stage.stage], value)
            yield family
        yield _gates(stages)
        total = counter("hsi_stage_handled_entries_total")
        for group in log.backlog:
            if group.handled is not None:
                total.add_metric([group.group], group.handled)
        yield total
        traced = gauge("hsi_trace_export_lag_seconds")
        if log.traced:
            traced.add_metric([], lag_seconds(log.traced, log.ends))
        yield traced

    def _figures(self, figures: Figures) -> Iterator[Metric]:
        stages = [] if self.log is None else [group.group for group in self.log.backlog]
        yield from counter_metrics(figures.counters)
        yield from duration_metrics(figures.durations)
        yield from parked_metrics(figures.parked, stages)
        yield from model_metrics(figures.models)
        if self.log is not None:
            yield from lag_metrics(figures.checkpoints, self.log.ends)


def _gates(stages: list[StageBacklog]) -> Metric:
    closed = gauge("hsi_stage_gate_closed")
    for stage in stages:
        if stage.gate is not None:
            closed.add_metric([stage.stage], float(stage.gate == "closed"))
    return closed


@routes.get("/api/metrics", f"text/plain, {OPENMETRICS}")
async def metrics(request: web.Request) -> web.Response:
    """Answer every metric; always 200, since a scrape must see what is down.

    With `Accept: application/openmetrics-text` durations carry the trace ids of examples.
    """
    services = request.app[SERVICES]
    log, figures, files = await asyncio.gather(
        _asked(_look(services)),
        _asked(services.queries.figures()),
        request.app[LEDGER_METRICS].states(services.queries),
    )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Scrape(services, log, figures, files))
    registry.register(request.app[HTTP_METRICS])
    registry.register(_Sockets(services))
    ProcessCollector(registry=registry)
    body, kind = _encoded(registry, request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": kind, "Cache-Control": "no-store"})


@dataclass(frozen=True, eq=False)
class _Sockets(Collector):
    services: ApiServices

    def collect(self) -> Iterator[Metric]:
        yield from socket_metrics(self.services.broadcaster.channels.values())
        uptime = gauge("hsi_api_uptime_seconds")
        uptime.add_metric([], self.services.uptime_seconds)
        yield uptime


def _encoded(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    if OPENMETRICS in accept:
        text = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]  # the library
        return text, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


async def _look(services: ApiServices) -> LogLook:
    await services.log.check_writable()
    now = time.monotonic()
    backlog = services.rates.newest(now - LOOK_OLD_SECONDS)
    if backlog is None:
        backlog = await services.log.backlog()
        services.rates.see(now, backlog)
    ends = await ends_of(services.log, STREAMS)
    traced = await Bookmark(services.log, READER).load() if services.config.traces else {}
    return LogLook(list(backlog), ends, traced)


async def _asked(call: Awaitable[T]) -> T | None:
    """Return what a source answers, None when it does not in time."""
    try:
        async with asyncio.timeout(ASK_SECONDS):
            return await call
    except (TransientError, TimeoutError):
        return None
