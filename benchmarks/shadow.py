"""What a shadow costs live: file closed → push on /ws/events, with and without a trial beside it.

The installation is that of `latency`, each process in a session of its own as in `hsi up`. Beside
it a candidate detector is compared with the one in service (role `trial`, which reads every
picture again and asks the candidate). In short blocks, one right after the other and each way
round, the trial runs or is stopped (SIGSTOP), so that load on the machine meets both; before it
counts it has caught up. What is told is the median of the pairs' ratios, with the interval in
which it lies with 95 %.

The candidate answers at once, in a process of its own: what is measured is what the trial costs
the main line, not what a second model does to a machine that has to run both.
"""

import asyncio
import shutil
import signal
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import psutil

from benchmarks.instant_detector import detector_beside
from benchmarks.latency import CAMERAS, RATE, House, drop_and_listen, house
from benchmarks.roles import Child, roles
from benchmarks.support import interval, servers
from streams.log import EventLog

GROUP = "trial_detector"
TRIAL = {"trial": ["agents", "trial"]}
CAUGHT_UP_SECONDS = 60.0

Taken = dict[str, list[list[float]]]


def run(*, full: bool) -> dict[str, float]:
    """Return the 95th percentiles with and without a shadow, and the median of their ratios."""
    pairs, rounds = (16, 4) if full else (3, 2)
    with servers(postgres=True) as embedded:
        folder = Path(tempfile.mkdtemp(prefix="hsi-shadow-", dir="/tmp"))
        try:
            assert embedded.redis_url is not None
            assert embedded.database_url is not None
            environ = {"REDIS_URL": embedded.redis_url, "DATABASE_URL": embedded.database_url}
            taken, cpu_ms = asyncio.run(_measure(folder, environ, pairs, rounds))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return _figures(taken) | {"trial_cpu_ms_per_file": round(cpu_ms, 2)}


def _figures(taken: Taken) -> dict[str, float]:
    p95 = {name: [_percentile(block, 95) for block in blocks] for name, blocks in taken.items()}
    ratios = [a / b for a, b in zip(p95["shadow"], p95["alone"], strict=True)]
    low, high = interval(ratios)
    whole = {name: [one for block in blocks for one in block] for name, blocks in taken.items()}
    return {
        **{f"{name}_p50_ms": round(_percentile(each, 50), 1) for name, each in whole.items()},
        **{f"{name}_p95_ms": round(median(each), 1) for name, each in p95.items()},
        "ratio_shadow_p95": round(median(ratios), 3),
        "ratio_low": round(low, 3),
        "ratio_high": round(high, 3),
        # Over all files at once: says the same, unless load came and went.
        "ratio_of_all_files": round(
            _percentile(whole["shadow"], 95) / _percentile(whole["alone"], 95), 3
        ),
        "pairs": len(ratios),
        "files_per_block": len(taken["alone"][0]),
        "files_per_s": RATE,
    }


def _percentile(delays: list[float], percent: float) -> float:
    return float(np.percentile(np.array(delays) * 1000, percent))


async def _measure(
    folder: Path, environ: dict[str, str], pairs: int, rounds: int
) -> tuple[Taken, float]:
    # Whole rounds over all cameras, or one would get two pictures for one batch.
    count = rounds * CAMERAS
    taken: Taken = {"shadow": [], "alone": []}
    used = 0.0
    async with detector_beside() as candidate:
        environ = environ | {"CANDIDATE_RTDETR_URL": candidate}
        async with (
            house(folder, environ, sessions=True) as home,
            roles(folder, home.environ, TRIAL, sessions=True) as processes,
        ):
            trial = processes["trial"]
            await drop_and_listen(home, count)  # Everything warm, every camera known.
            first = count + CAMERAS
            for pair in range(pairs):
                for name in ("alone", "shadow") if pair % 2 else ("shadow", "alone"):
                    block = _with_shadow if name == "shadow" else _alone
                    delays, seconds = await block(home, trial, count, first)
                    taken[name].append(delays)
                    used += seconds
                    first += count + CAMERAS
    return taken, 1000 * used / (pairs * (count + CAMERAS))


async def _alone(home: House, trial: Child, count: int, first: int) -> tuple[list[float], float]:
    """Drop pictures while the trial is stopped."""
    trial.send_signal(signal.SIGSTOP)
    try:
        return await drop_and_listen(home, count, first), 0.0
    finally:
        trial.send_signal(signal.SIGCONT)


async def _with_shadow(
    home: House, trial: Child, count: int, first: int
) -> tuple[list[float], float]:
    """Drop pictures while the trial has nothing left but them; tell its processor time, too."""
    await _caught_up(home)
    process = psutil.Process(trial.pid)
    before = process.cpu_times()
    delays = await drop_and_listen(home, count, first)
    after = process.cpu_times()
    await _caught_up(home)  # It has kept pace: what it has not done yet would be no cost.
    return delays, after.user + after.system - before.user - before.system


async def _caught_up(home: House) -> None:
    log = await EventLog.open(home.environ["REDIS_URL"])
    try:
        await log.use_groups([GROUP])
        async with asyncio.timeout(CAUGHT_UP_SECONDS):
            while any(group.left for group in await log.backlog() if group.group == GROUP):
                await asyncio.sleep(0.1)
    finally:
        await log.close()
