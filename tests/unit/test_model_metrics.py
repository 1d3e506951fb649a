"""The models' figures for Prometheus: GPUs as sampled, tokens as spent, no unknowns."""

from datetime import UTC, datetime

import pytest
from prometheus_client.core import Metric

from api.gpu_history import GpuHistory
from api.model_metrics import gpu_metrics, model_metrics
from api.system_feed import gpu_answer
from domain.events import SYSTEM, GpuReading, GpuSampled
from domain.gpu_memory import pressure_of
from projections.metric_queries import ModelFigure

NOW = datetime(2026, 6, 2, 12, tzinfo=UTC)


def sampled(*gpus: GpuReading) -> GpuSampled:
    return GpuSampled(camera_id=SYSTEM, host="here", sampled_at=NOW, source="nvml", gpus=gpus)


def gpu(index: int, used: float | None, total: float | None = 1000) -> GpuReading:
    return GpuReading(index=index, memory_used_mib=used, memory_total_mib=total)


def scraped(*families: Metric) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in families
        for sample in family.samples
    }


def used(model: str, questions: int, newest: int, window: int | None) -> ModelFigure:
    return ModelFigure(
        model=model,
        questions=questions,
        tokens_in=1024 * questions,
        tokens_out=60 * questions,
        tokens_cached=900 * questions,
        total_ms=1500 * questions,
        shortened=1,
        newest_tokens=newest,
        newest_window=window,
    )


def test_tokens_and_context_are_told_by_model() -> None:
    figures = scraped(*model_metrics([used("tiny", 2, 1024, 2048), used("big", 1, 1024, None)]))
    assert figures["hsi_risk_model_questions_total['tiny']"] == 2
    assert figures["hsi_risk_model_tokens_in_total['tiny']"] == 2048
    assert figures["hsi_risk_model_tokens_out_total['tiny']"] == 120
    assert figures["hsi_risk_model_tokens_cached_total['tiny']"] == 1800
    assert figures["hsi_risk_model_seconds_total['tiny']"] == 3
    assert figures["hsi_risk_model_shortened_questions_total['tiny']"] == 1
    assert figures["hsi_risk_model_context_use_ratio['tiny']"] == 0.5
    assert figures["hsi_risk_model_questions_total['big']"] == 1
    assert "hsi_risk_model_context_use_ratio['big']" not in figures


def test_ever_new_model_names_make_no_more_series_and_lose_no_token() -> None:
    rows = [used(f"model {number}", 1, 10, 100) for number in range(1000)]
    figures = scraped(*model_metrics(rows))
    asked = {name: v for name, v in figures.items() if name.startswith("hsi_risk_model_questions")}
    assert len(asked) == 51
    assert sum(asked.values()) == 1000
    assert asked["hsi_risk_model_questions_total['other']"] == 950


def test_every_gpu_has_its_gauges_and_what_is_not_told_is_left_out() -> None:
    history = GpuHistory(minutes=1, interval_seconds=5)
    told = GpuReading(
        index=0,
        utilization_percent=40,
        memory_used_mib=860,
        memory_total_mib=1000,
        temperature_celsius=60,
        power_watts=140.5,
    )
    history.add(sampled(told, GpuReading(index=1)))
    figures = scraped(*gpu_metrics(history))
    assert figures["hsi_gpu_memory_used_bytes['0', 'here']"] == 860 * 1024 * 1024
    assert figures["hsi_gpu_utilization_percent['0', 'here']"] == 40
    assert figures["hsi_gpu_power_watts['0', 'here']"] == 140.5
    assert figures["hsi_gpu_memory_pressure['here']"] == 1
    assert not [name for name in figures if "'1'" in name]


@pytest.mark.parametrize(
    ("gpus", "pressure"),
    [
        ((gpu(0, 849),), "normal"),
        ((gpu(0, 850),), "warning"),
        ((gpu(0, 949),), "warning"),
        ((gpu(0, 950),), "critical"),
        ((gpu(0, 10), gpu(1, 960), gpu(2, 900)), "critical"),
        ((gpu(0, None), gpu(1, 100)), "normal"),
        ((gpu(0, None), gpu(1, 100, None), gpu(2, 0, 0)), None),
        ((), None),
    ],
)
def test_the_fullest_gpu_says_how_much_memory_is_left(
    gpus: tuple[GpuReading, ...], pressure: str | None
) -> None:
    assert pressure_of(gpus) == pressure
    history = GpuHistory(minutes=1, interval_seconds=5)
    history.add(sampled(*gpus))
    assert gpu_answer(history, 3.5).memory_pressure == pressure
    assert gpu_answer(history, 3.5).inference_fps == 3.5
