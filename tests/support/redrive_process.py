"""A process that decides about every parked entry until it is killed.

`python redrive_process.py URL redrive|discard`; says `ready` once it is connected, then begins.
"""

import asyncio
import sys

from support.parking import lying

from streams.log import EventLog
from streams.redrive import DeadLetters


async def run(url: str, action: str) -> None:
    log = await EventLog.open(url, partitions=1)
    letters = DeadLetters(log)
    decide = letters.redrive if action == "redrive" else letters.discard
    ids = list((await lying(log)).values())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for wanted in ids:
        await decide(wanted)
    await log.close()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2]))
