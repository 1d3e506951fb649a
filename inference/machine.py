"""What this machine is made of, as far as running models goes: asked once, nothing is changed."""

import importlib.metadata
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pynvml

GB = 1_000_000_000
_COMMAND_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU."""

    name: str
    memory_gb: float


@dataclass(frozen=True, slots=True)
class Gpus:
    """What the NVIDIA driver says."""

    driver: str
    cuda: str
    """Highest CUDA version that the driver runs."""
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found; None and empty where there is no such thing."""

    cores: int
    memory_gb: float
    disk: Path
    """The folder whose disk was looked at."""
    disk_gb: float
    free_gb: float
    gpus: Gpus | None
    container_toolkit: str
    """Version of the NVIDIA container toolkit."""
    cdi_devices: tuple[str, ...]
    """Devices by which containers get a GPU."""
    tensorrt: str


def look(models_dir: Path, nvml: Any = pynvml) -> Machine:  # noqa: ANN401 - the module has no type
    """Return what this machine is made of."""
    there = next(folder for folder in (models_dir, *models_dir.parents) if folder.exists())
    usage = shutil.disk_usage(there)
    toolkit = _said("nvidia-ctk", "--version")
    devices = _said("nvidia-ctk", "cdi", "list") if toolkit else ""
    return Machine(
        cores=os.cpu_count() or 1,
        memory_gb=psutil.virtual_memory().total / GB,
        disk=there,
        disk_gb=usage.total / GB,
        free_gb=usage.free / GB,
        gpus=read_gpus(nvml),
        container_toolkit=_version(toolkit),
        cdi_devices=tuple(re.findall(r"nvidia\.com/gpu=\S+", devices)),
        tensorrt=_tensorrt(),
    )


def read_gpus(nvml: Any = pynvml) -> Gpus | None:  # noqa: ANN401 - the module has no type
    """Ask NVML; None where there is no library, no driver or no GPU."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        cuda = nvml.nvmlSystemGetCudaDriverVersion_v2()
        handles = [
            nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())
        ]
        cards = tuple(
            Card(_text(nvml.nvmlDeviceGetName(h)), nvml.nvmlDeviceGetMemoryInfo(h).total / GB)
            for h in handles
        )
        if not cards:
            return None
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        return Gpus(driver, f"{cuda // 1000}.{cuda % 1000 // 10}", cards)
    except nvml.NVMLError:
        return None
    finally:
        nvml.nvmlShutdown()


def _tensorrt() -> str:
    """Return the version of the TensorRT that a plan would be built with here."""
    # trtexec writes v101300 or v8603: major, then two digits of minor and two of patch.
    found = re.search(r"TensorRT\s+v(\d+)(\d\d)(\d\d)\b", _said("trtexec", "--help"))
    if found:
        return ".".join(str(int(part)) for part in found.groups())
    try:
        return ".".join(importlib.metadata.version("tensorrt").split(".")[:3])
    except importlib.metadata.PackageNotFoundError:
        return ""


def _said(*command: str) -> str:
    """Return what a command says; nothing where it is not installed or fails."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        answer = subprocess.run(  # noqa: S603 - fixed words, the program is found on PATH
            [program, *command[1:]], capture_output=True, timeout=_COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (answer.stdout + answer.stderr).decode(errors="replace")


def _version(text: str) -> str:
    found = re.search(r"\d+\.\d+(\.\d+)?", text)
    return found.group() if found else ""


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
