"""The GpuProbe port: the same promises by a fake NVML, and by whatever this host really has."""

# ruff: noqa: N802 - the fake has NVML's own names

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from support.nvml import GIB, Card, Library, nvml_library

from domain.events import GpuReading
from inference.gpu import open_gpu_probe
from inference.ports import GpuProbe


class FakeNvmlError(Exception):
    """What the fake driver raises."""


@dataclass
class FakeNvml:
    """NVML with `gpus` devices; calls named in `refused` are not supported by the driver."""

    gpus: int = 1
    refused: frozenset[str] = frozenset()
    installed: bool = True
    alive: bool = True
    calls: list[str] = field(default_factory=list)
    NVMLError: type[Exception] = FakeNvmlError
    NVML_TEMPERATURE_GPU: int = 0

    def _asked(self, name: str) -> None:
        self.calls.append(name)
        if name in self.refused or not self.alive:
            raise FakeNvmlError(name)

    def nvmlInit(self) -> None:
        if not self.installed:
            raise FakeNvmlError("library not found")
        self._asked("init")

    def nvmlShutdown(self) -> None:
        self._asked("shutdown")

    def nvmlDeviceGetCount(self) -> int:
        self._asked("count")
        return self.gpus

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        self._asked("handle")
        return index

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:
        self._asked("name")
        return b"Old Card" if handle else "RTX"

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        self._asked("utilization")
        return SimpleNamespace(gpu=37)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        self._asked("memory")
        return SimpleNamespace(used=3 * 1024**3, total=12 * 1024**3)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        self._asked("temperature")
        return 61

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        self._asked("power")
        return 142_500


def on_library(library: Library | None) -> GpuProbe:
    """Open the probe on the real pynvml over a stand-in of the driver's library."""
    with nvml_library(library):
        return open_gpu_probe()


HOSTS: dict[str, Callable[[], GpuProbe]] = {
    "fake with two GPUs": lambda: open_gpu_probe(FakeNvml(gpus=2)),
    "fake without a library": lambda: open_gpu_probe(FakeNvml(installed=False)),
    "fake without a GPU": lambda: open_gpu_probe(FakeNvml(gpus=0)),
    "a library with four GPUs": lambda: on_library(Library([Card() for _ in range(4)])),
    "no library to load": lambda: on_library(None),
    "this host": open_gpu_probe,
}


@pytest.mark.parametrize("host", HOSTS)
def test_promises_of_the_port(host: str) -> None:
    probe = HOSTS[host]()
    try:
        readings = probe.read()
        assert probe.source == ("nvml" if readings else "none")
        assert [reading.index for reading in readings] == list(range(len(readings)))
        for reading in readings:
            assert reading.utilization_percent is None or 0 <= reading.utilization_percent <= 100
            if reading.memory_used_mib is not None and reading.memory_total_mib is not None:
                assert 0 <= reading.memory_used_mib <= reading.memory_total_mib
    finally:
        probe.close()
    probe.close()
    assert probe.read() == ()
    assert probe.source == "none"


def test_units_and_names() -> None:
    probe = open_gpu_probe(FakeNvml(gpus=2))
    first, second = probe.read()
    assert first == GpuReading(
        index=0,
        name="RTX",
        utilization_percent=37.0,
        memory_used_mib=3072.0,
        memory_total_mib=12288.0,
        temperature_celsius=61.0,
        power_watts=142.5,
    )
    assert second.name == "Old Card"


def test_what_the_driver_does_not_tell_is_none() -> None:
    everything = frozenset({"name", "utilization", "memory", "temperature", "power"})
    probe = open_gpu_probe(FakeNvml(refused=everything))
    assert probe.source == "nvml"
    assert probe.read() == (GpuReading(index=0),)


def test_a_driver_that_goes_away_leaves_no_readings() -> None:
    nvml = FakeNvml()
    probe = open_gpu_probe(nvml)
    assert len(probe.read()) == 1
    nvml.alive = False
    assert probe.read() == ()
    assert probe.source == "none"


def test_a_host_without_a_gpu_releases_the_library() -> None:
    nvml = FakeNvml(gpus=0)
    assert open_gpu_probe(nvml).source == "none"
    assert nvml.calls[-1] == "shutdown"


def test_every_gpu_is_read_through_the_drivers_own_types() -> None:
    odd = Card(
        name=b"NVIDIA H100 80GB HBM3",
        used=76 * GIB,
        total=80 * GIB,
        busy=None,  # as under MIG
        celsius=None,
        milliwatts=None,
    )
    library = Library([Card(), odd, Card(lost=True), Card(name=b"Quadro \xb5", busy=100)])
    with nvml_library(library):
        probe = open_gpu_probe()
        readings = probe.read()
        probe.close()
    assert [reading.index for reading in readings] == [0, 1, 2, 3]
    assert readings[0] == GpuReading(
        index=0,
        name="NVIDIA RTX A4000",
        utilization_percent=37.0,
        memory_used_mib=3072.0,
        memory_total_mib=12288.0,
        temperature_celsius=61.0,
        power_watts=142.5,
    )
    assert readings[1] == GpuReading(
        index=1,
        name="NVIDIA H100 80GB HBM3",
        memory_used_mib=76 * 1024.0,
        memory_total_mib=80 * 1024.0,
    )
    # One that fell off the bus tells nothing, and takes none of the others with it.
    assert readings[2] == GpuReading(index=2)
    assert (readings[3].name, readings[3].utilization_percent) == (None, 100.0)
    assert (library.starts, library.stops) == (1, 1)


def test_a_library_that_dies_leaves_no_readings() -> None:
    library = Library()
    with nvml_library(library):
        probe = open_gpu_probe()
        assert len(probe.read()) == 1
        library.alive = False
        assert probe.read() == ()
        assert probe.source == "none"
