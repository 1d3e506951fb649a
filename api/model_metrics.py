"""The models' part of `/api/metrics`: GPUs as they were sampled, and the language model's use."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.gpu_history import GpuHistory
from api.model_usage import ModelUsage
from domain.gpu_memory import pressure_of

_MIB = 1024 * 1024
_GPU = {
    "utilization_percent": ("hsi_gpu_utilization_percent", "How busy a GPU is.", 1),
    "memory_used_mib": ("hsi_gpu_memory_used_bytes", "Memory of a GPU in use.", _MIB),
    "memory_total_mib": ("hsi_gpu_memory_total_bytes", "Memory of a GPU.", _MIB),
    "temperature_celsius": ("hsi_gpu_temperature_celsius", "Temperature of a GPU.", 1),
    "power_watts": ("hsi_gpu_power_watts", "Power a GPU draws.", 1),
}
_PRESSURES = {"normal": 0, "warning": 1, "critical": 2}
_USAGE = {
    "questions": ("hsi_risk_model_questions", "Questions the language model answered."),
    "tokens_in": ("hsi_risk_model_tokens_in", "Tokens of questions, cached ones included."),
    "tokens_cached": ("hsi_risk_model_tokens_cached", "Tokens of questions that it still had."),
    "tokens_out": ("hsi_risk_model_tokens_out", "Tokens of answers."),
    "seconds": ("hsi_risk_model_seconds", "Seconds spent on questions."),
    "shortened": ("hsi_risk_model_shortened_questions", "Questions cut to fit the context."),
}


class ModelMetrics(Collector):
    """GPUs and the language model; what was not told is left out."""

    def __init__(self, gpu: GpuHistory, usage: ModelUsage) -> None:
        self._gpu = gpu
        self._usage = usage

    def collect(self) -> Iterator[Metric]:
        yield from self._gpus()
        for field, (name, about) in _USAGE.items():
            counter = CounterMetricFamily(name, about, labels=["model"])
            for model, usage in self._usage.models.items():
                counter.add_metric([model], getattr(usage, field))
            yield counter
        ratio = GaugeMetricFamily(
            "hsi_risk_model_context_use_ratio",
            "Share of the language model's context that the newest question took.",
            labels=["model"],
        )
        for model, usage in self._usage.models.items():
            if usage.context_use is not None:
                ratio.add_metric([model], usage.context_use)
        yield ratio

    def _gpus(self) -> Iterator[Metric]:
        samples = self._gpu.newest()
        for field, (name, about, scale) in _GPU.items():
            gauge = GaugeMetricFamily(name, about, labels=["host", "gpu"])
            for sample in samples:
                for gpu in sample.gpus:
                    if (value := getattr(gpu, field)) is not None:
                        gauge.add_metric([sample.host, str(gpu.index)], value * scale)
            yield gauge
        pressure = GaugeMetricFamily(
            "hsi_gpu_memory_pressure",
            "Memory pressure of a host's fullest GPU: 0 normal, 1 warning, 2 critical.",
            labels=["host"],
        )
        for sample in samples:
            if (state := pressure_of(sample.gpus)) is not None:
                pressure.add_metric([sample.host], _PRESSURES[state])
        yield pressure
