"""What `hsi models doctor` makes of a machine: pure rules over what was found."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from inference.machine import Machine
from inference.repository import VersionManifest

Status = Literal["pass", "warn", "fail", "fact"]
"""`fact`: worth knowing, and nothing that is needed here."""

MEMORY_GB = (8, 16)
CORES = (4, 8)
DISK_GB = (50, 100)
FREE_GB = (5, 20)
GPU_MEMORY_GB = (8, 12)
DRIVER = (535, 535)
CUDA = (11.8, 12.0)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    about: str
    status: Status
    told: str


def of_size(about: str, value: float, limits: tuple[float, float], told: str) -> Finding:
    """Judge a size by its least and its recommended value."""
    least, recommended = limits
    status: Status = "pass" if value >= recommended else "warn" if value >= least else "fail"
    wanted = f"; {least:g} needed, {recommended:g} recommended" if status != "pass" else ""
    return Finding(about, status, told + wanted)


def of_machine(machine: Machine, *, gpu_needed: str) -> Iterator[Finding]:
    """Judge processor, memory, disk and GPU; `gpu_needed` says what needs one here."""
    yield of_size("processor", machine.cores, CORES, f"{machine.cores} cores")
    yield of_size("memory", machine.memory_gb, MEMORY_GB, f"{machine.memory_gb:.1f} GB")
    yield of_size(
        "disk", machine.disk_gb, DISK_GB, f"{machine.disk_gb:.0f} GB hold {machine.disk}"
    )
    yield of_size("free space", machine.free_gb, FREE_GB, f"{machine.free_gb:.1f} GB free")
    yield from _of_gpus(machine, gpu_needed)


def _of_gpus(machine: Machine, gpu_needed: str) -> Iterator[Finding]:
    gpus = machine.gpus
    if gpus is None:
        if gpu_needed:
            yield Finding("GPU", "fail", f"the NVIDIA driver tells of none; {gpu_needed}")
        else:
            yield Finding("GPU", "fact", "none; nothing that is configured here needs one")
        return
    for card in gpus.cards:
        yield of_size(
            "GPU", card.memory_gb, GPU_MEMORY_GB, f"{card.name}, {card.memory_gb:.1f} GB"
        )
    major = _number(gpus.driver.partition(".")[0])
    yield of_size("GPU driver", major, DRIVER, gpus.driver)
    yield of_size("CUDA", _number(gpus.cuda), CUDA, f"up to {gpus.cuda} by this driver")
    yield _optional("container toolkit", machine.container_toolkit, "containers get no GPU")
    if machine.container_toolkit:
        devices = ", ".join(machine.cdi_devices)
        yield _optional("CDI devices", devices, "run `nvidia-ctk cdi generate` for containers")
    yield _optional("TensorRT", machine.tensorrt, "plans cannot be built here, only served")


def _optional(about: str, found: str, without: str) -> Finding:
    return Finding(about, "pass", found) if found else Finding(about, "warn", f"none; {without}")


def of_plan(manifest: VersionManifest, machine: Machine) -> Finding:
    """Say whether a TensorRT plan was built for this GPU and this TensorRT."""
    about = f"plan {manifest.model} {manifest.version}"
    plan = manifest.plan
    if plan is None:
        return Finding(about, "warn", "nobody wrote down what it was built for; build it anew")
    built = f"built for {plan.gpu} with TensorRT {plan.tensorrt}"
    if machine.gpus is None:
        return Finding(about, "fact", f"{built}; there is no GPU here to compare with")
    cards = {card.name for card in machine.gpus.cards}
    if plan.gpu not in cards:
        return Finding(
            about, "fail", f"{built}, here is {', '.join(sorted(cards))}: build it anew"
        )
    if machine.tensorrt and machine.tensorrt != plan.tensorrt:
        return Finding(
            about, "warn", f"{built}, here is {machine.tensorrt}; Triton's own version decides"
        )
    parity = "" if plan.parity else "; its answers were never compared"
    return Finding(about, "warn" if parity else "pass", built + parity)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
