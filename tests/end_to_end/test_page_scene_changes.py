"""A lens is covered: the page shows what was and what is, and a click makes it the baseline."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from support.browser import CHROMIUM, browsing
from support.logs import NOON, Stage, quick, until
from support.scenes import Pixels, put, shifted, yard
from support.serving import Served, served

from agents.cameras import LogCameraDirectory
from agents.scene import SceneOptions, Scenes
from domain.scene_changes import SceneState
from inference.pictures import PictureStore
from streams.channel import ChannelOptions

pytestmark = [
    pytest.mark.usefixtures("quick"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]
__all__ = ["quick"]


async def at_once(recorded_ms: int) -> None:
    """Let every picture through at once."""


@asynccontextmanager
async def checking(api: Served) -> AsyncIterator[Scenes]:
    """Run the scene role over the API's log and folders."""
    await api.log.use_groups(["scene"])
    store = PictureStore(api.base, api.base / "frames")
    directory = LogCameraDirectory(api.log)
    scenes = Scenes(api.log, store, directory, SceneOptions(), at_once)
    options = ChannelOptions(pace_seconds=0.02, on_owned=scenes.on_owned)
    async with Stage(api.log, "scene", "one", options, on_run=scenes.handle):
        yield scenes


async def test_a_turned_camera_is_shown_and_acknowledged_on_the_page(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    base = tmp_path / "cameras"
    base.mkdir()
    async with served(valkey_url, database_url, base, projecting=True) as api:
        await api.register("yard")

        async def sees(view: Pixels, seconds: int) -> str:
            taken = NOON + timedelta(seconds=seconds)
            picture = put(base, "yard", f"{seconds}", view, taken)
            await api.append(picture)
            return picture.picture_id

        async with (
            checking(api) as scenes,
            browsing(str(api.client.make_url("/")), tmp_path / "profile") as page,
        ):
            await page.until("document.querySelector('#live')?.textContent === 'live'")
            assert await page.evaluate("document.querySelector('#scene-changes').hidden")
            before, turned = await sees(yard(), 0), await sees(shifted(yard(), 120), 10)
            await page.until("document.querySelector('article.scene')")
            said = "document.querySelector('article.scene').textContent"
            text = await page.evaluate(said)
            assert all(part in text for part in ("yard", "angle changed", "similarity"))
            pictures = "[...document.querySelectorAll('article.scene a')].map(a => a.pathname)"
            assert await page.evaluate(pictures) == [
                f"/api/pictures/{before}/image",
                f"/api/pictures/{turned}/image",
            ]
            shown = "[...document.querySelectorAll('article.scene img')]"
            await page.until(f"{shown}.every(image => image.complete && image.naturalWidth)")
            await page.evaluate("document.querySelector('article.scene button').click()")
            await page.until("document.querySelector('#scene-changes').hidden")
            await sees(shifted(yard(), 120), 20)

            def adopted() -> bool:
                states = [each.cameras.get("yard", SceneState()) for each in scenes.partitions]
                baselines = [state.baseline for state in states if state.baseline]
                return [view.picture_id for view in baselines] == [turned]

            await until(adopted)
        (row,) = (await api.json("/api/cameras/yard/scene-changes"))["scene_changes"]
        assert row["acknowledged"]
