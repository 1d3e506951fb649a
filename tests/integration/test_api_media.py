"""Pictures by id and files by path: whole, in parts, and never from anywhere else."""

from collections.abc import AsyncIterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from multidict import CIMultiDictProxy
from support.serving import Served, drawn, served, story
from yarl import URL

PICTURE = drawn(640, 480)


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path / "cameras") as running:
        yield running


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    (tmp_path / "cameras").mkdir()


async def _get(
    api: Served, path: str | URL, **headers: str
) -> tuple[int, bytes, CIMultiDictProxy[str]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with api.client.get(path, headers=named) as response:
        return response.status, await response.read(), response.headers


async def test_a_detection_is_cut_out_of_its_picture(api: Served) -> None:
    await api.register("front")
    told = story("front", picture=PICTURE)
    api.picture(told, PICTURE)
    await api.append(*told.events)
    found = (await api.json("/api/detections"))["detections"][0]
    status, body, headers = await _get(api, found["links"]["crop"])
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    shape = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR).shape  # type: ignore[union-attr]
    # The box has 200 × 300 pixels; a tenth is added on every side.
    assert shape == (360, 240, 3)
    status, _, _ = await _get(api, found["links"]["crop"], If_None_Match=headers["ETag"])
    assert status == 304
    await api.problem("/api/detections/nobody/crop", "detection_not_found", status=404)


async def test_a_part_of_a_picture_is_given(api: Served) -> None:
    await api.register("front")
    told = story("front", picture=PICTURE)
    api.picture(told, PICTURE)
    await api.append(*told.events)
    path = f"/api/pictures/{told.picture_id}/image"
    size = len(PICTURE)
    status, whole, headers = await _get(api, path)
    assert (status, whole, headers["Accept-Ranges"]) == (200, PICTURE, "bytes")
    for asked, part, told_range in (
        ("bytes=0-99", PICTURE[:100], f"bytes 0-99/{size}"),
        ("bytes=100-", PICTURE[100:], f"bytes 100-{size - 1}/{size}"),
        ("bytes=-10", PICTURE[-10:], f"bytes {size - 10}-{size - 1}/{size}"),
        (f"bytes=0-{size + 5}", PICTURE, f"bytes 0-{size - 1}/{size}"),
    ):
        status, body, answered = await _get(api, path, Range=asked)
        assert (status, body, answered["Content-Range"]) == (206, part, told_range), asked
    for ignored in ("pages=1-2", "bytes=5-1", "bytes=", "bytes=a-b", "bytes=0-1,3-4"):
        assert (await _get(api, path, Range=ignored))[0] == 200, ignored
    status, _, answered = await _get(api, path, Range=f"bytes={size}-")
    assert (status, answered["Content-Range"]) == (416, f"bytes */{size}")
    assert (await _get(api, path, Range="bytes=0-1", If_Range=headers["ETag"]))[0] == 206
    assert (await _get(api, path, Range="bytes=0-1", If_Range='"other"'))[0] == 200


async def test_a_client_that_has_a_picture_is_told_so_by_date_too(api: Served) -> None:
    await api.register("front")
    told = story("front", picture=PICTURE)
    api.picture(told, PICTURE)
    await api.append(*told.events)
    path, snapshot = f"/api/pictures/{told.picture_id}/image", "/api/cameras/front/snapshot"
    modified = (await _get(api, path))[2]["Last-Modified"]
    assert (await _get(api, snapshot))[2]["Last-Modified"] == modified
    early = "Sat, 01 Jan 2000 00:00:00 GMT"
    for asked, status in (({"If_Modified_Since": modified}, 304), ({}, 200)):
        assert (await _get(api, path, **asked))[0] == status
    assert (await _get(api, path, If_Modified_Since=early))[0] == 200
    assert (await _get(api, path, If_Modified_Since="yesterday"))[0] == 200
    # A tag is surer than a date, and a snapshot may change within a second.
    both = {"If_Modified_Since": modified, "If_None_Match": '"other"'}
    assert (await _get(api, path, **both))[0] == 200
    assert (await _get(api, snapshot, If_Modified_Since=modified))[0] == 200


async def test_a_file_is_given_by_its_path(api: Served) -> None:
    await api.register("front")
    (api.base / "front" / "2025").mkdir()
    (api.base / "front" / "2025" / "a b.JPG").write_bytes(PICTURE)
    (api.base / "front" / "clip.mp4").write_bytes(b"0123456789")
    status, body, headers = await _get(api, "/api/media/cameras/front/2025/a%20b.JPG")
    assert (status, body, headers["Content-Type"]) == (200, PICTURE, "image/jpeg")
    assert headers["ETag"]
    assert headers["Last-Modified"]
    again = await _get(
        api, "/api/media/cameras/front/2025/a%20b.JPG", If_None_Match=headers["ETag"]
    )
    assert again[0] == 304
    clip = "/api/media/cameras/front/clip.mp4"
    status, body, headers = await _get(api, clip, Range="bytes=2-4")
    assert (status, body, headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    assert headers["Content-Type"] == "video/mp4"
    assert (await _get(api, clip, Range="bytes=10-"))[0] == 416
    await api.problem("/api/media/cameras/front/none.jpg", "file_not_found", status=404)
    await api.problem("/api/media/cameras/nobody/a.jpg", "camera_not_found", status=404)


async def test_no_other_file_is_given(api: Served, tmp_path: Path) -> None:
    await api.register("front", "back")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (api.base / "back" / "other.jpg").write_bytes(b"other")
    front = api.base / "front"
    (front / "text.txt").write_bytes(b"text")
    (front / ".hidden.jpg").write_bytes(b"hidden")
    (front / "folder.jpg").mkdir()
    (front / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (front / "out").symlink_to(tmp_path)
    for name in (
        "link.jpg",
        "out/secret.jpg",
        "%2e%2e%2f..%2fsecret.jpg",
        "..%2fback%2fother.jpg",
    ):
        for path in (name, name.replace("/", "%2f"), name.replace("..", "%2e%2e")):
            raw = URL(f"/api/media/cameras/front/{path}", encoded=True)
            status, body, _ = await _get(api, raw)
            assert status in (403, 404), path
            assert body not in (b"secret", b"other")
    refused = (
        "text.txt",
        ".hidden.jpg",
        "a%00.jpg",
        "%2e%2e%2fback%2fother.jpg",
        "a%5c..%5cb.jpg",
    )
    for name in (*refused, "%2fetc%2fpasswd", "%2f%2fa.jpg", "a//b.jpg", "a%0ab.jpg", "noend"):
        odd = URL(f"/api/media/cameras/front/{name}", encoded=True)
        await api.problem(odd, "file_not_served", status=403)  # type: ignore[arg-type]
    long = "x" * 300
    await api.problem(f"/api/media/cameras/front/{long}.jpg", "file_not_found", status=404)
    await api.problem("/api/media/cameras/front/folder.jpg", "file_not_found", status=404)
