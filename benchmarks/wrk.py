"""Reads by `wrk`, a program of other people's: found at $WRK or on PATH, else not used."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

SCRIPT = Path(__file__).with_name("wrk_reads.lua")
CONNECTIONS = 2
"""Each reads ten times a second (`delay()` in the script): twenty reads a second at most."""

LONGEST = "2h"


class Reads(msgspec.Struct):
    """What `wrk` saw."""

    reads: int = 0
    failed: int = 0
    """Not connected, broken off, not answered within 10 s, or not by 2xx."""
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0


def find() -> str | None:
    """Return the program; without it, say how to give one."""
    program = shutil.which(os.environ.get("WRK") or "wrk")
    if program is None:
        print(
            "wrk: NOT USED, there is none on PATH and WRK does not name one (Debian: apt-get "
            "install wrk); the reads by aiohttp are made and counted all the same",
            file=sys.stderr,
        )
    return program


@asynccontextmanager
async def reading(program: str | None, url: str, paths: Sequence[str]) -> AsyncIterator[Reads]:
    """Let `wrk` read `paths` in turn until the block ends, then fill in what it saw."""
    seen = Reads()
    if program is None:
        yield seen
        return
    script = ("--script", str(SCRIPT), url, "--", *paths)
    running = await asyncio.create_subprocess_exec(
        program,
        *("--threads", "1", "--connections", str(CONNECTIONS), "--duration", LONGEST),
        *("--timeout", "10s", "--latency", *script),
        stdout=asyncio.subprocess.PIPE,
    )
    said = asyncio.create_task(running.communicate())
    try:
        yield seen
    finally:
        running.send_signal(signal.SIGINT)
        output, _ = await said
        print(output.decode(), file=sys.stderr)
    if running.returncode != 0:
        raise SystemExit(f"{program} ended with {running.returncode}")
    last = msgspec.json.decode(output.splitlines()[-1], type=Reads)
    for name in Reads.__struct_fields__:
        setattr(seen, name, getattr(last, name))
