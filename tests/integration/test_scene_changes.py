"""The scene role on the log: baselines outlive processes, a change is said once, people decide."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from support.logs import NOON, Stage, all_of, new, opened, quick, until
from support.scenes import Pixels, black, dimmed, elsewhere, lamp, put, shifted, somebody, yard

import agents.scene as scene_module
from agents.scene import SceneOptions, Scenes
from domain.events import (
    Event,
    ImageReceived,
    SceneBaselineSet,
    SceneChangeAcknowledged,
    SceneChanged,
    SceneChecked,
    SceneRestored,
)
from inference.pictures import PictureStore
from streams.archive import Archive
from streams.channel import ChannelOptions
from streams.envelope import START
from streams.log import EventLog
from streams.names import key, stream_key
from streams.trim import Bound, trim

pytestmark = pytest.mark.usefixtures("quick")
__all__ = ["quick"]


@dataclass
class Known:
    """The cameras as somebody has configured them."""

    off: set[str] = field(default_factory=set)
    thresholds: dict[str, float] = field(default_factory=dict)

    def enabled(self, camera_id: str) -> bool:
        return camera_id not in self.off

    def scene_threshold(self, camera_id: str) -> float | None:
        return self.thresholds.get(camera_id)


async def at_once(recorded_ms: int) -> None:
    """Let every picture through at once, as where nothing else is to be done."""


@dataclass
class Watched:
    """A camera folder and a log; `checking` runs the role over both."""

    log: EventLog
    base: Path
    known: Known = field(default_factory=Known)
    archive: Path | None = None
    seconds: float = 0.0

    async def sees(
        self, view: Pixels, *, camera: str = "yard", after: float = 5.0
    ) -> ImageReceived:
        """Let a camera take a picture `after` seconds after the last one."""
        self.seconds += after
        taken = NOON + timedelta(seconds=self.seconds)
        picture = put(self.base, camera, f"{self.seconds:g}", view, taken)
        await self.log.append(new(picture))
        return picture

    async def settled(self) -> list[Event]:
        """Return what the role has said, once it has seen all pictures."""
        await until(self.idle)
        return [envelope.event for envelope in await all_of(self.log, "scenes")]

    async def idle(self) -> bool:
        backlog = next(each for each in await self.log.backlog() if each.group == "scene")
        return backlog.left == 0

    async def changes(self) -> list[SceneChanged]:
        return [event for event in await self.settled() if isinstance(event, SceneChanged)]

    async def verdicts(self) -> list[str]:
        return [event.verdict for event in await self.settled() if isinstance(event, SceneChecked)]

    def stage(self, consumer: str) -> tuple[Scenes, Stage]:
        store = PictureStore(self.base, self.base / "frames")
        options = SceneOptions()
        scenes = Scenes(self.log, store, self.known, options, at_once, archive_dir=self.archive)
        reading = ChannelOptions(run_size=5, pace_seconds=0.02, on_owned=scenes.on_owned)
        return scenes, Stage(self.log, "scene", consumer, reading, on_run=scenes.handle)

    @asynccontextmanager
    async def checking(self, consumer: str = "one") -> AsyncIterator[Scenes]:
        """Run the role meanwhile."""
        scenes, stage = self.stage(consumer)
        async with stage:
            yield scenes


@pytest.fixture
async def watched(valkey_url: str, tmp_path: Path) -> AsyncIterator[Watched]:
    async with opened(valkey_url) as log:
        await log.use_groups(["scene"])
        yield Watched(log, tmp_path)


async def test_a_covered_lens_is_said_once_and_nothing_else_is(watched: Watched) -> None:
    """Day, people, dusk, night: nothing. A covered lens: once. Uncovered: over."""
    day = yard()
    async with watched.checking():
        for number in (1, 3, 6):
            await watched.sees(yard(f"yard-1-0{number}"))
        await watched.sees(somebody(day, 0.35))
        await watched.sees(dimmed(day, 0.5))
        await watched.sees(dimmed(lamp(day), 0.9))
        assert await watched.changes() == []
        assert len(await watched.verdicts()) == 5
        covered = [await watched.sees(black(day)) for _ in range(3)]
        await watched.sees(lamp(day))
        (said,) = await watched.changes()
        *_, restored = await watched.settled()
    assert (said.change_type, said.severity) == ("view_blocked", "high")
    assert said.similarity < 0.1
    assert said.baseline.uri == "camera:yard/5.jpg"
    assert said.view.picture_id == covered[0].picture_id
    assert isinstance(restored, SceneRestored)
    assert restored.change_ids == (said.change_id,)


async def test_pictures_come_faster_than_they_are_checked(watched: Watched) -> None:
    watched.known.off.add("off")
    async with watched.checking():
        for _ in range(10):
            await watched.sees(yard(), after=1.5)
        await watched.sees(yard(), camera="off")
        assert len(await watched.settled()) == 3
        assert await watched.verdicts() == ["same"] * 2


async def test_a_baseline_outlives_every_process(watched: Watched) -> None:
    async with watched.checking("one"):
        first = await watched.sees(yard())
        await watched.settled()
    async with watched.checking("two") as scenes:
        await watched.sees(yard("yard-1-04"))
        await watched.sees(shifted(yard(), 120))
        (said,) = await watched.changes()
        folded = scenes.partitions[0].cameras
    assert said.change_type == "angle_changed"
    assert said.baseline.picture_id == first.picture_id
    fresh, _ = watched.stage("three")
    await fresh.on_owned(0)
    assert fresh.partitions[0].cameras == folded
    async with watched.checking("three"):
        await watched.sees(shifted(yard(), 120))
        assert len(await watched.changes()) == 1


async def test_an_acknowledged_view_is_what_is_compared_with(watched: Watched) -> None:
    turned = shifted(yard(), 150)
    async with watched.checking() as scenes:
        await watched.sees(yard())
        await watched.sees(turned)
        (said,) = await watched.changes()
        seen = SceneChangeAcknowledged(camera_id="yard", change_id=said.change_id, actor="ann")
        # People append to the stream that the role folds: it must not decide past them.
        await watched.log.append(new(seen, said.change_id))
        await watched.sees(turned)
        await watched.sees(yard())
        _, other = await watched.changes()
        views = scenes.partitions[0].views
        assert await views.load(said.baseline.picture_id) is None
    assert (await watched.verdicts())[1:] == ["same", "angle_changed"]
    assert other.baseline == said.view
    stored = await watched.log.client.hkeys(key(0, "scene-views"))
    assert {name.decode() for name in stored} == {said.view.picture_id, other.view.picture_id}


async def test_a_process_that_is_killed_at_any_point_says_a_change_once(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes, stage = watched.stage("killed")
    hanging = asyncio.Event()

    async def hang(*_: object) -> None:
        hanging.set()
        await asyncio.Event().wait()

    await watched.sees(yard())
    await watched.sees(black(yard()))
    monkeypatch.setattr(scenes.partitions[0].views, "store", hang)
    await stage.start()
    await hanging.wait()  # The view is decided on and nothing is settled.
    await stage.crash()
    async with watched.checking("two"):
        assert len(await watched.changes()) == 1
        for envelope in await all_of(watched.log, "files"):  # Handed out again, as new entries.
            fields = watched.log.codec.encode(new(envelope.event))
            again = dict(zip(fields[::2], fields[1::2], strict=True))
            await watched.log.client.xadd(stream_key(0, "files"), again)
        assert len(await watched.changes()) == 1
    ids = [envelope.id for envelope in await all_of(watched.log, "scenes")]
    assert len(set(ids)) == len(ids) == 3


async def test_lost_views_are_made_anew_and_lost_baselines_too(watched: Watched) -> None:
    async with watched.checking():
        first = await watched.sees(yard())
        await watched.settled()
        await watched.log.client.delete(key(0, "scene-views"))
        await watched.sees(yard("yard-1-02"))
        assert await watched.verdicts() == ["same"]
        (watched.base / first.path).write_bytes(b"overwritten")
        other = await watched.sees(elsewhere())
        *_, begun = await watched.settled()
        assert isinstance(begun, SceneBaselineSet)
        assert (begun.reason, begun.view.picture_id) == ("lost", other.picture_id)
        gone = await watched.sees(black(yard()))
        (watched.base / gone.path).unlink()
        await watched.sees(elsewhere())
        assert await watched.changes() == []
    assert await all_of(watched.log, "parked") == []


async def test_a_camera_may_have_a_threshold_of_its_own(watched: Watched) -> None:
    watched.known.thresholds["lax"] = 0.5
    half = somebody(somebody(yard(), 0.35, 0.0), 0.35, 0.6)
    async with watched.checking():
        for camera in ("strict", "lax"):
            watched.known.thresholds.setdefault("strict", 1.0)
            await watched.sees(yard(), camera=camera)
            await watched.sees(half, camera=camera)
            await watched.sees(half, camera=camera)
        thresholds = [e.threshold for e in await watched.settled() if isinstance(e, SceneChecked)]
    assert thresholds == [1.0, 1.0, 0.5, 0.5]


async def test_the_fold_begins_at_a_snapshot_once_the_stream_is_trimmed(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene_module, "SNAPSHOT_EVERY", 2)
    watched.archive = tmp_path / "archive"
    async with watched.checking() as scenes:
        await watched.sees(yard())
        for _ in range(3):
            await watched.sees(yard("yard-1-02"))
        await watched.settled()
        folded = scenes.partitions[0].cameras
    await Archive(watched.log, watched.archive).run()
    end = await watched.log.newest("scenes", 0)
    await trim(watched.log, Bound("scenes", 0, end, "test"))
    assert len(await watched.log.read("scenes", 0, START, 100)) == 1
    fresh, _ = watched.stage("two")
    await fresh.on_owned(0)
    assert fresh.partitions[0].cameras == folded


async def test_two_processes_check_every_picture_once(watched: Watched) -> None:
    async with AsyncExitStack() as stack:
        for consumer in ("one", "two"):
            await stack.enter_async_context(watched.checking(consumer))
        for _ in range(6):
            await watched.sees(yard("yard-1-02"))
        await watched.sees(black(yard()))
        assert len(await watched.verdicts()) == 6
        assert len(await watched.changes()) == 1
