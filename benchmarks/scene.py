"""Scene changes: what one check takes, and what the role costs the way from file to push.

`check_ms` is the processor time from a 1080p JPEG's bytes to what it has in common with its
baseline, twice: for a picture like its baseline, and for one that was turned, whose old view is
searched for; the ratio is to the decoding alone that the detect stage does of every picture.
`peak_mib` is what a check allocates at most.

Then the installation of `latency` takes the same pictures with the role and without it, a house
at a time, each way round. Every camera of these is due for a check each five seconds: eight
checks a second.
"""

import asyncio
import shutil
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from benchmarks.decode import ours, picture
from benchmarks.latency import CAMERAS, RATE, drop_and_listen, house
from benchmarks.support import servers
from inference import scene_views

WIDTH = 640
THRESHOLD = 0.90


def run(*, full: bool) -> dict[str, float]:
    """Return milliseconds of a check, and of file to push with and without the role."""
    return {**_checks(full=full), **_latencies(full=full)}


def _checks(*, full: bool) -> dict[str, float]:
    data = picture()
    baseline = scene_views.view_of(data, "1080p.jpg", WIDTH)
    aside = np.array([[1, 0, 80], [0, 1, 20]], np.float64)
    size = baseline.shape[1], baseline.shape[0]
    turned = np.asarray(cv2.warpAffine(baseline, aside, size), np.uint8)

    def check(against: scene_views.Pixels) -> None:
        now = scene_views.view_of(data, "1080p.jpg", WIDTH)
        scene_views.compare(against, now, THRESHOLD)

    turns = [
        (
            _timed(lambda: ours(data)),
            _timed(lambda: check(baseline)),
            _timed(lambda: check(turned)),
        )
        for _ in range(100 if full else 30)
    ]
    decode_ms, same_ms, turned_ms = (median(times) for times in zip(*turns, strict=True))
    tracemalloc.start()
    check(turned)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "check_ms": round(same_ms, 2),
        "turned_ms": round(turned_ms, 2),
        "decode_ms": round(decode_ms, 2),
        "ratio_decode": round(same_ms / decode_ms, 2),
        "peak_mib": round(peak / 2**20, 2),
    }


def _timed(work: Callable[[], Any]) -> float:
    before = time.thread_time()
    work()
    return (time.thread_time() - before) * 1000


def _latencies(*, full: bool) -> dict[str, float]:
    pairs, seconds = (6, 20) if full else (1, 8)
    taken: dict[str, list[float]] = {"with": [], "without": []}
    for pair in range(pairs):
        for name in ("with", "without") if pair % 2 else ("without", "with"):
            taken[name] += _delays(name == "with", int(seconds * RATE))
    return {
        **{f"{n}_p50_ms": round(_percentile(each, 50), 1) for n, each in taken.items()},
        **{f"{n}_p99_ms": round(_percentile(each, 99), 1) for n, each in taken.items()},
        "ratio_p50": round(_percentile(taken["with"], 50) / _percentile(taken["without"], 50), 3),
        "files": len(taken["with"]),
    }


def _percentile(delays: list[float], percent: float) -> float:
    return float(np.percentile(np.array(delays) * 1000, percent))


def _delays(looking: bool, count: int) -> list[float]:
    with servers(postgres=True) as embedded:
        folder = Path(tempfile.mkdtemp(prefix="hsi-scene-", dir="/tmp"))
        try:
            assert embedded.redis_url is not None
            assert embedded.database_url is not None
            environ = {
                "REDIS_URL": embedded.redis_url,
                "DATABASE_URL": embedded.database_url,
                "SCENE_CHANGE_ENABLED": str(looking).lower(),
            }
            return asyncio.run(_measure(folder, environ, count))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


async def _measure(folder: Path, environ: dict[str, str], count: int) -> list[float]:
    async with house(folder, environ) as home:
        await drop_and_listen(home, count // 4)  # Everything warm, and every camera known.
        return await drop_and_listen(home, count, count + CAMERAS)
