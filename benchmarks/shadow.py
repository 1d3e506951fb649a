"""What a shadow costs live: file closed → push on /ws/events, with and without a trial beside it.

The installation is that of `latency`. In turns a candidate detector is compared with the one in
service (role `trial` in a process of its own, which reads every picture again and asks the
candidate) or is not: a pair of phases each way round, so that load on the machine meets both. The
candidate answers at once, like the detector in service: what is measured is what the trial costs
the main line, not what a second model does to a machine that has to run both.
"""

import asyncio
import shutil
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.latency import CAMERAS, RATE, House, drop_and_listen, house
from benchmarks.roles import roles
from benchmarks.support import servers
from streams.log import EventLog

GROUP = "trial_detector"
TRIAL = {"trial": ["agents", "trial"]}


def run(*, full: bool) -> dict[str, float]:
    """Return the 95th percentiles with and without a shadow, and the median of their ratios."""
    pairs, seconds = (8, 20) if full else (2, 6)
    with servers(postgres=True) as embedded:
        folder = Path(tempfile.mkdtemp(prefix="hsi-shadow-", dir="/tmp"))
        try:
            assert embedded.redis_url is not None
            assert embedded.database_url is not None
            environ = {"REDIS_URL": embedded.redis_url, "DATABASE_URL": embedded.database_url}
            taken = asyncio.run(_measure(folder, environ, pairs, int(seconds * RATE)))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    p95 = {name: [_p95(phase) for phase in phases] for name, phases in taken.items()}
    ratios = [a / b for a, b in zip(p95["shadow"], p95["alone"], strict=True)]
    return {
        **{f"{name}_p95_ms": round(median(each), 1) for name, each in p95.items()},
        "ratio_shadow_p95": round(median(ratios), 3),
        "ratio_lowest": round(min(ratios), 3),
        "ratio_highest": round(max(ratios), 3),
        "pairs": pairs,
        "files_per_phase": len(taken["alone"][0]),
        "files_per_s": RATE,
    }


def _p95(delays: list[float]) -> float:
    return float(np.percentile(np.array(delays) * 1000, 95))


async def _measure(
    folder: Path, environ: dict[str, str], pairs: int, count: int
) -> dict[str, list[list[float]]]:
    taken: dict[str, list[list[float]]] = {"shadow": [], "alone": []}
    async with house(folder, environ, candidate_rtdetr_url=str) as home:
        await drop_and_listen(home, count)  # Everything warm, and every camera known.
        first = count + CAMERAS
        for pair in range(pairs):
            for name in ("alone", "shadow") if pair % 2 else ("shadow", "alone"):
                phase = _with_shadow if name == "shadow" else drop_and_listen
                taken[name].append(await phase(home, count, first))
                first += count + CAMERAS
    return taken


async def _with_shadow(home: House, count: int, first: int) -> list[float]:
    """Drop pictures while the trial has nothing left to catch up with but them."""
    folder = Path(tempfile.mkdtemp(dir=home.cameras.parent))
    async with roles(folder, home.environ, TRIAL):
        log = await EventLog.open(home.environ["REDIS_URL"])
        try:
            await log.use_groups([GROUP])
            while any(group.left for group in await log.backlog() if group.group == GROUP):
                await asyncio.sleep(0.1)
        finally:
            await log.close()
        return await drop_and_listen(home, count, first)
