"""A reset of a breaker through the API and the log: the stage tries its service at once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from support.histories import image, seen
from support.logs import Stage, until
from support.serving import Served, new, served
from support.watching import eventually

from agents.breakers import BreakerResets
from agents.services import ServiceWatch
from agents.settings import SettingsFollower
from domain.errors import ServiceUnavailableError
from domain.events import BreakerResetRequested
from domain.outcomes import Done, Outcome
from runtime.settings import Settings
from runtime.tasks import end
from streams.channel import ChannelOptions
from streams.envelope import START, Envelope

ROUTE = "/api/system/circuit-breakers"


class Detector:
    """Away until somebody turns it on."""

    def __init__(self) -> None:
        self.on = False
        self.asked = 0

    async def check(self) -> str:
        raise ServiceUnavailableError("detector", "the check must not be what opens the gate")

    async def __call__(self, envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
        self.asked += 1
        if not self.on:
            raise ServiceUnavailableError("detector", "connection refused")
        return [Done((seen(envelope.event),)) for envelope in envelopes]


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(
        valkey_url,
        database_url,
        tmp_path,
        config=lambda config: replace(config, breaker_wait_seconds=20.0),
    ) as running:
        yield running


@asynccontextmanager
async def detecting(api: Served, detector: Detector) -> AsyncIterator[Stage]:
    """Run one process's detect stage, as agents.app puts it together."""
    log, stop = api.log, asyncio.Event()
    watch = ServiceWatch(log, "detector", detector.check)
    options = ChannelOptions(run_size=8, on_state=watch.gate_of("detect"))
    async with Stage(log, "detect", "one", options, handler=detector) as stage:
        follower = SettingsFollower(log, Settings())
        assert await follower.open(stop)
        resets = BreakerResets(log, [stage.channel], "one")
        follower.hearers.append(resets.hear)
        tasks = [asyncio.create_task(run(stop)) for run in (watch.run, follower.run, resets.run)]
        try:
            yield stage
        finally:
            await end(*tasks)


async def paused(api: Served) -> bool:
    return api.services.states.gate("detector", "detect") is True


async def test_a_reset_tries_the_service_at_once_and_says_what_came_of_it(api: Served) -> None:
    detector = Detector()
    async with detecting(api, detector) as stage:
        await api.log.append_all([new(image(number)) for number in range(3)])
        await until(lambda: stage.channel.gate.closed)
        await eventually(lambda: paused(api), seconds=20)
        # given waits that have grown far beyond this test
        for feed in stage.channel.feeds:
            feed._probe_at = float("inf")
        asked, stage.channel.gate.failures = detector.asked, 9
        # when it is reset while the service is away, then that is tried, and said
        told = await api.json(f"{ROUTE}/detect/reset", method="POST")
        assert (told["success"], told["tried"], told["process"]) == (False, "failed", "one")
        assert "detector is still away; waits begin anew" in told["message"]
        assert told["circuit_breaker"]["state"] == "open"
        assert detector.asked > asked
        assert stage.channel.gate.failures < 9
        # when the service is back, then work goes on at once
        for feed in stage.channel.feeds:
            feed._probe_at = float("inf")
        detector.on = True
        told = await api.json(f"{ROUTE}/detect/reset", method="POST")
        assert (told["success"], told["tried"]) == (True, "passed")
        await until(lambda: not any(feed.in_hand for feed in stage.channel.feeds))
        once = {"Idempotency-Key": "once"}
        told = await api.json(f"{ROUTE}/detect/reset", method="POST", headers=once)
        assert (told["success"], told["tried"]) == (True, "was_closed")
        # when a request is sent again, then it has one effect
        again = await api.json(f"{ROUTE}/detect/reset", method="POST", headers=once)
        assert again == told
        run = await api.log.read("system", api.log.partition_of("system"), START, 100)
        assert sum(isinstance(each.event, BreakerResetRequested) for each in run) == 3
    await api.project()
    audit = await api.json("/api/audit?action=reset_circuit_breaker")
    assert [each["outcome"] for each in audit["entries"]] == ["success"] * 4


async def test_what_cannot_be_reset_is_said(api: Served) -> None:
    said = await api.problem(
        f"{ROUTE}/x/reset", "circuit_breaker_not_found", status=404, method="POST"
    )
    assert "there are detect, " in said["detail"]
    path = f"{ROUTE}/refine/reset"
    await api.problem(path, "stage_not_heard_of", status=409, method="POST")
    # A stage that was heard of once, and runs no more.
    async with detecting(api, Detector()) as stage:
        await api.log.append_all([new(image(1))])
        await until(lambda: stage.channel.gate.closed)
        await eventually(lambda: paused(api), seconds=20)
    object.__setattr__(api.services.config, "breaker_wait_seconds", 0.1)
    path = f"{ROUTE}/detect/reset"
    said = await api.problem(path, "stage_silent", status=504, method="POST")
    assert "no process of the stage detect answered within 0.1 s" in said["detail"]
