"""A log with a real history for what-if runs: live agents decide it, nothing is made up after."""

import asyncio
import contextlib
import os
import random
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from msgspec.structs import replace
from support.logs import NOON, POLICY, Stage, box, detected, new, until

from agents.assess import Assess
from agents.batch import Batch
from agents.cameras import LogCameraDirectory
from domain.difference import Change
from domain.events import AssessmentRefined, CameraRegistered, ObjectsDetected, RiskAssessed
from domain.risk import Bands
from hsi.whatif.folder import Asked, RunFolder
from hsi.whatif.make import Order, make
from hsi.whatif.result import Changes, Result
from hsi.whatif.wishes import masked, parse_sets
from runtime.settings import PROJECT_ROOT, load_settings
from streams.channel import ChannelOptions, each
from streams.envelope import START
from streams.log import EventLog

ALERT_WITHIN_SECONDS = 3600
LABELS = ("person", "car", "dog", "cat")
FROM = ("--from", NOON.isoformat(), "--to", (NOON + timedelta(days=9)).isoformat())


def history(seed: int, pictures: int, cameras: Sequence[str]) -> list[ObjectsDetected]:
    """Return what models saw on some days: gaps, bursts, late and empty pictures, sure people."""
    rng = random.Random(seed)
    seconds = dict.fromkeys(cameras, 0.0)
    made = []
    for number in range(pictures):
        camera = rng.choice(cameras)
        seconds[camera] += rng.choice((2.0, 5.0, 10.0, 10.0, 25.0, 29.5, 40.0, 600.0, 30_000.0))
        at = seconds[camera] - (rng.choice((15.0, 45.0, 300.0)) if rng.random() < 0.08 else 0.0)
        boxes = [
            box(rng.choice(LABELS), round(rng.uniform(0.05, 0.99), 3))
            for _ in range(rng.choice((0, 1, 1, 2, 3)))
        ]
        one = detected(f"{camera}-{number}", at, *boxes, camera=camera)
        made.append(one if boxes else replace(one, boxes=()))
    return made


async def register(log: EventLog, cameras: Iterable[str]) -> None:
    """Tell the log about cameras; the first one looks at a door."""
    events = [
        CameraRegistered(
            camera_id=c, name=c.title(), folder=c, source="api", entry_point=number == 0
        )
        for number, c in enumerate(cameras)
    ]
    await log.append_all([new(event, event.camera_id) for event in events])


@contextlib.asynccontextmanager
async def deciding(log: EventLog) -> AsyncIterator[tuple[Batch, Stage]]:
    """Run the live agents that batch and assess."""
    directory = LogCameraDirectory(log)
    await directory.open()
    batch = Batch(log, POLICY)
    options = ChannelOptions(run_size=7, on_owned=batch.on_owned)
    assess = each(Assess(directory, ZoneInfo("UTC"), Bands(), ALERT_WITHIN_SECONDS))
    async with (
        Stage(log, "batch", "batcher", options, on_run=batch.handle) as first,
        Stage(log, "assess", "assessor", handler=assess),
    ):
        yield batch, first


async def settled(log: EventLog) -> bool:
    """Say whether everything was batched and assessed."""
    groups = [b for b in await log.backlog() if b.group in ("batch", "assess")]
    return all(b.pending == 0 and b.lag == 0 for b in groups)


async def live(log: EventLog, pictures: Sequence[ObjectsDetected], *, run: int = 40) -> None:
    """Let the live agents decide a history, its clock-closes included where they fall due."""
    await register(log, dict.fromkeys(one.camera_id for one in pictures))
    async with deciding(log) as (batch, stage):
        for start in range(0, len(pictures), run):
            await log.append_all([new(one) for one in pictures[start : start + run]])
            await until(lambda: settled(log))
            await batch.tick(stage.channel)
        await until(lambda: settled(log))


async def close_all(log: EventLog) -> None:
    """Tick until the live agents have closed and assessed every batch."""
    async with deciding(log) as (batch, stage):

        async def done() -> bool:
            if not all(owner.owned for owner in stage.channel.owners):
                return False  # What it does not own, it has not folded.
            await batch.tick(stage.channel)
            closed = all(c.open is None for p in batch.partitions for c in p.cameras.values())
            return closed and await settled(log)

        await until(done)


def order(
    state: Path,
    *sets: str,
    begin: datetime = NOON - timedelta(hours=1),
    environ: Mapping[str, str] | None = None,
    **asked: Any,
) -> Order:
    """Return what `hsi replay` would order for everything since `begin`."""
    env = {"HSI_STATE_DIR": str(state), "CAMERA_TIMEZONE": "UTC", "STREAM_PARTITIONS": "2"}
    env |= environ or {}
    empty = state / "empty.env"
    empty.touch()
    settings = load_settings(empty, {**env, "FOSCAM_BASE_PATH": str(state)})
    chosen = parse_sets(list(sets), refine=bool(asked.get("refine")))
    whole = {"begin": begin.isoformat(), "end": (begin + timedelta(days=400)).isoformat(), **asked}
    changed = load_settings(empty, {**env, **chosen})
    return Order(Asked(sets=masked(chosen), **whole), chosen, settings, changed)


class Replayed(NamedTuple):
    """What a run found, with its changes."""

    result: Result
    changes: tuple[Change, ...]


async def replayed(url: str, state: Path, name: str, ordered: Order) -> Replayed:
    """Run a what-if to its end."""
    with RunFolder(state / "replays", name) as folder:
        result = await make(ordered, folder, url, lambda _: None)
        changes = tuple(Changes(folder))
    assert len(changes) == result.changed
    return Replayed(result, changes)


async def stored_payloads(log: EventLog, stream: str, *tags: str) -> list[bytes]:
    """Return the payloads of some types of event byte for byte as Redis holds them."""
    found: list[bytes] = []
    for partition in range(log.partitions):
        entries = await log.client.xrange(f"hsi:{{{partition}}}:{stream}")
        found += [f[b"data"] for _, f in entries if f[b"type"].decode().split("/")[0] in tags]
    return found


async def started(url: str, state: Path, *arguments: str) -> asyncio.subprocess.Process:
    env = {
        **os.environ,
        "REDIS_URL": url,
        "STREAM_PARTITIONS": "2",
        "HSI_STATE_DIR": str(state),
        "FOSCAM_BASE_PATH": str(state / "cameras"),
        "CAMERA_TIMEZONE": "UTC",
    }
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "hsi", "replay", *arguments),
        cwd=PROJECT_ROOT,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def called(url: str, state: Path, *arguments: str) -> tuple[int, str, str]:
    process = await started(url, state, *arguments)
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def assessments(log: EventLog) -> list[RiskAssessed]:
    return [
        envelope.event
        for partition in range(log.partitions)
        for envelope in await log.read("assessments", partition, START, 100)
        if isinstance(envelope.event, RiskAssessed)
    ]


def said(of: RiskAssessed) -> AssessmentRefined:
    """Return what a model is to have said at the time."""
    return AssessmentRefined(
        camera_id=of.camera_id,
        event_id=of.event_id,
        batch_id=of.batch_id,
        ended_at=of.ended_at,
        stage=of.stage,
        rule_score=of.score,
        model_score=3,
        score=3,
        level="low",
        summary="of then",
        reasoning="",
        model="then",
        prompt_version="1",
        prompt_sha256="0",
        raw_text="",
        tokens_in=1,
        tokens_out=1,
        seconds=0.1,
    )
