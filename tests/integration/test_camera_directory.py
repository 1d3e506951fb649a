"""The camera directory follows the log."""

import asyncio

import pytest
from support.logs import new, opened, until

from agents import cameras
from agents.cameras import LogCameraDirectory
from domain.events import CameraRegistered, CameraRemoved, CameraUpdated, Event
from domain.risk import CameraView


def registered(camera_id: str, name: str) -> Event:
    return CameraRegistered(camera_id=camera_id, name=name, folder=camera_id, source="folder")


async def test_it_reads_what_is_there_and_follows_what_comes(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cameras, "BLOCK_MS", 50)
    async with opened(valkey_url, 2) as log:
        await log.append(new(registered("porch", "Porch"), "1"))
        directory = LogCameraDirectory(log)
        await directory.open()
        assert directory.known("porch")
        assert not directory.known("yard")
        assert directory.view("yard") == CameraView("yard", entry_point=False)
        stop = asyncio.Event()
        running = asyncio.create_task(directory.run(stop))
        await log.append(new(registered("yard", "Yard"), "2"))
        update = CameraUpdated(camera_id="porch", name="Front", enabled=False, entry_point=True)
        await log.append(new(update, "3"))
        await until(lambda: directory.known("yard") and not directory.enabled("porch"))
        assert directory.view("porch") == CameraView("Front", entry_point=True)
        await log.append(new(CameraUpdated(camera_id="porch", enabled=True), "4"))
        await until(lambda: directory.enabled("porch"))
        assert directory.view("porch").name == "Front"
        await log.append(new(CameraRemoved(camera_id="porch"), "5"))
        await until(lambda: directory.removed_by("porch") is not None)
        assert not directory.known("porch")
        assert directory.removed_by("yard") is None
        await log.append(new(registered("porch", "Porch"), "6"))
        await until(lambda: directory.known("porch"))
        assert directory.removed_by("porch") is None
        stop.set()
        await running


async def test_a_camera_is_told_of_only_if_it_wishes_it_and_is_enabled(valkey_url: str) -> None:
    changes = (
        (registered("porch", "Porch"), False),
        (CameraUpdated(camera_id="porch", when_unavailable="notify"), True),
        (CameraUpdated(camera_id="porch", name="Front"), True),
        (CameraUpdated(camera_id="porch", enabled=False), False),
        (CameraUpdated(camera_id="porch", enabled=True), True),
        (CameraRemoved(camera_id="porch"), False),
    )
    async with opened(valkey_url, 1) as log:
        directory = LogCameraDirectory(log)
        for number, (change, notifies) in enumerate(changes):
            await log.append(new(change, str(number)))
            await directory.open()
            assert directory.notifies("porch") is notifies
