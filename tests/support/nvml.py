"""A stand-in for NVIDIA's library below pynvml: C functions with C types, made by ctypes.

pynvml itself runs unchanged on top of it: it loads the library by name, looks functions up, passes
handles, buffers and structs by reference, and turns return codes into its errors.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_char, c_char_p, c_uint, c_ulonglong, c_void_p
from dataclasses import dataclass, field
from typing import Any

import pynvml
import pytest

SUCCESS, NOT_SUPPORTED, LIBRARY_GONE, GPU_IS_LOST = 0, 3, 999, 15
GIB = 1024**3


class Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = (("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong))


class Utilization(ctypes.Structure):
    """nvmlUtilization_t."""

    _fields_ = (("gpu", c_uint), ("memory", c_uint))


@dataclass
class Card:
    """One GPU of the stand-in; a field that is None is `not supported`."""

    name: bytes = b"NVIDIA RTX A4000"
    used: int | None = 3 * GIB
    total: int = 12 * GIB
    busy: int | None = 37
    celsius: int | None = 61
    milliwatts: int | None = 142_500
    lost: bool = False
    """Fell off the bus: the driver has no handle for it any more."""


@dataclass
class Library:
    """What `CDLL("libnvidia-ml.so.1")` gives: attributes that are C functions."""

    cards: list[Card] = field(default_factory=lambda: [Card()])
    alive: bool = True
    starts: int = 0
    stops: int = 0

    def __post_init__(self) -> None:
        handle = c_void_p
        for name, types, body in (
            ("nvmlInitWithFlags", (c_uint,), self._init),
            ("nvmlShutdown", (), self._shutdown),
            ("nvmlDeviceGetCount_v2", (POINTER(c_uint),), self._count),
            ("nvmlDeviceGetHandleByIndex_v2", (c_uint, c_void_p), self._handle),
            ("nvmlDeviceGetName", (handle, POINTER(c_char), c_uint), self._name),
            ("nvmlDeviceGetUtilizationRates", (handle, c_void_p), self._utilization),
            ("nvmlDeviceGetMemoryInfo", (handle, c_void_p), self._memory),
            ("nvmlDeviceGetTemperature", (handle, c_uint, POINTER(c_uint)), self._celsius),
            ("nvmlDeviceGetPowerUsage", (handle, POINTER(c_uint)), self._power),
        ):
            setattr(self, name, ctypes.CFUNCTYPE(c_uint, *types)(body))
        self.nvmlErrorString = ctypes.CFUNCTYPE(c_char_p, c_uint)(lambda code: b"told by the fake")

    def _init(self, flags: int) -> int:
        self.starts += 1
        return self._well()

    def _shutdown(self) -> int:
        self.stops += 1
        return self._well()

    def _well(self) -> int:
        return SUCCESS if self.alive else LIBRARY_GONE

    def _count(self, count: Any) -> int:
        count[0] = len(self.cards)
        return self._well()

    def _handle(self, index: int, handle: int) -> int:
        if self.cards[index].lost:
            return GPU_IS_LOST
        c_void_p.from_address(handle).value = index + 1  # 0 would be a null pointer
        return self._well()

    def _card(self, handle: int) -> Card:
        return self.cards[handle - 1]

    def _name(self, handle: int, buffer: Any, size: int) -> int:
        name = self._card(handle).name
        ctypes.memmove(buffer, name + b"\0", min(size, len(name) + 1))
        return self._well()

    def _utilization(self, handle: int, rates: int) -> int:
        busy = self._card(handle).busy
        if busy is None:
            return NOT_SUPPORTED
        Utilization.from_address(rates).gpu = busy
        return self._well()

    def _memory(self, handle: int, memory: int) -> int:
        card = self._card(handle)
        if card.used is None:
            return NOT_SUPPORTED
        told = Memory.from_address(memory)
        told.total, told.used, told.free = card.total, card.used, card.total - card.used
        return self._well()

    def _celsius(self, handle: int, sensor: int, celsius: Any) -> int:
        return self._number(self._card(handle).celsius, celsius)

    def _power(self, handle: int, milliwatts: Any) -> int:
        return self._number(self._card(handle).milliwatts, milliwatts)

    def _number(self, value: int | None, target: Any) -> int:
        if value is None:
            return NOT_SUPPORTED
        target[0] = value
        return self._well()


@contextmanager
def nvml_library(library: Library | None) -> Iterator[None]:
    """Let pynvml find `library` where it loads NVIDIA's; None: there is none on this machine."""

    def load(name: str) -> Library:
        if library is None:
            raise OSError(f"{name}: cannot open shared object file")
        return library

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pynvml, "CDLL", load)
        patch.setattr(pynvml, "nvmlLib", None)
        patch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        yield
