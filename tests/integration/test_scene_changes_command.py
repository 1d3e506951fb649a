"""`hsi scene-changes tune` over a real log: what each threshold would have said."""

import asyncio
import json
from pathlib import Path

import pytest
from support.logs import new
from support.scenes import Camera
from typer.testing import CliRunner, Result

from domain.scene_changes import Look
from hsi.scene_changes import app
from streams.log import EventLog

LOOKS = [Look(0.95, 1.0, 0.0), *[Look(0.5, 0.5, 0.0)] * 2, Look(0.02, 0.0, 1.0)]


@pytest.fixture
def filled(
    valkey_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", valkey_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    camera = Camera()
    for number, look in enumerate(LOOKS):
        camera.sees(5.0 * number, look)

    async def fill() -> None:
        log = await EventLog.open(valkey_url)
        told = [new(event, str(number)) for number, event in enumerate(camera.events)]
        await log.append_all(told)
        await log.close()

    asyncio.run(fill())


def hsi(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["tune", *arguments], env={"COLUMNS": "200"})


@pytest.mark.usefixtures("filled")
def test_each_threshold_says_what_it_would_have_said() -> None:
    told = json.loads(hsi("--json").stdout)["cameras"]["yard"]
    assert told["checked"] == 3
    counts = {row["threshold"]: row["count"] for row in told["changes"]}
    assert (counts[0.5], counts[0.9], counts[1.0]) == (1, 1, 2)
    shown = hsi("--camera", "yard", "--days", "1").stdout
    assert "0.90 (now)" in shown
    assert "yard" in shown
    assert "No picture was checked" in hsi("--camera", "porch").stdout
