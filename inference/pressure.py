"""Memory pressure: optional models wait while a GPU's memory is nearly full; detection never does.

Above 85 % a GPU that several models share may have no room for a detection's own buffers.
"""

import asyncio
import time
from collections.abc import Callable

from domain.gpu_memory import WARNING, used_share
from inference.ports import GpuProbe

LOOK_SECONDS = 5.0


class GpuMemoryPressure:
    """Looks at this host's GPUs at most every few seconds, when it is asked."""

    def __init__(
        self,
        open_probe: Callable[[], GpuProbe],
        *,
        limit: float = WARNING,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._open_probe = open_probe
        self._limit = limit
        self._look_seconds = look_seconds
        self._probe: GpuProbe | None = None
        self._looked_at = -float("inf")
        self._excuse: str | None = None

    async def excuse(self) -> str | None:
        """Return which GPU is nearly full; None when none is, or nobody can tell."""
        now = time.monotonic()
        if now - self._looked_at >= self._look_seconds:
            self._looked_at = now
            self._excuse = await asyncio.to_thread(self._look)
        return self._excuse

    async def close(self) -> None:
        """Release the driver library."""
        if self._probe is not None:
            await asyncio.to_thread(self._probe.close)
            self._probe = None

    def _look(self) -> str | None:
        if self._probe is None:
            self._probe = self._open_probe()
        for gpu in self._probe.read():
            share = used_share(gpu)
            if share is not None and share >= self._limit:
                return (
                    f"{share:.0%} of the memory of GPU {gpu.index} is used; enrichment waits from "
                    f"{self._limit:.0%} on, so that detection keeps its room"
                )
        return None
