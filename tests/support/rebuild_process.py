"""A rebuild in a process of its own that ends itself with SIGKILL at the n-th step of a stage."""

import asyncio
import os
import signal
import sys

from agents.project import read_models
from projections.database import open_pool
from projections.rebuild import POOL, Progress, Rebuild
from streams.history import History
from streams.log import EventLog


async def _rebuild(redis_url: str, database_url: str, stage: str, number: int) -> None:
    seen = 0

    def report(step: Progress) -> None:
        nonlocal seen
        seen += step.stage == stage
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    log = await EventLog.open(redis_url)
    pool = await open_pool(database_url, name="killed", max_size=POOL, rebuildable=True)
    await Rebuild(log, History(log), pool, report, count=20).run(read_models())


if __name__ == "__main__":
    redis, database, at_stage, at_number = sys.argv[1:]
    asyncio.run(_rebuild(redis, database, at_stage, int(at_number)))
