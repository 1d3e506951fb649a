"""Watch with real files, a real folder watcher and a real log."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from support.watching import (
    Cameras,
    drop,
    eventually,
    jpeg,
    mp4,
    options,
    paths_of,
    png,
    watched,
)

from agents.finder import WatchOptions
from agents.intake import IntakeRules
from domain import ids
from domain.events import (
    CameraRegistered,
    FileRejected,
    ImageReceived,
    VideoReceived,
)
from domain.paths import escape_path

__all__ = ["options"]


@asynccontextmanager
async def slow_writer(path: Path, data: bytes, chunks: int) -> AsyncIterator[None]:
    """Write `data` in so many chunks with a pause between any two, as a slow upload does."""

    async def write() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        step = len(data) // chunks + 1
        with path.open("wb") as file:
            for at in range(0, len(data), step):
                file.write(data[at : at + step])
                file.flush()
                await asyncio.sleep(0.03)

    task = asyncio.create_task(write())
    try:
        yield
    finally:
        await task


async def test_a_dropped_picture_becomes_an_event_of_a_new_camera(
    valkey_url: str, tmp_path: Path, options: WatchOptions
) -> None:
    data = jpeg(1)
    async with watched(valkey_url, tmp_path, options=options) as cameras:
        drop(cameras.base / "front_door" / "MDAlarm_20240101-120000.jpg", data)
        event = await cameras.picture("front_door/MDAlarm_20240101-120000.jpg")
        assert event.camera_id == "front_door"
        assert (event.width, event.height, event.size_bytes) == (64, 48, len(data))
        assert event.captured_at == datetime(2024, 1, 1, 12, tzinfo=UTC)
        assert event.captured_from == "name"
        assert cameras.store.read(event.uri, expected_sha256=event.sha256) == data
        assert await cameras.events("cameras") == [
            CameraRegistered(
                camera_id="front_door", name="front door", folder="front_door", source="folder"
            )
        ]
        (envelope,) = await cameras.envelopes()
        assert envelope.id == ids.follow_up_id(event.file_id, "image.received")
        assert envelope.correlation_id == event.file_id


async def test_a_known_camera_is_not_registered_again(valkey_url: str, tmp_path: Path) -> None:
    async with watched(valkey_url, tmp_path, cameras=Cameras({"front_door"})) as cameras:
        drop(cameras.base / "Front Door" / "a.jpg", jpeg(1))
        drop(cameras.base / "front_door" / "b.jpg", jpeg(2))
        drop(cameras.base / "Back" / "c.jpg", jpeg(3))
        events = await cameras.until_count(3)
        assert {event.camera_id for event in events} == {"front_door", "back"}
        assert [event.camera_id for event in await cameras.events("cameras")] == ["back"]


async def test_a_growing_file_is_taken_in_once_when_it_is_whole(
    valkey_url: str, tmp_path: Path, options: WatchOptions
) -> None:
    data = jpeg(1, (640, 480))
    async with watched(valkey_url, tmp_path, options=options) as cameras:
        async with slow_writer(cameras.base / "Front" / "slow.jpg", data, 20):
            event = await cameras.picture("Front/slow.jpg")
        assert event.size_bytes == len(data)
        drop(cameras.base / "Front" / "next.jpg", jpeg(2))
        assert len(await cameras.until_count(2)) == 2


async def test_a_file_renamed_into_place_is_seen_under_its_last_name_only(
    valkey_url: str, tmp_path: Path
) -> None:
    async with watched(valkey_url, tmp_path) as cameras:
        folder = cameras.base / "Front"
        folder.mkdir()
        for temporary in (".a.jpg", "a.jpg.part", "a.tmp", "a.jpg.filepart"):
            (folder / temporary).write_bytes(jpeg(1))
        (folder / "a.jpg.xyz").write_bytes(jpeg(2))
        (folder / "a.jpg.xyz").rename(folder / "b.jpg")
        (folder / ".a.jpg").rename(folder / "a.jpg")
        events = await cameras.until_count(2)
        drop(folder / "c.jpg", jpeg(3))
        events = await cameras.until_count(3)
        assert paths_of(events) == ["Front/a.jpg", "Front/b.jpg", "Front/c.jpg"]
        assert all(isinstance(event, ImageReceived) for event in events)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("cut.jpg", jpeg(1)[:-200], "truncated"),
        ("cut.png", png()[:-8], "truncated"),
        ("empty.jpg", b"", "empty"),
        ("note.txt", b"hello", "unsupported"),
        ("clip.avi", b"RIFF", "unsupported"),
        ("noname", jpeg(1), "unsupported"),
        ("text.jpg", b"hello", "unsupported"),
        ("huge.png", png((10_001, 10_000), "1"), "too_large"),
        ("broken.mp4", b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x08moov", "broken"),
        ("cut.mp4", b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\1\0\0mdat", "truncated"),
    ],
)
async def test_a_file_that_is_no_picture_is_rejected_with_its_reason(
    valkey_url: str, tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    async with watched(valkey_url, tmp_path) as cameras:
        drop(cameras.base / "Front" / name, data)
        event = await cameras.rejected(f"Front/{name}")
        assert event.reason == reason, event
        assert event.size_bytes == len(data)


async def test_the_content_decides_not_the_name(valkey_url: str, tmp_path: Path) -> None:
    video = mp4(tmp_path / "made.mp4", seconds=1)
    async with watched(valkey_url, tmp_path) as cameras:
        drop(cameras.base / "Front" / "jpeg.png", jpeg(1))
        drop(cameras.base / "Front" / "png.JPG", png())
        drop(cameras.base / "Front" / "jpeg.mp4", jpeg(2))
        drop(cameras.base / "Front" / "video.jpeg", video)
        events = await cameras.until_count(5)
        assert sum(isinstance(event, ImageReceived) for event in events) == 4
        assert sum(isinstance(event, VideoReceived) for event in events) == 1


async def test_a_rejected_file_that_changes_is_a_new_file(valkey_url: str, tmp_path: Path) -> None:
    data = jpeg(1)
    async with watched(valkey_url, tmp_path) as cameras:
        path = cameras.base / "Front" / "a.jpg"
        drop(path, data[:-200])
        rejected = await cameras.rejected("Front/a.jpg")
        with path.open("ab") as file:
            file.write(data[-200:])
        events = await cameras.until_count(2)
        (taken,) = [event for event in events if isinstance(event, ImageReceived)]
        assert taken.path == rejected.path
        assert taken.file_id != rejected.file_id


async def test_links_out_of_the_folder_are_rejected_and_never_read(
    valkey_url: str, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    drop(outside / "secret.jpg", jpeg(1))
    async with watched(valkey_url, tmp_path) as cameras:
        folder = cameras.base / "Front"
        folder.mkdir()
        (folder / "link.jpg").symlink_to(outside / "secret.jpg")
        (folder / "tree").symlink_to(outside)
        os.mkfifo(folder / "pipe.jpg")
        drop(folder / "real.jpg", jpeg(2))
        (folder / "same.jpg").symlink_to("real.jpg")
        events = await cameras.until(lambda events: len(events) >= 5)
        reasons = {event.path: event.reason for event in events if isinstance(event, FileRejected)}
        assert reasons == {
            "Front/link.jpg": "outside",
            "Front/tree": "outside",
            "Front/pipe.jpg": "unsupported",
        }


async def test_files_in_a_linked_folder_of_the_tree_are_seen_where_they_lie(
    valkey_url: str, tmp_path: Path
) -> None:
    drop(tmp_path / "cameras" / "Front" / "a.jpg", jpeg(1))
    (tmp_path / "cameras" / "Alias").symlink_to("Front")
    async with watched(valkey_url, tmp_path) as cameras:
        await cameras.picture("Front/a.jpg")
        drop(cameras.base / "Alias" / "b.jpg", jpeg(2))
        await cameras.picture("Front/b.jpg")
        assert len(await cameras.events()) == 2


async def test_a_file_outside_every_camera_folder_is_visible(
    valkey_url: str, tmp_path: Path
) -> None:
    async with watched(valkey_url, tmp_path) as cameras:
        drop(cameras.base / "a.jpg", jpeg(1))
        event = await cameras.rejected("a.jpg")
        assert (event.camera_id, event.reason) == ("unassigned", "no_camera")
        assert await cameras.events("cameras") == []


async def test_the_same_bytes_again_are_a_duplicate_of_the_first_file(
    valkey_url: str, tmp_path: Path
) -> None:
    async with watched(valkey_url, tmp_path) as cameras:
        drop(cameras.base / "Front" / "a.jpg", jpeg(1))
        first = await cameras.picture("Front/a.jpg")
        drop(cameras.base / "Front" / "b.jpg", jpeg(1))
        second = await cameras.duplicate("Front/b.jpg")
        assert (second.duplicate_of, second.sha256) == (first.file_id, first.sha256)
        drop(cameras.base / "Back" / "a.jpg", jpeg(1))
        assert (await cameras.picture("Back/a.jpg")).sha256 == first.sha256


async def test_the_same_bytes_after_the_time_to_live_are_a_new_picture(
    valkey_url: str, tmp_path: Path
) -> None:
    rules = IntakeRules(dedupe_ttl_seconds=1)
    async with watched(valkey_url, tmp_path, rules=rules) as cameras:
        drop(cameras.base / "Front" / "a.jpg", jpeg(1))
        await cameras.picture("Front/a.jpg")
        await asyncio.sleep(1.1)
        drop(cameras.base / "Front" / "b.jpg", jpeg(1))
        await cameras.picture("Front/b.jpg")


async def test_an_upload_that_sets_the_files_time_afterwards_is_one_file(
    valkey_url: str, tmp_path: Path
) -> None:
    async with watched(valkey_url, tmp_path) as cameras:
        path = cameras.base / "Front" / "a.jpg"
        drop(path, jpeg(1))
        await cameras.picture("Front/a.jpg")
        os.utime(path, (1_700_000_000, 1_700_000_000))
        drop(cameras.base / "Front" / "b.jpg", jpeg(2))
        await cameras.picture("Front/b.jpg")
        status = path.stat()
        signature = f"{status.st_size}:{status.st_mtime_ns}"

        async def is_recorded() -> bool:
            return await cameras.log.known_files("front", ["Front/a.jpg"]) == [signature]

        await eventually(is_recorded)
        assert len(await cameras.events()) == 2


async def test_a_video_becomes_its_frames(
    valkey_url: str, tmp_path: Path, options: WatchOptions
) -> None:
    data = mp4(tmp_path / "made.mp4", seconds=7)
    rules = IntakeRules(camera_zone=ZoneInfo("Europe/Berlin"))
    async with watched(valkey_url, tmp_path, options=options, rules=rules) as cameras:
        drop(cameras.base / "Front" / "20240101" / "Front_20240101120000.mp4", data)
        video, *frames = await cameras.until_count(5)
        assert isinstance(video, VideoReceived)
        assert (video.frames, video.duration_seconds, video.width) == (4, 7.0, 160)
        assert video.captured_at == datetime(2024, 1, 1, 11, tzinfo=UTC)
        images = [event for event in frames if isinstance(event, ImageReceived)]
        assert [image.frame for image in images] == [1, 2, 3, 4]
        assert [image.frame_offset_seconds for image in images] == [0.0, 2.0, 4.0, 6.0]
        assert [(image.captured_at - video.captured_at).seconds for image in images] == [
            0,
            2,
            4,
            6,
        ]
        for image in images:
            assert cameras.store.read(image.uri, expected_sha256=image.sha256)[:2] == b"\xff\xd8"
        assert len({envelope.id for envelope in await cameras.envelopes()}) == 5


async def test_a_duplicate_video_leaves_no_frames_behind(valkey_url: str, tmp_path: Path) -> None:
    data = mp4(tmp_path / "made.mp4", seconds=1)
    async with watched(valkey_url, tmp_path) as cameras:
        drop(cameras.base / "Front" / "a.mp4", data)
        await cameras.until_count(2)
        drop(cameras.base / "Front" / "b.mp4", data)
        duplicate = await cameras.duplicate("Front/b.mp4")
        await eventually(lambda: not (cameras.store.frames / duplicate.file_id).exists())
        assert [path.name for path in cameras.store.frames.iterdir()] == [duplicate.duplicate_of]


async def test_frames_that_find_no_room_wait_and_nothing_else_does(
    valkey_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = mp4(tmp_path / "made.mp4", seconds=1)
    async with watched(valkey_url, tmp_path) as cameras:
        cameras.store.frames.write_bytes(b"in the way")
        drop(cameras.base / "Front" / "a.mp4", data)
        await eventually(lambda: "frames cannot be saved" in caplog.text)
        drop(cameras.base / "Front" / "b.jpg", jpeg(1))
        await cameras.picture("Front/b.jpg")
        cameras.store.frames.unlink()
        events = await cameras.until_count(3)
        assert sum(isinstance(event, VideoReceived) for event in events) == 1


async def test_capture_times_come_from_exif_then_name_then_the_file(
    valkey_url: str, tmp_path: Path
) -> None:
    async with watched(valkey_url, tmp_path) as cameras:
        folder = cameras.base / "Front"
        drop(folder / "MDAlarm_20240101-120000.jpg", jpeg(1, taken="2024:02:03 04:05:06"))
        drop(folder / "Schedule_20240101-120001.jpg", jpeg(2, taken="1999:02:03 04:05:06"))
        drop(folder / "plain.jpg", jpeg(3))
        os.utime(folder / "plain.jpg", (1_700_000_000, 1_700_000_000))
        events = await cameras.until_count(3)
        images = {event.path: event for event in events if isinstance(event, ImageReceived)}
        exif = images["Front/MDAlarm_20240101-120000.jpg"]
        name = images["Front/Schedule_20240101-120001.jpg"]
        assert (exif.captured_from, name.captured_from) == ("exif", "name")
        assert exif.captured_at == datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)
        assert name.captured_at == datetime(2024, 1, 1, 12, 0, 1, tzinfo=UTC)
        assert images["Front/plain.jpg"].captured_from == "mtime"


HOSTILE = [
    b"new\nline.jpg",
    b"tab\tbell\x07escape\x1b[31m.jpg",
    b"\xff\xfe not utf-8.jpg",
    b"..jpg.jpg"[1:],
    b"a..b.jpg",
    b"$(touch x);`id`'\".jpg",
    b"back\\slash\\x41.jpg",
    "r\u202egpj.jpg".encode(),
    b"l" * 251 + b".jpg",
    "\u00fc".encode() * 125 + b".jpg",
    b"%2e%2e%2fpasswd.jpg",
    b" leading and trailing .jpg",
    b"<script>alert(1)</script>.jpg".replace(b"/", b"_"),
    b"*?[x].jpg",
]


async def test_hostile_names_are_taken_in_and_read_back(
    valkey_url: str, tmp_path: Path, options: WatchOptions
) -> None:
    counted = [name for name in HOSTILE if not name.startswith(b".")]
    async with watched(valkey_url, tmp_path, options=options) as cameras:
        base = os.fsencode(cameras.base)
        for number, name in enumerate(counted):
            drop(os.path.join(base, b"Front", name), jpeg(number))
        drop(os.path.join(base, b"Caf\xe9\n", b"a.jpg"), jpeg(99))
        events = await cameras.until_count(len(counted) + 1)
        expected = [escape_path(os.fsdecode(b"Front/" + name)) for name in counted]
        assert paths_of(events) == sorted([*expected, r"Caf\xe9\u000a/a.jpg"])
        for event in events:
            assert isinstance(event, ImageReceived), event
            assert cameras.store.read(event.uri, expected_sha256=event.sha256)
        registered = await cameras.events("cameras")
        assert {event.camera_id for event in registered} == {"front", "caf"}
