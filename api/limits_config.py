"""How many requests a minute are allowed, as plain values."""

from dataclasses import dataclass
from typing import Literal

Class = Literal["default", "media", "search", "websocket"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitConfig:
    """Requests a minute, by class."""

    default: int = 60
    burst: int = 10
    media: int = 120
    search: int = 30
    websocket: int = 10
    this_machine: bool = False
    """Whether programs on this machine that ask for themselves are limited as well."""

    def most(self, kind: Class) -> int:
        """Return how many requests of a class pass within any minute."""
        if kind == "websocket":
            return self.websocket
        limits = {"default": self.default, "media": self.media, "search": self.search}
        return limits[kind] + self.burst
