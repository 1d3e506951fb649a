"""A trial gives way: last on the processor, and only while the main line rests."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from support.logs import box, detected
from support.trials import FixedDetector, Pictures, envelopes

from agents import app
from agents.main_line_first import LATE_MS, PATIENCE_MS, QUIET_MS, YOUNG_MS, MainLineFirst, hold_ms
from agents.trial import Pair, Trial
from domain.errors import ServiceUnavailableError
from runtime import priority
from runtime.settings import PROJECT_ROOT, Settings
from streams.main_line import Rest

NOW = 1_000_000
OLD = NOW - PATIENCE_MS
SAYS = """
import os, threading
from runtime.priority import AUTOGROUP, THREADS, give_way
threading.Thread(target=threading.Event().wait, daemon=True).start()
def group(): return AUTOGROUP.read_text().strip() if AUTOGROUP.exists() else "none"
print(group())
give_way()
print(group())
print(*{os.sched_getscheduler(int(each.name)) == os.SCHED_IDLE for each in THREADS.iterdir()})
"""


def rest(quiet_ms: int = 1_000, *, busy: bool = False) -> Rest:
    return Rest(NOW, NOW - quiet_ms, busy)


def test_a_main_line_at_rest_holds_nothing_back() -> None:
    assert hold_ms(rest(), NOW - YOUNG_MS, 0) == 0
    assert hold_ms(rest(QUIET_MS), NOW - YOUNG_MS, 0) == 0
    assert hold_ms(rest(QUIET_MS - 1), NOW - YOUNG_MS, 0) == 1
    assert hold_ms(Rest(NOW, 0, busy=False), NOW - YOUNG_MS, 0) == 0  # Nothing ever happened.


def test_a_young_picture_lets_others_gather() -> None:
    assert hold_ms(rest(), NOW, 0) == YOUNG_MS
    assert hold_ms(rest(), NOW - YOUNG_MS + 1, 0) == 1


def test_a_busy_main_line_holds_back_for_a_bounded_time() -> None:
    assert hold_ms(rest(busy=True), NOW - YOUNG_MS, 0) > 0
    assert 0 < hold_ms(rest(busy=True), OLD, 0) <= LATE_MS
    assert hold_ms(rest(busy=True), OLD, LATE_MS) == 0
    assert hold_ms(rest(0), OLD, LATE_MS) == 0
    assert hold_ms(rest(busy=True), NOW + 3_600_000, PATIENCE_MS) == 0  # The log's clock was set.


async def test_stopping_ends_every_wait() -> None:
    async def busy() -> Rest:
        return rest(busy=True)

    first = MainLineFirst(busy)
    turn = asyncio.create_task(first.turn(NOW))
    await asyncio.sleep(0)
    assert not turn.done()
    first.stopping.set()
    await asyncio.wait_for(turn, 2)
    await first.turn(NOW)


async def test_without_redis_nothing_is_waited_for() -> None:
    async def away() -> Rest:
        raise ServiceUnavailableError("redis", "away")

    await asyncio.wait_for(MainLineFirst(away).turn(NOW), 2)


async def test_a_shadow_waits_and_a_canary_does_not() -> None:
    waited: list[int] = []

    async def turn(recorded_ms: int) -> None:
        assert not candidate.calls
        waited.append(recorded_ms)

    service, candidate = FixedDetector("rt-detr", box()), FixedDetector("new", box())
    trial = Trial(Pair(service, candidate), Pictures(), limit_seconds=1.0, turn=turn)
    shadow, canary, failed = envelopes(
        [
            detected("a"),
            msgspec.structs.replace(detected("b"), canary=True),
            msgspec.structs.replace(detected("c"), candidate_failure="away"),
        ]
    )
    for envelope in (shadow, canary, failed):
        await trial(envelope)
    assert waited == [shadow.position.ms]
    assert (service.calls, candidate.calls) == (1, 1)


async def test_the_role_gives_way_where_it_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    async def never(*_: object) -> None:
        return None

    monkeypatch.setattr(app, "give_way", lambda: given.append("way"))
    monkeypatch.setattr(app, "open_patiently", never)
    await app.run_roles(Settings(), ["detect", "trial"])
    assert given == []
    await app.run_roles(Settings(), ["trial"])
    assert given == ["way"]


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="Linux alone knows SCHED_IDLE")
@pytest.mark.parametrize("own", [True, False])
def test_only_a_session_of_its_own_is_weighed_down(own: bool) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-c", SAYS],
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        check=True,
        text=True,
        start_new_session=own,
    )
    before, after, idle = ended.stdout.splitlines()
    assert idle == "True"  # Each thread.
    if own and before != "none":
        assert after.endswith("nice 19")
    else:
        assert after == before


def test_where_that_is_refused_a_nice_value_must_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[int] = []

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse, raising=False)
    monkeypatch.setattr(os, "nice", given.append)
    monkeypatch.setattr(os, "getsid", lambda _: os.getpid())
    monkeypatch.setattr(priority, "AUTOGROUP", tmp_path / "nowhere" / "autogroup")
    priority.give_way()
    assert given == [19]
