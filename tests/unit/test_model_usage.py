"""The models' figures for Prometheus: GPUs as sampled, tokens as spent, no unknowns."""

from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.risk_scenes import envelope

from api.gpu_history import GpuHistory
from api.model_metrics import ModelMetrics
from api.model_usage import ModelUsage
from api.system_feed import gpu_answer
from domain.events import SYSTEM, AssessmentRefined, GpuReading, GpuSampled
from domain.gpu_memory import pressure_of

NOW = datetime(2026, 6, 2, 12, tzinfo=UTC)


def refined(model: str = "tiny", window: int | None = 4096, *left_out: str) -> AssessmentRefined:
    return AssessmentRefined(
        camera_id="front",
        event_id="evt_1",
        batch_id="batch_1",
        ended_at=NOW,
        stage="final",
        rule_score=50,
        model_score=50,
        score=50,
        level="medium",
        summary="s",
        reasoning="r",
        model=model,
        prompt_version="risk-v1",
        prompt_sha256="0",
        raw_text="{}",
        tokens_in=1024,
        tokens_out=60,
        seconds=1.5,
        tokens_cached=900,
        context_window=window,
        left_out=left_out,
    )


def sampled(*gpus: GpuReading) -> GpuSampled:
    return GpuSampled(camera_id=SYSTEM, host="here", sampled_at=NOW, source="nvml", gpus=gpus)


def gpu(index: int, used: float | None, total: float | None = 1000) -> GpuReading:
    return GpuReading(index=index, memory_used_mib=used, memory_total_mib=total)


def scraped(history: GpuHistory, usage: ModelUsage) -> dict[str, float]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ModelMetrics(history, usage))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in families
        for sample in family.samples
    }


def test_tokens_and_context_are_counted_by_model() -> None:
    usage = ModelUsage()
    for event in (refined(), refined("tiny", 2048, "example street"), refined("big", None)):
        usage.hear(envelope(event))
    figures = scraped(GpuHistory(minutes=1, interval_seconds=5), usage)
    assert figures["hsi_risk_model_questions_total['tiny']"] == 2
    assert figures["hsi_risk_model_tokens_in_total['tiny']"] == 2048
    assert figures["hsi_risk_model_tokens_out_total['tiny']"] == 120
    assert figures["hsi_risk_model_tokens_cached_total['tiny']"] == 1800
    assert figures["hsi_risk_model_seconds_total['tiny']"] == 3
    assert figures["hsi_risk_model_shortened_questions_total['tiny']"] == 1
    assert figures["hsi_risk_model_context_use_ratio['tiny']"] == 0.5
    assert figures["hsi_risk_model_questions_total['big']"] == 1
    assert "hsi_risk_model_context_use_ratio['big']" not in figures


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
    figures = scraped(history, ModelUsage())
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
