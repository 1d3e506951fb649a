"""The models' part of `/api/metrics`: GPUs as they were sampled, and the language model's use."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric

from api.gpu_history import GpuHistory
from api.metric_labels import bounded
from api.metric_names import counter, gauge
from domain.gpu_memory import pressure_of
from projections.metric_queries import ModelFigure

_MIB = 1024 * 1024
_GPU = {
    "utilization_percent": ("hsi_gpu_utilization_percent", 1),
    "memory_used_mib": ("hsi_gpu_memory_used_bytes", _MIB),
    "memory_total_mib": ("hsi_gpu_memory_total_bytes", _MIB),
    "temperature_celsius": ("hsi_gpu_temperature_celsius", 1),
    "power_watts": ("hsi_gpu_power_watts", 1),
}
_PRESSURES = {"normal": 0, "warning": 1, "critical": 2}
_USAGE = {
    "questions": "hsi_risk_model_questions_total",
    "tokens_in": "hsi_risk_model_tokens_in_total",
    "tokens_cached": "hsi_risk_model_tokens_cached_total",
    "tokens_out": "hsi_risk_model_tokens_out_total",
    "shortened": "hsi_risk_model_shortened_questions_total",
}


def gpu_metrics(history: GpuHistory) -> Iterator[Metric]:
    """Give the newest readings of every GPU; what the driver did not tell is left out."""
    hosts = bounded(history.newest(), lambda sample: sample.host)
    # A gauge cannot be added up: hosts beyond the bound are not shown.
    samples = [found[0] for _, found in hosts if len(found) == 1]
    for field, (name, scale) in _GPU.items():
        family = gauge(name)
        for sample in samples:
            for gpu in sample.gpus:
                if (value := getattr(gpu, field)) is not None:
                    family.add_metric([sample.host, str(gpu.index)], value * scale)
        yield family
    pressure = gauge("hsi_gpu_memory_pressure")
    for sample in samples:
        if (state := pressure_of(sample.gpus)) is not None:
            pressure.add_metric([sample.host], _PRESSURES[state])
    yield pressure


def model_metrics(models: Sequence[ModelFigure]) -> Iterator[Metric]:
    """Give what each language model was used for since the log began."""
    groups = bounded(models, lambda model: model.model)
    for field, name in _USAGE.items():
        family = counter(name)
        for model, rows in groups:
            family.add_metric([model], sum(getattr(row, field) for row in rows))
        yield family
    seconds = counter("hsi_risk_model_seconds_total")
    ratio = gauge("hsi_risk_model_context_use_ratio")
    for model, rows in groups:
        seconds.add_metric([model], sum(row.total_ms for row in rows) / 1000)
        if len(rows) == 1 and rows[0].newest_window:
            ratio.add_metric([model], rows[0].newest_tokens / rows[0].newest_window)
    yield seconds
    yield ratio
