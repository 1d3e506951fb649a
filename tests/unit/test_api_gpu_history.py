"""The memory of GPU readings: bounded by minutes and by interval, oldest out first."""

from datetime import UTC, datetime, timedelta

from api.gpu_history import GpuHistory
from api.system_feed import gpu_answer
from domain.events import SYSTEM, GpuReading, GpuSampled
from projections.rows import GpuSampleRow, GpuSourceRow

BEGIN = datetime(2025, 12, 30, 12, tzinfo=UTC)


def sample(second: float, *, host: str = "here", gpus: int = 1) -> GpuSampled:
    return GpuSampled(
        camera_id=SYSTEM,
        host=host,
        sampled_at=BEGIN + timedelta(seconds=second),
        source="nvml" if gpus else "none",
        gpus=tuple(GpuReading(index=n, name=f"GPU {n}", power_watts=second) for n in range(gpus)),
    )


def test_never_more_than_the_minutes_hold() -> None:
    history = GpuHistory(minutes=2, interval_seconds=5)
    for number in range(100):
        history.add(sample(5 * number))
    rows = history.rows(since=None, limit=5000)
    assert len(rows) == 24
    assert rows[-1].power_watts == 495
    # A slower beat than promised: age alone bounds it.
    history.add(sample(10_000))
    assert len(history.rows(since=None, limit=5000)) == 1


def test_since_and_limit_in_ascending_time() -> None:
    history = GpuHistory(minutes=60, interval_seconds=5)
    for number in range(10):
        history.add(sample(5 * number, gpus=2))
    rows = history.rows(since=BEGIN + timedelta(seconds=30), limit=3)
    assert [(row.power_watts, row.gpu_index) for row in rows] == [(40, 1), (45, 0), (45, 1)]


def test_no_gpu_is_none_and_nothing_else() -> None:
    history = GpuHistory(minutes=60, interval_seconds=5)
    assert gpu_answer(history, None).recorded_at is None
    history.add(sample(0, gpus=0))
    told = gpu_answer(history, None)
    assert (told.source, told.gpus, told.recorded_at) == ("none", [], BEGIN)
    assert (told.gpu_name, told.utilization, told.memory_used, told.power_usage) == (None,) * 4


def test_primed_from_the_read_model() -> None:
    history = GpuHistory(minutes=60, interval_seconds=5)
    row = GpuSampleRow(
        host="here",
        gpu_index=0,
        sampled_at=BEGIN,
        source="nvml",
        name="GPU 0",
        utilization_percent=None,
        memory_used_mib=None,
        memory_total_mib=None,
        temperature_celsius=None,
        power_watts=7.0,
    )
    bare = GpuSourceRow(host="bare", source="none", sampled_at=BEGIN)
    history.prime([row], [bare, GpuSourceRow(host="here", source="nvml", sampled_at=BEGIN)])
    assert [(each.host, each.source) for each in history.newest()] == [
        ("bare", "none"),
        ("here", "nvml"),
    ]
    told = gpu_answer(history, None)
    assert (told.source, told.gpu_name, told.power_usage) == ("nvml", "GPU 0", 7.0)
