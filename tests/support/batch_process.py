"""A process that batches one log until it is killed: `python batch_process.py URL NAME`."""

import asyncio
import sys

from support.logs import POLICY, Stage

from agents.batch import Batch
from streams import feed, lease, ownership
from streams.channel import ChannelOptions
from streams.log import EventLog


async def run(url: str, name: str) -> None:
    log = await EventLog.open(url, partitions=1)
    batch = Batch(log, POLICY)
    stage = Stage(
        log,
        "batch",
        name,
        ChannelOptions(run_size=3, on_owned=batch.on_owned),
        on_run=batch.handle,
    )
    await stage.start()
    await asyncio.Event().wait()


def main() -> None:
    lease.LEASE_MS = 800
    setattr(ownership, "RENEW_SECONDS", 0.1)  # noqa: B010 - it is imported there
    feed.BLOCK_MS = 100
    asyncio.run(run(sys.argv[1], sys.argv[2]))


if __name__ == "__main__":
    main()
