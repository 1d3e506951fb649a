"""When a process is started again, when it is given up, and what stopping one service means."""

import asyncio
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from domain.events import (
    SYSTEM,
    ProcessFacts,
    ServiceAction,
    ServiceControlRequested,
    ServiceStateChanged,
    ServiceStatus,
)
from hsi.control import decide, event_of
from hsi.keeper import MOST_RESTARTS, BackOff, ChildWatch, Keeper, KeeperOptions
from hsi.plan import Role
from hsi.processes import Keeping, Off, ServiceProcess
from streams.envelope import Envelope, Position
from streams.supervised import FORGOTTEN_MS, Request, Supervised

AT = datetime(2026, 3, 1, tzinfo=UTC)


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def read(self) -> float:
        return self.now

    async def pause(self, stopping: asyncio.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return stopping.is_set()


async def test_a_process_that_is_killed_again_and_again_follows_the_schedule_then_has_failed(
    tmp_path: Path,
) -> None:
    clock, ends, said, watch = Clock(), [], list[str](), ChildWatch()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, watch.wake)
    role = Role(
        name="flapping",
        argv=("/bin/sh", "-c", "kill -9 $$"),
        env={},
        log=tmp_path / "log",
        contains=("flapping",),
    )
    options = KeeperOptions(
        limit=MOST_RESTARTS,
        on_end=lambda: ends.append(keeper.failed),
        clock=clock.read,
        pause=clock.pause,
    )
    keeper = Keeper(role, watch, said.append, lambda: None, options)
    assert await asyncio.wait_for(keeper.keep(), 60) == -signal.SIGKILL
    loop.remove_signal_handler(signal.SIGCHLD)
    assert clock.waits == [0, 5, 10, 20, 40]
    assert (keeper.failed, keeper.restarts, keeper.failures) == (True, 5, 6)
    assert ends == [False] * 5 + [True]
    assert (
        "ended with signal SIGKILL, 6 times on end: it is given up until somebody enables it"
        in said[-1]
    )
    assert keeper.tried.is_set()


def test_one_that_ran_for_a_minute_begins_the_schedule_anew() -> None:
    backoff = BackOff(limit=2)
    assert [backoff.next(1), backoff.next(1), backoff.next(60), backoff.next(1)] == [0, 5, 0, 5]
    assert backoff.next(1) is None
    forever = BackOff()
    assert all(forever.next(1) is not None for _ in range(50))


@pytest.fixture
def process(tmp_path: Path) -> ServiceProcess:
    """Give a process of three services that was started with all of them, without starting it."""
    made = _process(tmp_path)
    made._running = made.services
    return made


def _process(folder: Path) -> ServiceProcess:
    def make(services: tuple[str, ...]) -> Role:
        return Role(
            name="pipeline",
            argv=(sys.executable, "-c", "", *services),
            env={},
            log=folder / "log",
            contains=services,
        )

    keeping = Keeping(
        watch=ChildWatch(),
        say=lambda _: None,
        launch=lambda work: work.close(),
        changed=lambda _: None,
        hurry=asyncio.Event(),
        host="here",
    )
    return ServiceProcess("pipeline", ("watch", "detect", "batch"), make, keeping)


def asked(service: str, action: ServiceAction) -> Request:
    return Request("r", service, action, "ann", 0)


def test_stopping_one_service_leaves_the_others_of_its_process(process: ServiceProcess) -> None:
    assert decide(process, asked("detect", "stop")) is True
    assert list(process.wanted) == ["watch", "batch"]
    states = {state.service: state for state in process.states()}
    assert (states["detect"].status, states["detect"].message) == ("stopped", "stopped by ann")
    assert states["detect"].facts.enabled is True
    process.start()
    assert process.keeper is not None
    assert process.keeper.role.contains == ("watch", "batch")
    assert decide(process, asked("detect", "stop")) is False
    assert decide(process, asked("detect", "start")) is True
    assert list(process.wanted) == ["watch", "detect", "batch"]


def test_what_is_disabled_is_not_started_by_anything_but_enable(process: ServiceProcess) -> None:
    assert decide(process, asked("detect", "disable")) is True
    process.start()
    for action in ("start", "restart", "stop", "disable"):
        assert decide(process, asked("detect", action)) is False
        assert process.off == {"detect": Off("disabled", "ann")}
    (state,) = (each for each in process.states() if each.service == "detect")
    assert (state.status, state.facts.enabled, state.facts.by) == ("disabled", False, "ann")
    assert decide(process, asked("detect", "enable")) is True
    assert process.off == {}


def test_without_any_wanted_service_there_is_no_process(process: ServiceProcess) -> None:
    for service in process.services:
        decide(process, asked(service, "stop"))
    process.start()
    assert process.keeper is None
    assert process.answered.is_set()
    assert decide(process, asked("watch", "restart")) is True


def test_an_answer_has_the_same_id_whoever_gives_it_and_when(process: ServiceProcess) -> None:
    state = next(process.states())
    first, again = event_of(state, "r"), event_of(state, "r")
    assert first.id == again.id
    assert first.event != again.event  # told at another moment
    assert event_of(state, "other").id != first.id
    assert event_of(state, "").id != event_of(state, "").id


async def test_enabling_a_failed_process_counts_anew(process: ServiceProcess) -> None:
    process.start()
    assert process.keeper is not None
    process.keeper.failed = True
    assert {state.status for state in process.states()} == {"failed"}
    assert decide(process, asked("detect", "enable")) is True
    process.start()
    assert {state.facts.failure_count for state in process.states()} == {0}


# --- the fold that both sides read ----------------------------------------------------------


def entry(ms: int, event: ServiceControlRequested | ServiceStateChanged, new_id: str) -> Envelope:
    return Envelope(
        id=new_id,
        event=event,
        stream="system",
        partition=0,
        position=Position(ms, 0),
        occurred_at=AT,
        correlation_id=new_id,
        causation_id="",
    )


def request_at(ms: int, new_id: str, service: str = "detect") -> Envelope:
    event = ServiceControlRequested(
        camera_id=SYSTEM, service=service, action="stop", actor="ann", requested_at=AT
    )
    return entry(ms, event, new_id)


def word_at(
    ms: int, status: ServiceStatus, *, answers: str = "", enabled: bool = True
) -> Envelope:
    facts = ProcessFacts(
        process="pipeline", host="here", enabled=enabled, by="ann", answers=answers
    )
    event = ServiceStateChanged(
        camera_id=SYSTEM,
        service="detect",
        status=status,
        message="so it is",
        changed_at=AT + timedelta(milliseconds=ms),
        process=facts,
    )
    return entry(ms, event, f"w{ms}")


def test_a_request_is_open_until_it_is_answered_and_entries_count_once() -> None:
    fold = Supervised()
    for envelope in (request_at(1, "a"), request_at(2, "b"), word_at(3, "starting")):
        fold = fold.evolve(envelope)
    assert [each.id for each in fold.requests] == ["a", "b"]
    fold = fold.evolve(word_at(4, "disabled", answers="a", enabled=False))
    assert [each.id for each in fold.requests] == ["b"]
    assert fold.disabled == {"detect": "ann"}
    assert fold.evolve(request_at(1, "a")) is fold
    assert fold.evolve(word_at(5, "running")).disabled == {}


def test_a_request_that_nobody_answers_is_forgotten() -> None:
    fold = Supervised().evolve(request_at(1, "a")).evolve(request_at(2 + FORGOTTEN_MS, "b"))
    assert [each.id for each in fold.requests] == ["b"]
