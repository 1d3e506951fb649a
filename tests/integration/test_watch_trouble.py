"""Watch through what goes wrong: pauses, outages, folders and disks that go away."""

import asyncio
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from support.servers import PrivateValkey
from support.watching import (
    QUICK,
    Cameras,
    drop,
    eventually,
    jpeg,
    mp4,
    options,
    paths_of,
    polling,
    watched,
)

from agents.finder import WatchOptions
from agents.watch import Watch
from domain.errors import HsiError
from domain.events import (
    CameraRegistered,
    Event,
    FileDuplicated,
    ImageReceived,
)
from inference.pictures import PictureStore
from streams.log import EventLog

__all__ = ["options"]


async def test_what_arrived_while_down_is_caught_up_oldest_first(
    valkey_url: str, tmp_path: Path
) -> None:
    base = tmp_path / "cameras"
    for number in range(500):
        path = base / "Front" / f"2024010{number // 100}" / f"{499 - number}.jpg"
        drop(path, jpeg(number, (16, 16)))
        os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
    async with watched(valkey_url, tmp_path) as cameras:
        events = await cameras.until_count(500, seconds=30)
        times = [event.captured_at for event in events if isinstance(event, ImageReceived)]
        assert len(times) == len(set(times)) == 500
        assert times == sorted(times)
    drop(base / "Front" / "20240104" / "late.jpg", jpeg(1000))
    async with watched(valkey_url, tmp_path) as cameras:
        await cameras.picture("Front/20240104/late.jpg")
        assert len(await cameras.events()) == 501


async def test_a_new_file_does_not_wait_for_a_pile_of_old_ones(
    valkey_url: str, tmp_path: Path
) -> None:
    picture = jpeg(1, (640, 480))
    for number in range(400):
        drop(tmp_path / "cameras" / "Old" / f"{number}.jpg", picture + b"%d" % number)
    async with watched(valkey_url, tmp_path) as cameras:
        await cameras.until_count(10)
        drop(cameras.base / "New" / "now.jpg", jpeg(2))
        events = await cameras.until(
            lambda events: any(event.camera_id == "new" for event in events)
        )
        assert len(events) < 350
        await cameras.until_count(401, seconds=60)


async def test_polling_and_native_events_find_the_same(valkey_url: str, tmp_path: Path) -> None:
    async def taken_in(folder: Path, options: WatchOptions) -> list[str]:
        log = await EventLog.open(valkey_url)
        await log.client.flushdb()
        await log.close()
        async with watched(valkey_url, folder, options=options) as cameras:
            for number in range(30):
                drop(cameras.base / f"Camera {number % 3}" / "day" / f"{number}.jpg", jpeg(number))
            drop(cameras.base / "Camera 0" / "again.jpg", jpeg(0))
            drop(cameras.base / "Camera 1" / "cut.jpg", jpeg(50)[:-99])
            events = await cameras.until_count(32)
            return sorted(f"{type(event).__name__} {path}" for event, path in _named(events))

    native = await taken_in(tmp_path / "native", QUICK)
    assert native == await taken_in(tmp_path / "polling", polling())
    assert len(native) == 32


def _named(events: list[Event]) -> list[tuple[Event, str]]:
    return [(event, getattr(event, "path", "")) for event in events]


async def test_a_folder_that_disappears_and_returns_loses_nothing(
    valkey_url: str, tmp_path: Path, options: WatchOptions, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(valkey_url, tmp_path, options=options) as cameras:
        drop(cameras.base / "Front" / "a.jpg", jpeg(1))
        await cameras.picture("Front/a.jpg")
        elsewhere = tmp_path / "elsewhere"
        cameras.base.rename(elsewhere)
        await eventually(lambda: "is away" in caplog.text)
        drop(elsewhere / "Front" / "b.jpg", jpeg(2))
        elsewhere.rename(cameras.base)
        await cameras.picture("Front/b.jpg")
        drop(cameras.base / "Front" / "c.jpg", jpeg(3))
        await cameras.picture("Front/c.jpg")
        shutil.rmtree(cameras.base / "Front")
        drop(cameras.base / "Front" / "d.jpg", jpeg(4))
        await cameras.picture("Front/d.jpg")
        assert len(await cameras.events()) == 4


async def test_a_folder_moved_into_place_is_scanned(valkey_url: str, tmp_path: Path) -> None:
    for number in range(20):
        drop(tmp_path / "card" / "2024" / f"{number}.jpg", jpeg(number))
    async with watched(valkey_url, tmp_path) as cameras:
        drop(cameras.base / "Front" / "a.jpg", jpeg(99))
        await cameras.picture("Front/a.jpg")
        (tmp_path / "card").rename(cameras.base / "Garage")
        events = await cameras.until_count(21)
        assert {event.camera_id for event in events} == {"front", "garage"}


async def test_an_unreadable_file_waits_is_rejected_and_comes_back(
    valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = False
    real_open = os.open

    def guarded(path: str, flags: int, *args: int, **options: int | None) -> int:
        # Root reads everything, so the refusal is played where the file is opened.
        if path == "locked.jpg" and not allowed:
            raise PermissionError(13, "Permission denied", path)
        return real_open(path, flags, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("inference.pictures.os.open", guarded)
    async with watched(valkey_url, tmp_path) as cameras:
        drop(cameras.base / "Front" / "locked.jpg", jpeg(1))
        drop(cameras.base / "Front" / "other.jpg", jpeg(2))
        await cameras.picture("Front/other.jpg")
        rejected = await cameras.rejected("Front/locked.jpg")
        assert rejected.reason == "unreadable"
        assert "let the account of HSI read it" in rejected.detail
        allowed = True
        (cameras.base / "Front" / "locked.jpg").chmod(0o644)
        events = await cameras.until_count(3)
        assert isinstance(events[-1], ImageReceived)


async def test_a_dropped_event_is_made_good_by_the_next_scan(
    valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.finder.Finder._is_wanted", lambda *_: False)
    async with watched(
        valkey_url, tmp_path, options=replace(QUICK, rescan_seconds=0.3)
    ) as cameras:
        drop(cameras.base / "Front" / "a.jpg", jpeg(1))
        await cameras.picture("Front/a.jpg")


async def test_a_missing_base_folder_is_named_at_the_start(
    valkey_url: str, tmp_path: Path
) -> None:
    log = await EventLog.open(valkey_url)
    try:
        for path, words in ((tmp_path / "none", "No such file"), (tmp_path / "f", "Not a dir")):
            (tmp_path / "f").touch()
            watch = Watch(log, PictureStore(path, tmp_path / "frames"), Cameras())
            with pytest.raises(HsiError, match=f"FOSCAM_BASE_PATH=.*{words}"):
                await watch.run(asyncio.Event())
    finally:
        await log.close()


async def test_two_folders_with_one_id_are_one_camera_and_it_is_said(
    valkey_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(valkey_url, tmp_path) as cameras:
        drop(cameras.base / "Front Door" / "a.jpg", jpeg(1))
        await cameras.picture("Front Door/a.jpg")
        drop(cameras.base / "front_door" / "b.jpg", jpeg(2))
        event = await cameras.picture("front_door/b.jpg")
        assert event.camera_id == "front_door"
        assert len(await cameras.events("cameras")) == 1
        assert "both belong to the camera front_door" in caplog.text


async def test_a_removed_camera_whose_folder_still_gets_files_is_registered_again(
    valkey_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    known = Cameras()
    async with watched(valkey_url, tmp_path, cameras=known) as cameras:
        for number, removal in enumerate((None, None, "removal-1", "removal-1", "removal-2")):
            known.removals = {"front": removal} if removal else {}
            drop(cameras.base / "Front" / f"{number}.jpg", jpeg(number))
            await cameras.picture(f"Front/{number}.jpg")
        registered = await cameras.events("cameras")
        assert [type(event) for event in registered] == [CameraRegistered] * 3
        assert caplog.text.count("again, since files still arrive in it: front") == 2


async def test_two_watches_on_one_folder_take_every_file_in_once(
    valkey_url: str, tmp_path: Path
) -> None:
    async with watched(valkey_url, tmp_path) as one, watched(valkey_url, tmp_path) as _:
        for number in range(60):
            drop(one.base / "Front" / f"{number}.jpg", jpeg(number))
        events = await one.until_count(60)
        drop(one.base / "Front" / "last.jpg", jpeg(1000))
        events = await one.until_count(61)
        assert len(events) == len(set(paths_of(events))) == 61
        assert not any(isinstance(event, FileDuplicated) for event in events)


async def test_files_wait_while_redis_is_away_and_none_is_lost(
    private_valkey: PrivateValkey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with watched(private_valkey.url, tmp_path) as cameras:
        drop(cameras.base / "Front" / "before.jpg", jpeg(1000))
        await cameras.picture("Front/before.jpg")
        await asyncio.to_thread(private_valkey.stop)
        for number in range(40):
            drop(cameras.base / "Front" / f"{number}.jpg", jpeg(number))
        await eventually(lambda: "files wait in their folders" in caplog.text)
        private_valkey.start()  # in this thread: the server ends with the thread that made it
        await eventually(lambda: "the log answers again" in caplog.text)
        events = await cameras.until_count(41)
        assert len(set(paths_of(events))) == len(events) == 41
        assert caplog.text.count("files wait in their folders") == 1


async def test_a_stop_while_redis_is_away_ends_at_once_and_the_next_start_catches_up(
    private_valkey: PrivateValkey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(private_valkey.url, tmp_path) as cameras:
        await asyncio.to_thread(private_valkey.stop)
        drop(cameras.base / "Front" / "a.jpg", jpeg(1))
        await eventually(lambda: "files wait in their folders" in caplog.text)
    private_valkey.start()  # in this thread: the server ends with the thread that made it
    async with watched(private_valkey.url, tmp_path) as cameras:
        await cameras.picture("Front/a.jpg")


async def test_a_full_disk_for_frames_is_waited_out(
    valkey_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = mp4(tmp_path / "made.mp4", seconds=1)
    frames = tmp_path / "frames"
    frames.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(frames)]
    if (await asyncio.to_thread(subprocess.run, command, capture_output=True)).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        filler = frames / "filler"
        filler.write_bytes(b"x" * 65536)
        async with watched(valkey_url, tmp_path) as cameras:
            drop(cameras.base / "Front" / "a.mp4", data)
            await eventually(lambda: "free some space there" in caplog.text)
            drop(cameras.base / "Front" / "b.jpg", jpeg(1))
            await cameras.picture("Front/b.jpg")
            filler.unlink()
            events = await cameras.until_count(3)
            frame = events[-1]
            assert isinstance(frame, ImageReceived)
            assert cameras.store.read(frame.uri, expected_sha256=frame.sha256)
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", str(frames)], check=True)
