"""A redrive that is killed halfway, again and again: each entry is in exactly one place."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.logs import all_of, opened
from support.parking import BrokenError, finish, lying, park, pending

from domain.events import EntryDiscarded, EntryRedriven, ObjectsDetected
from streams.log import EventLog

TESTS = Path(__file__).parent.parent
ENTRIES = 240
KILLS = 3
SEED = 7


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[EventLog]:
    async with opened(valkey_url) as log:
        yield log


async def places(log: EventLog) -> dict[str, list[str]]:
    """Return where each entry is: parked, waiting for its group, handled or discarded."""
    found: dict[str, list[str]] = {}
    for name in await lying(log):
        found.setdefault(name, []).append("parked")
    for name in await pending(log):
        found.setdefault(name, []).append("pending")
    for envelope in await all_of(log, "detections"):
        if isinstance(envelope.event, ObjectsDetected):
            found.setdefault(envelope.event.picture_id, []).append("handled")
    for envelope in await all_of(log, "parked"):
        if isinstance(envelope.event, EntryDiscarded):
            found.setdefault(envelope.event.picture_id or "", []).append("discarded")
    return found


async def test_killed_at_any_moment_each_entry_is_in_exactly_one_place(
    log: EventLog, valkey_url: str
) -> None:
    names = [f"p{number:03}" for number in range(ENTRIES)]
    await park(log, dict.fromkeys(names, BrokenError))
    chance = random.Random(SEED)
    cut_short = 0
    for _ in range(KILLS):
        # Two at once, on the same entries: a redrive and, now and then, a discarding.
        actions = ["redrive", chance.choice(["redrive", "redrive", "discard"])]
        processes = await asyncio.gather(*(_started(valkey_url, a) for a in actions))
        await asyncio.sleep(chance.uniform(0.001, 0.006))
        for process in processes:
            if process.returncode is None:
                os.kill(process.pid, 9)
                cut_short += 1
            await process.wait()
        found = await places(log)
        assert {name: where for name, where in found.items() if len(where) != 1} == {}
        assert sorted(found) == names
        await finish(log)
    assert cut_short
    while await lying(log):
        process = await _started(valkey_url, "redrive")
        assert await process.wait() == 0
    await finish(log)
    found = await places(log)
    assert all(where in (["handled"], ["discarded"]) for where in found.values())
    assert sorted(found) == names
    told = [e.event for e in await all_of(log, "parked")]
    decided = [e.picture_id for e in told if isinstance(e, EntryRedriven | EntryDiscarded)]
    assert sorted(filter(None, decided)) == names


async def _started(url: str, action: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", str(TESTS / "support" / "redrive_process.py"), url, action),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process
