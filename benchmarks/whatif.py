"""`hsi replay` with the recorded detections: a week's pictures through another threshold.

The log holds what four cameras with a picture each ten seconds leave behind: what was detected,
and the batches and assessments that the same rules make of it, so that both sides of the
comparison have their work. Half of the pictures show nothing that counts. One process reads,
decides, writes its segments and compares; filling the log is not part of the time.
"""

import asyncio
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.support import servers
from domain import ids
from domain.batching import BatchPolicy, CameraBatches, decide, evolve, next_deadline
from domain.batching import expire as expired
from domain.events import BatchClosed, BatchEscalated, Box, Event, ObjectsDetected
from domain.risk import Bands, CameraView, assess
from hsi.whatif.folder import Asked, RunFolder
from hsi.whatif.make import Order, make
from hsi.whatif.result import Result
from hsi.whatif.wishes import masked, parse_sets, tunables_of
from runtime.settings import load_settings
from streams.envelope import NewEvent
from streams.log import EventLog

CAMERAS = 4
SECONDS_BETWEEN = 10
FILL_RUN = 400
BANDS = Bands()
FULL = 240_000
PART = 24_000


def run(*, full: bool) -> dict[str, float]:
    """Return pictures a second and the whole run's seconds."""
    pictures = FULL if full else PART
    with servers() as embedded:
        assert embedded.redis_url is not None
        return asyncio.run(_measure(embedded.redis_url, pictures))


async def _measure(url: str, pictures: int) -> dict[str, float]:
    state = Path(tempfile.mkdtemp(prefix="hsi-bench-", dir="/tmp"))
    try:
        await _fill(url, pictures)
        before = _peak_mib()
        same = await _replay(url, state)
        assert not same.changed, f"unchanged settings differ: {same.counts}"
        unchanged_peak = _peak_mib()
        began = time.perf_counter()
        changed = await _replay(url, state, "DETECTION_CONFIDENCE_THRESHOLD=0.6")
        seconds = time.perf_counter() - began
        assert changed.changed, "a higher threshold changes something"
        return {
            "pictures_per_s": round(pictures / seconds),
            "seconds": round(seconds, 2),
            "times_real_time": round(pictures * SECONDS_BETWEEN / CAMERAS / seconds),
            "unchanged_seconds": same.seconds,
            "unchanged_growth_mib": round(unchanged_peak - before, 1),
            "changed_growth_mib": round(_peak_mib() - before, 1),
            "pictures": pictures,
            "events": changed.events_before,
            "changed_events": changed.changed,
        }
    finally:
        shutil.rmtree(state, ignore_errors=True)


async def _replay(url: str, state: Path, *sets: str) -> Result:
    chosen = parse_sets(list(sets), refine=False)
    empty = state / "empty.env"
    empty.touch()
    env = {"HSI_STATE_DIR": str(state), "CAMERA_TIMEZONE": "UTC"}
    settings = load_settings(empty, env)
    asked = Asked(begin=_begin().isoformat(), end="2100-01-01T00:00+00:00", sets=masked(chosen))
    order = Order(asked, chosen, settings, load_settings(empty, {**env, **chosen}))
    with RunFolder(state / "replays", f"run-{len(sets)}") as folder:
        return await make(order, folder, url, lambda _: None)


def _begin() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)


def _detected(number: int) -> ObjectsDetected:
    camera, turn = f"camera_{number % CAMERAS}", number // CAMERAS
    picture = ids.picture_id(camera, f"{number:064x}", _begin())
    score = 0.05 + (number * 7919 % 940) / 1000
    return ObjectsDetected(
        camera_id=camera,
        picture_id=picture,
        file_id=ids.file_id(camera, picture, "", number),
        uri=f"camera:{camera}/{number:08}.jpg",
        captured_at=_begin() + timedelta(seconds=SECONDS_BETWEEN * turn),
        width=1920,
        height=1080,
        boxes=(
            Box(label="person", score=score, x=100.5, y=200.25, width=80.0, height=220.5),
            Box(label="car", score=score / 2, x=900.0, y=500.0, width=300.5, height=150.25),
        ),
        threshold=0.5,
        model="bench",
        model_version="1",
        engine="embedded",
        inference_ms=1.0,
    )


async def _fill(url: str, pictures: int) -> None:
    """Append the pictures, then what the live agents would have made of them."""
    log = await EventLog.open(url)
    try:
        policy = _policy()
        states = {f"camera_{number}": CameraBatches() for number in range(CAMERAS)}
        for start in range(0, pictures, FILL_RUN):
            events = [_detected(n) for n in range(start, min(start + FILL_RUN, pictures))]
            positions = await log.append_all([_new(event) for event in events])
            follow_ups: list[Event] = []
            for event, position in zip(events, positions, strict=True):
                state = states[event.camera_id]
                made = decide(state, policy, event, position.recorded_at)
                follow_ups += made
                for one in made:
                    state = evolve(state, policy, one)
                states[event.camera_id] = state
            await _append(log, follow_ups, policy)
        for camera, state in states.items():
            deadline = next_deadline(state, policy)
            if deadline is not None:
                await _append(log, list(expired(state, policy, camera, deadline)), policy)
        await _handled(log)
    finally:
        await log.close()


async def _append(log: EventLog, events: list[Event], policy: BatchPolicy) -> None:
    assessed = [
        assess(event, CameraView(event.camera_id, entry_point=False), policy.zone, BANDS)
        for event in events
        if isinstance(event, BatchClosed | BatchEscalated)
    ]
    await log.append_all([_new(event) for event in [*events, *assessed]])


async def _handled(log: EventLog) -> None:
    """Let the batching group stand at the end, as if it had decided all this."""
    for partition in range(log.partitions):
        name = f"hsi:{{{partition}}}:detections"
        await log.client.xgroup_setid(name, "batch", id="$")


def _policy() -> BatchPolicy:
    settings = load_settings(Path(os.devnull), {"CAMERA_TIMEZONE": "UTC"})
    return tunables_of(settings).knobs().policy


_numbers: Iterator[int] = iter(range(10**9))


def _new(event: Event) -> NewEvent:
    return NewEvent(id=f"e{next(_numbers)}", event=event, correlation_id="bench")


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
