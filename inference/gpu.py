"""GpuProbe over NVML: what the driver says about every GPU of this host, and nothing else.

A field that the driver does not tell is None. Where there is no library, no driver or no GPU,
the probe's source is `none` and it has no readings.
"""

import logging
from collections.abc import Callable
from typing import Any, Protocol

import pynvml

from domain.events import GpuReading
from inference.ports import GpuProbe

logger = logging.getLogger(__name__)

_MIB = 1024 * 1024


class Nvml(Protocol):
    """The calls of NVML that the probe makes; the module `pynvml` has this shape."""

    NVMLError: type[Exception]
    NVML_TEMPERATURE_GPU: int

    def nvmlInit(self) -> None: ...  # noqa: N802 - NVML's own names
    def nvmlShutdown(self) -> None: ...  # noqa: N802
    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802
    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> Any: ...  # noqa: ANN401, N802
    def nvmlDeviceGetName(self, handle: Any, /) -> str | bytes: ...  # noqa: ANN401, N802
    def nvmlDeviceGetUtilizationRates(self, handle: Any, /) -> Any: ...  # noqa: ANN401, N802
    def nvmlDeviceGetMemoryInfo(self, handle: Any, /) -> Any: ...  # noqa: ANN401, N802
    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int, /) -> int: ...  # noqa: ANN401, N802
    def nvmlDeviceGetPowerUsage(self, handle: Any, /) -> int: ...  # noqa: ANN401, N802


class NoGpuProbe:
    """A host without a GPU that NVML can see: source `none`, no readings."""

    source = "none"

    def read(self) -> tuple[GpuReading, ...]:
        """Return no reading: there is nothing to ask."""
        return ()

    def close(self) -> None:
        """Do nothing: nothing is open."""


class NvmlProbe:
    """Asks an initialised NVML; a driver that goes away leaves source `none`."""

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self._open = True

    @property
    def source(self) -> str:
        """Return `nvml` while the driver answers, `none` once it does not."""
        return "nvml" if self._open else "none"

    def read(self) -> tuple[GpuReading, ...]:
        """Return one reading a GPU; blocks for some milliseconds, so call it off the loop."""
        if not self._open:
            return ()
        nvml = self._nvml
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            logger.warning("the GPU driver stopped answering: %s", error)
            self.close()
            return ()
        return tuple(self._of(index) for index in range(count))

    def _of(self, index: int) -> GpuReading:
        """Return a GPU's reading; one that fell off the bus tells nothing, the others go on."""
        handle = self._told(lambda: self._nvml.nvmlDeviceGetHandleByIndex(index))
        return GpuReading(index=index) if handle is None else self._reading(index, handle)

    def _reading(self, index: int, handle: Any) -> GpuReading:  # noqa: ANN401 - NVML's handle
        nvml = self._nvml
        name = self._told(lambda: nvml.nvmlDeviceGetName(handle))
        rates = self._told(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        memory = self._told(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        celsius = self._told(
            lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
        )
        milliwatts = self._told(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        return GpuReading(
            index=index,
            name=name.decode("utf-8", "replace") if isinstance(name, bytes) else name,
            utilization_percent=None if rates is None else float(rates.gpu),
            memory_used_mib=None if memory is None else memory.used / _MIB,
            memory_total_mib=None if memory is None else memory.total / _MIB,
            temperature_celsius=None if celsius is None else float(celsius),
            power_watts=None if milliwatts is None else milliwatts / 1000,
        )

    def _told(self, ask: Callable[[], Any]) -> Any:  # noqa: ANN401 - as NVML answers
        """Return the driver's answer, None where it has none."""
        try:
            return ask()
        except (self._nvml.NVMLError, UnicodeDecodeError):
            return None

    def close(self) -> None:
        """Release the driver library; a second call does nothing."""
        if not self._open:
            return
        self._open = False
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError as error:
            logger.debug("NVML did not shut down cleanly: %s", error)


def open_gpu_probe(nvml: Nvml = pynvml) -> GpuProbe:
    """Open NVML; a host without its library, driver or a GPU gets the probe that says `none`."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        logger.debug("no GPU to read: %s", error)
        return NoGpuProbe()
    probe = NvmlProbe(nvml)
    if probe.read():
        return probe
    probe.close()
    return NoGpuProbe()
