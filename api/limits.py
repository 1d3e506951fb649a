"""How often somebody may call: a sliding minute for each class of routes, key and address.

Redis counts for all processes. While it is away every process counts for itself, so the limit
stands and the interface stays usable: neither open nor closed.
"""

import asyncio
import logging
import math
import time
from collections import OrderedDict, deque
from typing import Final, Protocol

from api.limits_config import Class, RateLimitConfig
from api.problems import ProblemError
from api.routing import Operation
from domain.errors import TransientError
from streams.rate_limit import WINDOW_SECONDS, Hit

logger = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 0.25
"""How long Redis may take to count before this process counts for itself."""

AWAY_SECONDS: Final = 5.0
"""How long Redis is not asked again after it did not answer."""

MOST_CLIENTS: Final = 10_000
"""Clients this process counts for itself at once; the one not heard of longest is forgotten."""

UNLIMITED: Final = frozenset({"alive", "ready", "ready_short"})
"""Operations that probes ask for: they tell nothing and cost nothing."""


class Windows(Protocol):
    """Where requests are counted."""

    async def hit(self, who: str, most: int) -> Hit:
        """Count a request of `who` unless there were `most` within the window."""
        ...


class LocalWindows:
    """Sliding windows in this process."""

    def __init__(self, window_seconds: float = WINDOW_SECONDS) -> None:
        self._window = window_seconds
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    async def hit(self, who: str, most: int) -> Hit:
        """Count a request of `who` unless there were `most` within the window."""
        now = time.monotonic()
        times = self._times.setdefault(who, deque())
        self._times.move_to_end(who)
        while len(self._times) > MOST_CLIENTS:
            self._times.popitem(last=False)
        while times and times[0] <= now - self._window:
            times.popleft()
        if len(times) >= most:
            return Hit(False, 0, times[len(times) - most] + self._window - now)
        times.append(now)
        return Hit(True, most - len(times))


class SharedWindows:
    """Windows in Redis, or in this process while Redis does not answer."""

    def __init__(self, shared: Windows, own: Windows | None = None) -> None:
        self._shared = shared
        self._own = own or LocalWindows()
        self._away_until = 0.0

    async def hit(self, who: str, most: int) -> Hit:
        """Count a request of `who` unless there were `most` within the window."""
        if time.monotonic() >= self._away_until:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await self._shared.hit(who, most)
            except (TransientError, TimeoutError) as error:
                self._away_until = time.monotonic() + AWAY_SECONDS
                logger.warning("requests are counted by this process alone for now: %s", error)
        return await self._own.hit(who, most)


class RateLimits:
    """Refuses who calls too often."""

    def __init__(self, windows: Windows, config: RateLimitConfig) -> None:
        self._windows = windows
        self._config = config

    async def check(self, operation: Operation | None, who: str, *, here: bool) -> None:
        """Count a request; raises ProblemError with Retry-After when there were too many."""
        if here and not self._config.this_machine:
            return
        if operation is not None and operation.name in UNLIMITED:
            return
        kind = class_of(operation)
        most = self._config.most(kind)
        hit = await self._windows.hit(f"{kind} {who}", most)
        if not hit.accepted:
            raise too_many(f"{most} {_WORDS[kind]} a minute", hit.retry_seconds)


_WORDS: Final = {
    "default": "requests",
    "media": "pictures and videos",
    "search": "searches",
    "websocket": "new WebSocket connections",
}


def class_of(operation: Operation | None) -> Class:
    """Return which limit counts a route."""
    if operation is None:
        return "default"
    if is_live(operation):
        return "websocket"
    if is_media(operation):
        return "media"
    return "search" if "search" in operation.path else "default"


def is_live(operation: Operation) -> bool:
    """Say whether a route speaks WebSocket."""
    return operation.path.startswith("/ws/")


def is_media(operation: Operation) -> bool:
    """Say whether a route answers what a browser loads by itself: pictures and videos."""
    if operation.topic == "media":
        return True
    kinds = [kind for kind in operation.answers.values() if isinstance(kind, str)]
    return any(kind.startswith(("image/", "video/")) for kind in kinds)


def too_many(what: str, retry_seconds: float) -> ProblemError:
    """Return the answer to who calls too often."""
    seconds = max(1, math.ceil(retry_seconds))
    return ProblemError(
        "too_many_requests",
        f"more than {what}: ask again in {seconds} s",
        headers={"Retry-After": str(seconds)},
    )
