"""A process that sends a log's traces until it is killed: `python traces_process.py URL OTLP`."""

import asyncio
import sys

from agents import traces
from agents.traces import Traces
from runtime.otlp import OtlpExporter, OtlpOptions
from streams import lease
from streams.log import EventLog


async def run(url: str, endpoint: str) -> None:
    log = await EventLog.open(url, partitions=2)
    options = OtlpOptions(
        endpoint=endpoint, headers={}, certificate=None, service="hsi", version="1"
    )
    await Traces(log, OtlpExporter(options, "traces")).run(asyncio.Event())


def main() -> None:
    lease.LEASE_MS = 800
    setattr(traces, "RENEW_SECONDS", 0.1)  # noqa: B010 - it is imported there
    setattr(traces, "PACE_SECONDS", 0.05)  # noqa: B010 - a constant
    asyncio.run(run(sys.argv[1], sys.argv[2]))


if __name__ == "__main__":
    main()
