"""A candidate beside the detector in service: it adds nothing, and goes when it breaks a limit."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.logs import Stage, all_of, box, new, quick, until
from support.serving import Served, served
from support.trials import Cameras, FixedDetector, Pictures, picture_received
from typer.testing import CliRunner

from agents.canary import Canary
from agents.detect import Detect
from agents.trial import Pair, Trial
from agents.trial_guard import DETECTOR, TrialGuard
from domain.errors import ServiceUnavailableError
from domain.events import CandidateCompared, ConfigChanged, ObjectsDetected, RetentionFinished
from domain.trials import Limits, is_canary
from hsi.__main__ import build
from runtime.settings import Settings
from streams.channel import ChannelOptions, each
from streams.configuration import Change, change_settings
from streams.live_settings import LiveSettings
from streams.names import STREAMS

__all__ = ["quick"]

pytestmark = pytest.mark.usefixtures("quick")

LIMITS = Limits(window=10, min_agreement=0.8, max_error_rate=0.1, max_latency_ms=1000.0)
CAR = box("car", 0.9)
GROUP = "trial_detector"


class House:
    """A log with its API, a detector in service that sees a car, and a candidate."""

    def __init__(self, api: Served, candidate: FixedDetector) -> None:
        self.api = api
        self.candidate = candidate
        self.canary = Canary(candidate, limit_seconds=5.0)
        self.live = api.services.live
        self.live.on_change(self._take_over)

    def _take_over(self, settings: Settings) -> None:
        self.canary.percent = settings.candidate_percent

    @asynccontextmanager
    async def stages(self, *, guarded: bool = True) -> AsyncIterator[None]:
        """Run the detect and the trial stage with the guard, as their roles do."""
        log = self.api.log
        await log.use_groups([GROUP])
        service = FixedDetector("rt-detr", CAR)
        detect = Detect(service, Pictures(), Cameras(), 0.5, self.canary)
        trial = Trial(Pair(service, self.candidate), Pictures(), limit_seconds=5.0)
        stop = asyncio.Event()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(Stage(log, "detect", "d", handler=detect))
            options = ChannelOptions(run_size=1)
            await stack.enter_async_context(Stage(log, GROUP, "t", options, handler=each(trial)))
            guard = asyncio.create_task(self._guard(stop, guarded=guarded))
            try:
                yield
            finally:
                stop.set()
                await guard

    async def _guard(self, stop: asyncio.Event, *, guarded: bool) -> None:
        if guarded:
            await TrialGuard(self.api.log, self.live, LIMITS, DETECTOR).run(stop)

    async def set(self, percent: int) -> None:
        changes = [Change("candidate_percent", self.canary.percent, percent)]
        name = f"set-{percent}-{self.live.changed.ms}"
        self.live.learn(await change_settings(self.api.log, changes, actor="ann", command=name))

    async def pictures(self, begin: int, end: int) -> None:
        names = [f"pic{number}" for number in range(begin, end)]
        await self.api.log.append_all([new(picture_received(name)) for name in names])
        await until(lambda: self.has("trials", end))

    async def has(self, stream: str, number: int) -> bool:
        return len(await all_of(self.api.log, stream)) >= number

    async def withdrawn(self) -> ConfigChanged | None:
        events = [envelope.event for envelope in await all_of(self.api.log, "system")]
        found = [e for e in events if isinstance(e, ConfigChanged) and e.actor == "trial guard"]
        assert len(found) <= 1
        return found[0] if found else None

    async def is_withdrawn(self) -> bool:
        return await self.withdrawn() is not None

    async def detections(self) -> list[ObjectsDetected]:
        found = [envelope.event for envelope in await all_of(self.api.log, "detections")]
        return [event for event in found if isinstance(event, ObjectsDetected)]


@pytest.fixture
async def house(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    async with served(valkey_url, database_url, tmp_path) as api:
        await api.register("porch")
        yield House(api, FixedDetector("new", box("car", 0.8)))


async def test_a_shadow_adds_nothing_but_comparisons(house: House) -> None:
    log = house.api.log
    async with Stage(
        log, "detect", "before", handler=Detect(house.candidate, Pictures(), Cameras(), 0.5)
    ):
        names = [f"pic{number}" for number in range(20)]
        await log.append_all([new(picture_received(name)) for name in names])
        await until(lambda: house.has("detections", 20))
    before = {name: [e.id for e in await all_of(log, name)] for name in STREAMS}
    async with house.stages():
        await until(lambda: house.has("trials", 20))
    after = {name: [e.id for e in await all_of(log, name)] for name in STREAMS}
    assert len(after.pop("trials")) == 20
    assert before.pop("trials") == []
    assert after == before


async def test_agreement_drift_and_latency_are_told_by_camera(house: House) -> None:
    async with house.stages():
        await house.pictures(0, 20)
    house.candidate.error = ServiceUnavailableError("detector", "away")
    async with house.stages():
        await house.pictures(20, 22)
    await house.api.project()
    told = await house.api.json("/api/trials")
    assert (told["configured"], told["percent"], told["changes"]) == (False, 0, [])
    assert told["limits"]["window"] == 50
    by_model = {row["candidate"]: row for row in told["cameras"]}
    good = by_model["new"]
    assert (good["camera_id"], good["pictures"], good["canaries"]) == ("porch", 20, 0)
    assert (good["matched"], good["agreement"]) == (20, 1.0)
    assert good["drift"] == pytest.approx(-0.1)
    assert (good["candidate_p50_ms"], good["candidate_version"]) == (9.0, "7")
    assert (by_model[None]["failed"], by_model[None]["error"]) == (2, "away")
    since = await house.api.json("/api/trials", params={"start_date": "2027-01-01"})
    assert since["cameras"] == []


async def test_retention_takes_old_comparisons(house: House) -> None:
    async with house.stages():
        await house.pictures(0, 3)
    await house.api.project()
    assert (await house.api.json("/api/trials"))["cameras"] != []
    later = picture_received("x").captured_at.replace(year=2027)
    await house.api.append(
        RetentionFinished(
            camera_id="system",
            cutoff=later,
            as_of=later,
            finished_at=later,
            retention_days=1,
            events_deleted=0,
            detections_deleted=0,
            gpu_stats_deleted=0,
            images_deleted=0,
            space_reclaimed=0,
        )
    )
    assert (await house.api.json("/api/trials"))["cameras"] == []


async def test_a_bad_canary_is_withdrawn_within_its_window(house: House) -> None:
    house.candidate.boxes = ()
    async with house.stages():
        await house.pictures(0, 30)
        assert not await house.is_withdrawn()  # A shadow has nothing to withdraw.
        await house.set(10)
        set_at = len(await all_of(house.api.log, "trials"))
        await house.pictures(30, 30 + LIMITS.window)
        await until(house.is_withdrawn)
        await until(lambda: house.canary.percent == 0)
        await house.pictures(30 + LIMITS.window, 60 + LIMITS.window)
    change = await house.withdrawn()
    assert change is not None
    assert (change.setting, change.old, change.new) == ("CANDIDATE_PERCENT", 10, 0)
    assert change.reason.startswith("agreement of 0.00 over ")
    assert set_at == 30
    for event in await house.detections():
        number = int(event.picture_id.removeprefix("pic"))
        assert event.canary == (event.model == "new")
        if number < 30 or number >= 30 + LIMITS.window:
            assert not event.canary
        elif event.canary:
            assert is_canary(event.picture_id, 10)
    await house.api.project()
    changes = (await house.api.json("/api/trials"))["changes"]
    assert [(each["actor"], each["new_percent"]) for each in changes] == [
        ("trial guard", 0),
        ("ann", 10),
    ]


async def test_of_every_canary_both_answers_stand_in_the_log(house: House) -> None:
    async with house.stages():
        await house.set(50)
        await house.pictures(0, 20)
    canaries = {each.picture_id for each in await house.detections() if each.canary}
    assert canaries == {f"pic{n}" for n in range(20) if is_canary(f"pic{n}", 50)}
    told = [envelope.event for envelope in await all_of(house.api.log, "trials")]
    compared = [each for each in told if isinstance(each, CandidateCompared)]
    assert {each.picture_id for each in compared if each.canary} == canaries
    for event in compared:
        assert (event.reference, event.candidate) == ("rt-detr", "new")
        assert event.boxes == ((CAR,) if event.canary else house.candidate.boxes)
    assert not await house.is_withdrawn()
    await house.api.project()
    for name in ("pic0", "pic1", *sorted(canaries)[:1]):
        lineage = await house.api.json(f"/api/files/file-{name}/lineage")
        assert lineage["pictures"][0]["detection"]["canary"] == (name in canaries)


async def test_a_candidate_that_is_down_delays_nothing_and_is_withdrawn(house: House) -> None:
    house.candidate.error = ServiceUnavailableError("detector", "away")
    async with house.stages():
        await house.set(100)
        await house.pictures(0, 10)
        await until(house.is_withdrawn)
    events = await house.detections()
    assert len(events) == 10
    assert {(event.model, event.canary) for event in events} == {("rt-detr", False)}
    change = await house.withdrawn()
    assert change is not None
    assert "failures" in change.reason


async def test_guards_that_start_later_decide_by_the_same_pictures_and_once(house: House) -> None:
    log = house.api.log
    house.candidate.boxes = ()
    async with house.stages(guarded=False):
        await house.pictures(0, 5)
        await house.set(100)
        await house.pictures(5, 15)
    assert not await house.is_withdrawn()
    stop = asyncio.Event()
    lives = [await LiveSettings.load(log, Settings()) for _ in range(2)]
    guards = [
        asyncio.create_task(TrialGuard(log, live, LIMITS, DETECTOR).run(stop)) for live in lives
    ]
    await until(lambda: all(live.current.candidate_percent == 0 for live in lives))
    stop.set()
    await asyncio.gather(*guards)
    change = await house.withdrawn()
    assert change is not None
    assert change.reason == "agreement of 0.00 over 3 of 10 pictures, below 0.8"


async def test_what_was_compared_before_the_share_was_set_does_not_count(house: House) -> None:
    house.candidate.boxes = ()
    async with house.stages():
        await house.pictures(0, 20)
        house.candidate.boxes = (CAR,)
        await house.set(100)
        await house.pictures(20, 20 + 2 * LIMITS.window)
    assert not await house.is_withdrawn()


async def test_the_command_sets_the_share_and_shows_the_table(
    house: House, valkey_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", valkey_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert "CANDIDATE_RTDETR_URL is not set" in str((await _said("set", "--percent", "10"))[1])
    monkeypatch.setenv("CANDIDATE_RTDETR_URL", "http://127.0.0.1:1")
    assert "10 % of the pictures, before 0 %" in (await _said("set", "--percent", "10"))[0]
    async with house.stages():
        await house.pictures(0, 5)
    await house.api.project()
    shown, _ = await _said("status")
    assert "porch" in shown
    assert "1.000" in shown
    told = json.loads((await _said("status", "--json"))[0])
    assert told["percent"] == 10
    assert told["cameras"][0]["drift"] == pytest.approx(-0.1)
    assert [(each["old_percent"], each["new_percent"]) for each in told["changes"]] == [(0, 10)]


async def _said(*arguments: str) -> tuple[str, Any]:
    run = CliRunner().invoke
    ended = await asyncio.to_thread(run, build("trial"), ["trial", *arguments])
    return ended.output, ended.exception
