"""What `hsi models doctor` makes of a machine: the limits of the requirements, GPU by GPU."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hsi.models.bench_chart import bar, svg
from hsi.models.findings import Finding, of_machine, of_plan
from inference.machine import Card, Gpus, Machine, look, read_gpus
from inference.repository import PlanRecord, VersionManifest

CARD = "NVIDIA RTX A4000"
GOOD = Machine(
    cores=8,
    memory_gb=16,
    disk=Path("/var/cache/hsi/models"),
    disk_gb=100,
    free_gb=20,
    gpus=Gpus("535.183.01", "12.2", (Card(CARD, 12.0),)),
    container_toolkit="1.16.2",
    cdi_devices=("nvidia.com/gpu=0",),
    tensorrt="10.13.0",
)
PLAN = PlanRecord(
    onnx_sha256="a" * 64,
    plan_sha256="b" * 64,
    weights="r18vd",
    tensorrt="10.13.0",
    gpu=CARD,
    compute_capability="8.6",
    driver="535.183.01",
    max_batch=16,
    commands=("trtexec",),
    built_at=datetime(2026, 11, 1, tzinfo=UTC),
)


def statuses(machine: Machine, needed: str = "") -> dict[str, str]:
    return {f.about: f.status for f in of_machine(machine, gpu_needed=needed)}


def test_a_recommended_machine_passes_every_line() -> None:
    assert set(statuses(GOOD).values()) == {"pass"}
    assert len(statuses(GOOD)) == 10


@pytest.mark.parametrize(
    ("about", "warns", "fails"),
    [
        ("processor", {"cores": 4}, {"cores": 3}),
        ("memory", {"memory_gb": 8.0}, {"memory_gb": 7.9}),
        ("disk", {"disk_gb": 50.0}, {"disk_gb": 49.0}),
        ("free space", {"free_gb": 5.0}, {"free_gb": 4.0}),
        (
            "GPU",
            {"gpus": Gpus("550.1", "12.4", (Card(CARD, 8.0),))},
            {"gpus": Gpus("550.1", "12.4", (Card(CARD, 6.0),))},
        ),
        (
            "CUDA",
            {"gpus": Gpus("550.1", "11.8", (Card(CARD, 12.0),))},
            {"gpus": Gpus("550.1", "11.7", (Card(CARD, 12.0),))},
        ),
    ],
)
def test_between_needed_and_recommended_is_a_warning_below_a_failure(
    about: str, warns: dict[str, Any], fails: dict[str, Any]
) -> None:
    assert statuses(replace(GOOD, **warns))[about] == "warn"
    assert statuses(replace(GOOD, **fails))[about] == "fail"


def test_an_old_driver_fails() -> None:
    old = replace(GOOD, gpus=Gpus("525.60", "12.0", (Card(CARD, 12.0),)))
    assert statuses(old)["GPU driver"] == "fail"


def test_what_only_containers_and_builders_need_is_a_warning() -> None:
    bare = statuses(replace(GOOD, container_toolkit="", cdi_devices=(), tensorrt=""))
    assert (bare["container toolkit"], bare["TensorRT"]) == ("warn", "warn")
    assert "CDI devices" not in bare


def test_no_gpu_is_a_fact_unless_something_needs_one() -> None:
    without = replace(GOOD, gpus=None)
    assert statuses(without)["GPU"] == "fact"
    assert statuses(without, "rtdetrv2 version 2 is for a GPU")["GPU"] == "fail"
    assert "TensorRT" not in statuses(without)


def plan(record: PlanRecord | None, machine: Machine) -> Finding:
    manifest = VersionManifest(
        model="rtdetrv2",
        variant="tensorrt",
        version=2,
        file="model.plan",
        sha256="b" * 64,
        size=1,
        source="model.plan",
        weights="r18vd",
        installed_at=datetime(2026, 11, 1, tzinfo=UTC),
        plan=record,
    )
    return of_plan(manifest, machine)


def test_a_plan_belongs_to_its_gpu_and_its_tensorrt() -> None:
    other = replace(GOOD, gpus=Gpus("550.1", "12.4", (Card("NVIDIA L4", 24.0),)))
    wrong = plan(PLAN, other)
    assert wrong.status == "fail"
    assert f"built for {CARD} with TensorRT 10.13.0, here is NVIDIA L4" in wrong.told
    assert plan(PLAN, replace(GOOD, tensorrt="10.9.0")).status == "warn"
    assert plan(PLAN, replace(GOOD, gpus=None)).status == "fact"
    assert plan(None, GOOD).status == "warn"
    assert "never compared" in plan(PLAN, GOOD).told


def nvml(*, fails: str = "", cards: int = 2) -> Any:
    class NVMLError(Exception):
        pass

    def answer(name: str, value: Any) -> Any:
        def call(*_: Any) -> Any:
            if name == fails:
                raise NVMLError(name)
            return value

        return call

    calls = {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlSystemGetCudaDriverVersion_v2": 12020,
        "nvmlSystemGetDriverVersion": b"535.183.01",
        "nvmlDeviceGetCount": cards,
        "nvmlDeviceGetHandleByIndex": 0,
        "nvmlDeviceGetName": CARD,
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=12_000_000_000),
    }
    answers = {name: answer(name, value) for name, value in calls.items()}
    return SimpleNamespace(NVMLError=NVMLError, **answers)


def test_the_driver_is_asked_for_cards_and_versions() -> None:
    assert read_gpus(nvml()) == Gpus("535.183.01", "12.2", (Card(CARD, 12.0),) * 2)
    for broken in (nvml(fails="nvmlInit"), nvml(fails="nvmlDeviceGetName"), nvml(cards=0)):
        assert read_gpus(broken) is None


def test_programs_are_asked_for_their_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = {
        "trtexec": 'echo "&&&& RUNNING TensorRT.trtexec [TensorRT v101300] # trtexec --help"',
        "nvidia-ctk": 'test "$1" = cdi && echo "nvidia.com/gpu=0 nvidia.com/gpu=all"'
        ' || echo "NVIDIA Container Toolkit CLI version 1.16.2"',
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = look(tmp_path / "not" / "there", nvml())
    assert found.tensorrt == "10.13.0"
    assert found.container_toolkit == "1.16.2"
    assert found.cdi_devices == ("nvidia.com/gpu=0", "nvidia.com/gpu=all")
    assert found.disk == tmp_path
    assert found.cores >= 1
    assert found.memory_gb > 1


def test_charts_are_exact_and_safe() -> None:
    assert bar(1.0, 4) == "████"
    assert bar(0.5625, 4) == "██▎"
    assert bar(0.0, 4) == ""
    point = SimpleNamespace(batch=4, concurrency=2, pictures_per_s=1234.5, p50_ms=6.5, p99_ms=9.0)
    chart = svg("<rtdetrv2> & co", [point])
    assert "&lt;rtdetrv2&gt; &amp; co" in chart
    assert "1,234.5/s · 6.5 / 9.0 ms" in chart
    assert chart.startswith("<svg")
    assert chart.rstrip().endswith("</svg>")
