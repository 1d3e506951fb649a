"""Settings changed while everything runs: the route, the events, the agents, the batches."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.logs import new, opened
from support.serving import Served, served
from support.watching import eventually

from agents.applied import tell_settings
from agents.policies import ToldPolicies, policy_of
from agents.settings import SettingsFollower
from domain.batching import BatchPolicy
from domain.events import SYSTEM, ConfigChanged, GpuSampled, SettingsApplied
from runtime.settings import Settings
from streams.configuration import load_changed
from streams.envelope import START
from streams.log import EventLog

ROUTE = "/api/system/config"


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path) as running:
        yield running


async def changed(api: Served, status: int = 200, **body: object) -> dict[str, object]:
    answer: dict[str, object] = await api.json(ROUTE, method="PATCH", json=body, status=status)
    return answer


async def told(log: EventLog) -> list[ConfigChanged]:
    run = await log.read("system", log.partition_of(SYSTEM), START, 1000)
    return [each.event for each in run if isinstance(each.event, ConfigChanged)]


async def applied(log: EventLog) -> list[SettingsApplied]:
    run = await log.read("system", log.partition_of(SYSTEM), START, 1000)
    return [each.event for each in run if isinstance(each.event, SettingsApplied)]


async def test_a_change_is_an_event_with_who_old_and_new(api: Served) -> None:
    before = await api.json(ROUTE)
    assert (before["batch_window_seconds"], before["changed"]) == (90, {})
    assert "api_port" in before["restart_needed"]
    after = await changed(api, batch_window_seconds=120, fast_path_object_types=["dog"])
    assert after["batch_window_seconds"] == 120
    assert set(after["changed"]) == {"batch_window_seconds", "fast_path_object_types"}  # type: ignore[call-overload]
    events = {event.setting: event for event in await told(api.log)}
    window = events["BATCH_WINDOW_SECONDS"]
    assert (window.old, window.new, window.actor) == (90, 120, "anonymous")
    assert events["FAST_PATH_OBJECT_TYPES"].new == ("dog",)
    assert (await api.json(ROUTE)) == after


async def test_the_same_again_is_no_event_and_a_reset_goes_back(api: Served) -> None:
    await changed(api, retention_days=10)
    await changed(api, retention_days=10)
    assert len(await told(api.log)) == 1
    assert (await changed(api, reset=["retention_days", "log_level"]))["retention_days"] == 30
    (_, back) = await told(api.log)
    assert (back.old, back.new, back.reset) == (10, 30, True)
    assert (await load_changed(api.log)).values == {}


REFUSED: tuple[tuple[dict[str, object], str, int], ...] = (
    ({}, "invalid_body", 422),
    ({"api_port": 80}, "restart_needed", 409),
    ({"nonsense": 80}, "invalid_body", 422),
    ({"retention_days": 0}, "invalid_body", 422),
    ({"retention_days": 366}, "invalid_body", 422),
    ({"retention_days": True}, "invalid_body", 422),
    ({"detection_confidence_threshold": 1.01}, "invalid_body", 422),
    ({"log_level": "LOUD"}, "invalid_body", 422),
    ({"reset": ["api_port"]}, "invalid_body", 422),
    ({"retention_days": 3, "reset": ["retention_days"]}, "invalid_body", 422),
)


async def test_what_cannot_be_changed_is_refused(api: Served) -> None:
    for body, code, status in REFUSED:
        await api.problem(ROUTE, code, status=status, method="PATCH", json=body)
    assert await told(api.log) == []


async def test_a_change_holds_for_processes_that_start_later_and_those_that_run(
    api: Served,
) -> None:
    own = Settings(detection_confidence_threshold=0.4)
    await changed(api, detection_confidence_threshold=0.7)
    follower = SettingsFollower(api.log, own)
    stop = asyncio.Event()
    assert await follower.open(stop)
    seen: list[float] = []
    follower.live.on_change(lambda now: seen.append(now.detection_confidence_threshold))
    assert seen == [0.7]
    running = asyncio.create_task(follower.run(stop))
    await changed(api, detection_confidence_threshold=0.8, log_level="DEBUG")
    await eventually(lambda: seen[-1:] == [0.8])
    await changed(api, reset=["detection_confidence_threshold"])
    await eventually(lambda: seen[-1:] == [0.4])
    stop.set()
    await running
    assert follower.live.current.log_level == "DEBUG"


async def test_the_pipelines_settings_are_told_with_the_change(api: Served) -> None:
    await tell_settings(api.log, Settings(batch_window_seconds=60, camera_timezone="UTC"))
    await changed(api, batch_idle_timeout_seconds=10, retention_days=12)
    (_, after) = await applied(api.log)
    assert (after.batch_window_seconds, after.batch_idle_timeout_seconds) == (60, 10)
    await changed(api, retention_days=13)
    assert len(await applied(api.log)) == 2


async def test_the_fold_survives_the_loss_of_what_is_kept_beside_the_log(api: Served) -> None:
    await changed(api, log_level="WARNING")
    sampled = GpuSampled(camera_id=SYSTEM, host="h", sampled_at=datetime.now(UTC), source="none")
    await api.log.append(new(sampled, "gpu"))
    await api.log.store_snapshot("config", api.log.partition_of(SYSTEM), b"{broken")
    assert (await load_changed(api.log)).values == {"log_level": "WARNING"}


async def test_batches_take_over_what_is_told_before_they_decide(valkey_url: str) -> None:
    async with opened(valkey_url) as log:
        first = Settings(camera_timezone="UTC")
        await tell_settings(log, first)
        (begun,) = await applied(log)
        never = BatchPolicy(
            window=policy_of(begun).window * 2,
            idle=policy_of(begun).idle,
            fast_path_labels=frozenset(),
            fast_path_score=1.0,
            zone=policy_of(begun).zone,
        )
        policies = ToldPolicies(log, never)
        await policies.catch_up()
        assert policies.timeline.newest == policy_of(begun)
        await tell_settings(log, first.changed({"batch_window_seconds": 5}, "test"))
        await asyncio.gather(policies.catch_up(), policies.catch_up())
        (_, then) = await applied(log)
        last = (await log.read("system", 0, START, 10))[-1]
        assert policies.timeline.at(last.recorded_at) == policy_of(begun)
        assert policies.timeline.newest == policy_of(then)
        again = ToldPolicies(log, never)
        await again.catch_up()
        assert again.timeline.newest == policy_of(then)
        assert again.timeline.at(last.recorded_at) == policy_of(begun)
