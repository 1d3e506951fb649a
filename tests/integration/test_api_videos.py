"""The video in which something was found: whole, in parts, and no longer when it is another."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from support.histories import seen, video
from support.serving import Served, drawn, served, story
from support.watching import mp4

from domain.events import Box, ImageReceived, VideoReceived


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    base = tmp_path / "cameras"
    base.mkdir()
    async with served(valkey_url, database_url, base) as running:
        yield running


async def told(api: Served, data: bytes) -> tuple[str, Path]:
    """Tell of a video with one frame and an object in it; return the object's id and the file."""
    await api.register("front")
    received, frame = video(7, 1, "front")
    assert isinstance(received, VideoReceived)
    assert isinstance(frame, ImageReceived)
    frame = replace(frame, uri=f"frame:{frame.file_id}/1.jpg")
    found = replace(seen(frame), boxes=(Box(label="car", score=0.9, x=1, y=1, width=9, height=9),))
    await api.append(replace(received, size_bytes=len(data)), frame, found)
    path = api.base / received.path
    path.write_bytes(data)
    still = api.base / "frames" / frame.file_id / "1.jpg"
    still.parent.mkdir(parents=True)
    still.write_bytes(drawn(640, 480))
    return f"{frame.picture_id}.0", path


async def test_the_video_of_a_detection_is_given_in_parts(api: Served, tmp_path: Path) -> None:
    data = mp4(tmp_path / "made.mp4", seconds=1)
    detection, path = await told(api, data)
    url = f"/api/detections/{detection}/video"
    async with api.client.get(url) as response:
        assert (response.status, response.content_type) == (200, "video/mp4")
        assert await response.read() == data
    async with api.client.get(url, headers={"Range": "bytes=-10"}) as response:
        assert (response.status, await response.read()) == (206, data[-10:])
        assert response.headers["Content-Range"] == (
            f"bytes {len(data) - 10}-{len(data) - 1}/{len(data)}"
        )
    async with api.client.get(url, headers={"Range": f"bytes={len(data)}-"}) as response:
        await api.is_problem(response, "range_not_satisfiable", 416)
        assert response.headers["Content-Range"] == f"bytes */{len(data)}"
    async with api.client.get(f"{url}/thumbnail") as response:
        assert (response.status, response.content_type) == (200, "image/jpeg")
    path.write_bytes(data + b"more")
    await api.problem(url, "picture_changed", status=410)
    path.unlink()
    await api.problem(url, "picture_gone", status=410)


async def test_what_comes_from_a_picture_has_no_video(api: Served) -> None:
    await api.register("front")
    await api.append(*story("front").events)
    (detection,) = (await api.json("/api/detections"))["detections"]
    for more in ("", "/thumbnail"):
        url = f"/api/detections/{detection['id']}/video{more}"
        await api.problem(url, "video_not_found", status=404)
    await api.problem("/api/detections/x/video", "detection_not_found", status=404)
