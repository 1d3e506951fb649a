"""How full the memory of GPUs is: from a limit on optional work waits; detection never does."""

from collections.abc import Iterable
from typing import Final, Literal

from domain.events import GpuReading

Pressure = Literal["normal", "warning", "critical"]

WARNING: Final = 0.85
"""Share of a GPU's memory from which optional work waits."""
CRITICAL: Final = 0.95
"""Share from which a detection's own buffers may find no room."""


def used_share(gpu: GpuReading) -> float | None:
    """Return the share of a GPU's memory that is used, None where the driver does not tell."""
    if gpu.memory_used_mib is None or not gpu.memory_total_mib:
        return None
    return gpu.memory_used_mib / gpu.memory_total_mib


def pressure_of(gpus: Iterable[GpuReading]) -> Pressure | None:
    """Return the pressure of the fullest GPU; None where no GPU tells its memory."""
    shares = [share for gpu in gpus if (share := used_share(gpu)) is not None]
    if not shares:
        return None
    fullest = max(shares)
    if fullest >= CRITICAL:
        return "critical"
    return "warning" if fullest >= WARNING else "normal"
