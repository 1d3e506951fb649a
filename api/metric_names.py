"""Every metric that `/api/metrics` serves: one table, which the page docs/telemetry.md repeats."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)

Kind = Literal["counter", "gauge", "histogram", "info"]

UNITS: Final = ("seconds", "bytes", "celsius", "watts", "percent", "ratio")
"""What the last word of a name, before `_total`, can say of its unit; else it counts something."""


@dataclass(frozen=True, slots=True)
class MetricName:
    """One metric: its name as it is served, its labels, and what it says."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    about: str
    own: bool = False
    """True for what each API process says of itself; all others say the same in every process."""

    @property
    def family(self) -> str:
        """Return the name without what its kind adds to it."""
        return self.name.removesuffix("_total" if self.kind == "counter" else "_info")

    @property
    def unit(self) -> str:
        """Return the unit, empty for what is counted."""
        last = self.family.rpartition("_")[2]
        return last if last in UNITS else ""


def _all(*metrics: MetricName) -> Mapping[str, MetricName]:
    return {metric.name: metric for metric in metrics}


M = MetricName
_STAGE = ("stage",)
_CHANNEL = ("channel",)
_MODEL = ("model",)
_GPU = ("host", "gpu")

METRICS: Final = _all(
    M("hsi_build_info", "info", ("version",), "The version that runs."),
    M("hsi_service_up", "gauge", ("service",), "1 when a service answers, 0 when it does not."),
    # --- stages
    M("hsi_stage_pending_entries", "gauge", _STAGE, "Entries not yet handed to a worker."),
    M("hsi_stage_processing_entries", "gauge", _STAGE, "Entries handed out and not finished."),
    M("hsi_stage_oldest_age_seconds", "gauge", _STAGE, "Age of the oldest unfinished entry."),
    M("hsi_stage_handled_per_second", "gauge", _STAGE, "Entries finished over a minute."),
    M("hsi_stage_clears_in_seconds", "gauge", _STAGE, "Seconds until nothing is left."),
    M(
        "hsi_stage_gate_closed",
        "gauge",
        _STAGE,
        "1 while a stage pauses since its model is away.",
    ),
    M(
        "hsi_stage_handled_entries_total",
        "counter",
        _STAGE,
        "Entries finished since the log began.",
    ),
    M(
        "hsi_stage_duration_seconds",
        "histogram",
        _STAGE,
        "From the entry that a step was given to the one that it appended, waiting included;"
        " watch: since the camera took the picture; batch: since it was opened.",
    ),
    M("hsi_log_entries_total", "counter", ("type",), "Entries of the log by event type."),
    M("hsi_batches_closed_total", "counter", ("reason",), "Batches closed, by why."),
    M("hsi_events_assessed_total", "counter", ("level",), "Whole batches assessed, by level."),
    M("hsi_scene_changes_total", "counter", ("change_type",), "Views that changed, by how."),
    # --- parked
    M("hsi_parked_entries", "gauge", _STAGE, "Parked entries that nobody has decided about."),
    M(
        "hsi_parked_cause_entries",
        "gauge",
        ("stage", "cause"),
        "Parked entries that nobody has decided about, by the kind of error.",
    ),
    M("hsi_entries_parked_total", "counter", _STAGE, "Entries parked since the log began."),
    M("hsi_entries_redriven_total", "counter", _STAGE, "Parked entries handed back."),
    M("hsi_entries_discarded_total", "counter", _STAGE, "Parked entries given up by a person."),
    # --- tables
    M("hsi_ledger_files", "gauge", ("state",), "Files by where they stand in the ledger."),
    M("hsi_projection_lag_seconds", "gauge", ("projection",), "How far a read model is behind."),
    M("hsi_trace_export_lag_seconds", "gauge", (), "How far the role traces is behind the log."),
    # --- models
    M(
        "hsi_risk_model_questions_total",
        "counter",
        _MODEL,
        "Questions the language model answered.",
    ),
    M(
        "hsi_risk_model_tokens_in_total",
        "counter",
        _MODEL,
        "Tokens of questions, cached ones included.",
    ),
    M(
        "hsi_risk_model_tokens_cached_total",
        "counter",
        _MODEL,
        "Tokens of questions that it still had.",
    ),
    M("hsi_risk_model_tokens_out_total", "counter", _MODEL, "Tokens of answers."),
    M("hsi_risk_model_seconds_total", "counter", _MODEL, "Seconds spent on questions."),
    M(
        "hsi_risk_model_shortened_questions_total",
        "counter",
        _MODEL,
        "Questions cut to fit the context.",
    ),
    M(
        "hsi_risk_model_context_use_ratio",
        "gauge",
        _MODEL,
        "Share of the language model's context that the newest question took.",
    ),
    M("hsi_gpu_utilization_percent", "gauge", _GPU, "How busy a GPU is."),
    M("hsi_gpu_memory_used_bytes", "gauge", _GPU, "Memory of a GPU in use."),
    M("hsi_gpu_memory_total_bytes", "gauge", _GPU, "Memory of a GPU."),
    M("hsi_gpu_temperature_celsius", "gauge", _GPU, "Temperature of a GPU."),
    M("hsi_gpu_power_watts", "gauge", _GPU, "Power a GPU draws."),
    M(
        "hsi_gpu_memory_pressure",
        "gauge",
        ("host",),
        "Memory pressure of a host's fullest GPU: 0 normal, 1 warning, 2 critical.",
    ),
    # --- this process
    M(
        "hsi_http_request_duration_seconds",
        "histogram",
        ("method", "route", "status"),
        "Requests by route template and class of status; WebSockets are not requests.",
        own=True,
    ),
    M("hsi_websocket_clients", "gauge", _CHANNEL, "Clients connected now.", own=True),
    M("hsi_websocket_connections_total", "counter", _CHANNEL, "Clients that came.", own=True),
    M(
        "hsi_websocket_refused_clients_total",
        "counter",
        _CHANNEL,
        "Clients that came while there were as many as there may be.",
        own=True,
    ),
    M("hsi_websocket_messages_total", "counter", _CHANNEL, "Messages made.", own=True),
    M(
        "hsi_websocket_delivered_messages_total",
        "counter",
        _CHANNEL,
        "Messages written to clients as they came.",
        own=True,
    ),
    M(
        "hsi_websocket_replayed_messages_total",
        "counter",
        _CHANNEL,
        "Messages read from the log for clients that resumed or fell behind.",
        own=True,
    ),
    M(
        "hsi_websocket_fell_behind_total",
        "counter",
        _CHANNEL,
        "Times that a client's outbox was full, so that it went on from the log.",
        own=True,
    ),
    M(
        "hsi_websocket_cut_clients_total",
        "counter",
        _CHANNEL,
        "Clients cut since they stopped reading.",
        own=True,
    ),
    M("hsi_api_uptime_seconds", "gauge", (), "How long this process has been serving.", own=True),
    M("process_virtual_memory_bytes", "gauge", (), "Virtual memory size in bytes.", own=True),
    M("process_resident_memory_bytes", "gauge", (), "Resident memory size in bytes.", own=True),
    M(
        "process_start_time_seconds",
        "gauge",
        (),
        "Start time of the process since unix epoch in seconds.",
        own=True,
    ),
    M(
        "process_cpu_seconds_total",
        "counter",
        (),
        "Total user and system CPU time spent in seconds.",
        own=True,
    ),
    M("process_open_fds", "gauge", (), "Number of open file descriptors.", own=True),
    M("process_max_fds", "gauge", (), "Maximum number of open file descriptors.", own=True),
)


def counter(name: str) -> CounterMetricFamily:
    """Return an empty counter of the table."""
    found = METRICS[name]
    return CounterMetricFamily(found.family, found.about, labels=found.labels, unit=found.unit)


def gauge(name: str) -> GaugeMetricFamily:
    """Return an empty gauge of the table."""
    found = METRICS[name]
    return GaugeMetricFamily(found.family, found.about, labels=found.labels, unit=found.unit)


def histogram(name: str) -> HistogramMetricFamily:
    """Return an empty histogram of the table."""
    found = METRICS[name]
    return HistogramMetricFamily(found.family, found.about, labels=found.labels, unit=found.unit)


def info(name: str) -> InfoMetricFamily:
    """Return an empty info of the table."""
    return InfoMetricFamily(METRICS[name].family, METRICS[name].about)


def table() -> str:
    """Return the table as it stands in docs/telemetry.md."""
    lines = ["| name | kind | unit | labels | what it says |", "|---|---|---|---|---|"]
    for metric in METRICS.values():
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
        own = " (each API process says its own)" if metric.own else ""
        about = metric.about.rstrip(".")
        lines.append(
            f"| `{metric.name}` | {metric.kind} | {metric.unit or '–'} | {labels} | {about}{own} |"
        )
    return "\n".join(lines) + "\n"
