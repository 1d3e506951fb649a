"""How long requests take, by route template: never by path, which anybody can make up."""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from aiohttp import web
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from api.metric_names import histogram

BOUNDS: Final = (0.005, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0)
UNMATCHED: Final = "unmatched"
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UPGRADED: Final = 101

Key = tuple[str, str, str]


class HttpMetrics(Collector):
    """The requests that this process has answered."""

    def __init__(self) -> None:
        self._counts: dict[Key, list[int]] = {}
        self._sums: dict[Key, float] = {}

    def observe(self, request: web.Request, status: int, seconds: float) -> None:
        """Count an answered request; a WebSocket ends when its client leaves, so it is none."""
        if status == _UPGRADED:
            return
        resource = request.match_info.route.resource
        route = UNMATCHED if resource is None else resource.canonical
        method = request.method if request.method in METHODS else "other"
        key = (method, route, f"{status // 100}xx")
        counts = self._counts.get(key)
        if counts is None:
            counts = self._counts[key] = [0] * (len(BOUNDS) + 1)
            self._sums[key] = 0.0
        counts[bisect_left(BOUNDS, seconds)] += 1
        self._sums[key] += seconds

    def collect(self) -> Iterator[Metric]:
        """Give the histogram."""
        found = histogram("hsi_http_request_duration_seconds")
        for key, counts in sorted(self._counts.items()):
            total, buckets = 0, []
            for bound, count in zip((*map(str, BOUNDS), "+Inf"), counts, strict=True):
                total += count
                buckets.append((bound, float(total)))
            found.add_metric(key, buckets, self._sums[key])
        yield found
