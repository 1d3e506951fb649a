"""`GET /api/metrics`: how the installation is, in Prometheus' text format; unknown is left out."""

from collections.abc import Iterator

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from api.health import check_health
from api.model_metrics import ModelMetrics
from api.routing import Routes
from api.schemas import HealthAnswer, StageBacklog
from api.services import SERVICES, ApiServices
from domain.errors import TransientError
from projections.rows import DeadLetterFilter

routes = Routes("metrics")

_STAGE_GAUGES = {
    "pending": ("hsi_stage_pending_entries", "Entries not yet handed to a worker."),
    "processing": ("hsi_stage_processing_entries", "Entries handed out and not finished."),
    "oldest_seconds": ("hsi_stage_oldest_age_seconds", "Age of the oldest unfinished entry."),
    "handled_per_second": ("hsi_stage_handled_per_second", "Entries finished over a minute."),
    "clears_in_seconds": ("hsi_stage_clears_in_seconds", "Seconds until nothing is left."),
}


class _Snapshot(Collector):
    """One answer of the health check as metrics."""

    def __init__(
        self,
        health: HealthAnswer,
        handled: dict[str, int | None],
        parked: dict[str, int] | None,
    ) -> None:
        self._health = health
        self._handled = handled
        self._parked = parked

    def collect(self) -> Iterator[Metric]:
        health = self._health
        info = InfoMetricFamily("hsi_build", "The version that runs.")
        info.add_metric([], {"version": health.version})
        yield info
        yield from self._services()
        yield from _stages(health.stages)
        total = CounterMetricFamily(
            "hsi_stage_handled_entries", "Entries finished since the log began.", labels=["stage"]
        )
        for stage, count in self._handled.items():
            if count is not None:
                total.add_metric([stage], count)
        yield total
        parked = GaugeMetricFamily(
            "hsi_parked_entries", "Parked entries that nobody has decided about.", labels=["stage"]
        )
        for stage, count in (self._parked or {}).items():
            parked.add_metric([stage], count)
        yield parked
        lag = GaugeMetricFamily(
            "hsi_projection_lag_seconds", "How far a read model is behind.", labels=["projection"]
        )
        for each in health.projections:
            lag.add_metric([each.projection], each.lag_seconds)
        yield lag

    def _services(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            "hsi_service_up", "1 when a service answers, 0 when it does not.", labels=["service"]
        )
        checks = dict(self._health.services)
        checks |= checks.pop("ai").details or {}
        for name, check in checks.items():
            if check.status not in ("unknown", "off"):
                up.add_metric([name], float(check.status == "healthy"))
        yield up


def _stages(stages: list[StageBacklog]) -> Iterator[Metric]:
    for field, (name, text) in _STAGE_GAUGES.items():
        gauge = GaugeMetricFamily(name, text, labels=["stage"])
        for stage in stages:
            if (value := getattr(stage, field)) is not None:
                gauge.add_metric([stage.stage], value)
        yield gauge
    closed = GaugeMetricFamily(
        "hsi_stage_gate_closed",
        "1 while a stage pauses since its model is away.",
        labels=["stage"],
    )
    for stage in stages:
        if stage.gate is not None:
            closed.add_metric([stage.stage], float(stage.gate == "closed"))
    yield closed


@routes.get("/api/metrics", "text/plain")
async def metrics(request: web.Request) -> web.Response:
    """Answer the health check's figures; always 200, since a scrape must see what is down."""
    services = request.app[SERVICES]
    health = await check_health(services)
    handled = {stage.stage: services.rates.handled(stage.stage) for stage in health.stages}
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(health, handled, await _parked(services, health)))
    registry.register(ModelMetrics(services.gpu, services.usage))
    return web.Response(
        body=generate_latest(registry),
        headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"},
    )


async def _parked(services: ApiServices, health: HealthAnswer) -> dict[str, int] | None:
    """Return the parked entries of each stage, None while PostgreSQL cannot be asked."""
    try:
        groups = await services.queries.dead_letter_groups(DeadLetterFilter())
    except TransientError:
        return None
    counts = {stage.stage: 0 for stage in health.stages}
    for group in groups:
        counts[group.group_name] = counts.get(group.group_name, 0) + group.entries
    return counts
