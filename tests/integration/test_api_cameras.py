"""Cameras over the API: the operator's example, folders, conflicts, changes, removal."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.serving import Served, drawn, served, story

from domain.events import CameraRegistered, CameraUpdated
from streams.envelope import START


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path, projecting=True) as running:
        yield running


FRONT = {"name": "Front Door", "folder_path": "front_door", "status": "active"}


async def test_the_operators_example(api: Served) -> None:
    async with api.client.post("/api/cameras", json=FRONT) as response:
        assert response.status == 201
        assert response.headers["Location"] == "/api/cameras/front_door"
        made = await response.json()
    assert made["id"] == "front_door"
    assert made["name"] == "Front Door"
    assert made["status"] == "active"
    assert made["folder_created"] is True
    assert (api.base / "front_door").is_dir()
    listed = await api.json("/api/cameras")
    assert listed["count"] == 1
    assert listed["cameras"][0]["folder_exists"] is True
    one = await api.json("/api/cameras/front_door")
    assert one["created_at"] == made["created_at"]
    assert one["last_seen_at"] is None
    (api.base / "front_door").rmdir()
    assert (await api.json("/api/cameras/front_door"))["folder_exists"] is False


async def test_a_folder_is_one_camera(api: Served) -> None:
    await api.json("/api/cameras", method="POST", json=FRONT, status=201)
    again = await api.problem(
        "/api/cameras", "camera_exists", status=409, method="POST", json=FRONT
    )
    assert "front_door" in again["detail"]
    # Another folder that would get the same id is told apart from the same folder.
    close = {"name": "Other", "folder_path": "Front Door"}
    other = await api.problem(
        "/api/cameras", "camera_exists", status=409, method="POST", json=close
    )
    assert "would get the id" in other["detail"]
    # The base folder may be part of the path, and an unusual folder gets an id of its own.
    path = f"{api.base}/Hof & Garten"
    yard = await api.json(
        "/api/cameras", method="POST", json={"name": "Yard", "folder_path": path}, status=201
    )
    assert (yard["id"], yard["folder_path"]) == ("hof_garten", "Hof & Garten")


async def test_two_requests_at_once_make_one_camera(api: Served) -> None:
    async def post() -> int:
        async with api.client.post("/api/cameras", json=FRONT) as response:
            return response.status

    assert sorted(await asyncio.gather(post(), post(), post())) == [201, 409, 409]


async def test_a_found_folder_is_confirmed_by_adding_it(api: Served) -> None:
    found = CameraRegistered(camera_id="gate", name="gate", folder="gate", source="folder")
    await api.append(found)
    assert (await api.json("/api/cameras/gate"))["status"] == "unregistered"
    assert (await api.json("/api/cameras?status=unregistered"))["count"] == 1
    wanted = {"name": "Gate", "folder_path": "gate", "entry_point": True}
    made = await api.json("/api/cameras", method="POST", json=wanted, status=201)
    assert (made["status"], made["name"], made["entry_point"]) == ("active", "Gate", True)
    assert (await api.json("/api/cameras?status=unregistered"))["count"] == 0
    await api.problem("/api/cameras", "camera_exists", status=409, method="POST", json=wanted)


async def test_changes_and_removal_keep_history(api: Served) -> None:
    await api.register("front")
    told = story("front")
    await api.append(*told.events)
    changed = await api.json(
        "/api/cameras/front", method="PATCH", json={"name": "Porch", "status": "disabled"}
    )
    assert (changed["name"], changed["status"], changed["enabled"]) == ("Porch", "disabled", False)
    assert (await api.json("/api/cameras?status=disabled"))["count"] == 1
    assert changed["when_unavailable"] == "hold"
    tells = {"when_unavailable": "notify"}
    changed = await api.json("/api/cameras/front", method="PATCH", json=tells)
    assert (changed["when_unavailable"], changed["status"]) == ("notify", "disabled")
    wrong = {"when_unavailable": "maybe"}
    await api.problem("/api/cameras/front", "invalid_body", status=422, method="PATCH", json=wrong)
    async with api.client.delete("/api/cameras/front") as response:
        assert response.status == 204
        assert await response.read() == b""
    await api.problem("/api/cameras/front", "camera_not_found", status=404)
    await api.problem("/api/cameras/front", "camera_not_found", status=404, method="DELETE")
    assert (await api.json("/api/cameras"))["count"] == 0
    removed = await api.json("/api/cameras?status=removed")
    assert removed["cameras"][0]["status"] == "removed"
    assert (await api.json("/api/events?camera_id=front"))["count"] == 1
    # The folder may be added again and is then the same camera.
    back = await api.json(
        "/api/cameras", method="POST", json={"name": "P", "folder_path": "front"}, status=201
    )
    assert (back["id"], back["removed_at"], back["enabled"]) == ("front", None, True)


async def test_an_idempotency_key_has_one_effect(api: Served) -> None:
    headers = {"Idempotency-Key": "abc-1"}
    first = await api.json("/api/cameras", method="POST", json=FRONT, headers=headers, status=201)
    again = await api.json("/api/cameras", method="POST", json=FRONT, headers=headers, status=201)
    assert again["created_at"] == first["created_at"]
    other = FRONT | {"name": "Back Door"}
    await api.problem(
        "/api/cameras",
        "idempotency_key_reused",
        status=422,
        method="POST",
        json=other,
        headers=headers,
    )
    path = "/api/cameras/front_door"
    for _ in range(2):
        change = {"name": "Porch"}
        await api.json(path, method="PATCH", json=change, headers=headers)
    await api.problem(
        path,
        "idempotency_key_reused",
        status=422,
        method="PATCH",
        json={"name": "Shed"},
        headers=headers,
    )
    for _ in range(2):
        async with api.client.delete(path, headers=headers) as response:
            assert response.status == 204
    partition = api.log.partition_of("front_door")
    recorded = [each.event for each in await api.log.read("cameras", partition, START, 100)]
    assert [type(event).__name__ for event in recorded] == [
        "CameraRegistered",
        "CameraUpdated",
        "CameraRemoved",
    ]
    assert isinstance(recorded[1], CameraUpdated)
    assert recorded[1].name == "Porch"
    bad = {"Idempotency-Key": "x" * 300}
    await api.problem(
        "/api/cameras", "bad_request", status=400, method="POST", json=FRONT, headers=bad
    )


async def test_a_folder_that_cannot_be_made_is_reported(api: Served) -> None:
    (api.base / "shed").write_text("a file is in the way")
    wanted = {"name": "Shed", "folder_path": "shed"}
    made = await api.json("/api/cameras", method="POST", json=wanted, status=201)
    assert (made["folder_created"], made["folder_exists"]) == (False, False)
    assert "not a folder" in made["folder_message"]


async def test_the_newest_picture(api: Served) -> None:
    await api.register("front")
    await api.problem("/api/cameras/front/snapshot", "no_picture_yet", status=404)
    first, data = drawn(100, 480), drawn(200, 480)
    old, newest = story("front", 1, picture=first), story("front", 2, picture=data)
    await api.append(*newest.events, *old.events)
    api.picture(old, first)
    api.picture(newest, data)
    async with api.client.get("/api/cameras/front/snapshot") as response:
        assert response.status == 200
        assert response.content_type == "image/jpeg"
        assert response.headers["Cache-Control"] == "no-cache"
        assert await response.read() == data
        tag = response.headers["ETag"]
    headers = {"If-None-Match": tag}
    async with api.client.get("/api/cameras/front/snapshot", headers=headers) as response:
        assert response.status == 304


async def test_a_read_model_that_is_behind_answers_202(
    valkey_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.commands.WAIT_SECONDS", 0.05)
    async with served(valkey_url, database_url, tmp_path) as api:
        late = await api.json("/api/cameras", method="POST", json=FRONT, status=202)
        assert late["location"] == "/api/cameras/front_door"
        assert (tmp_path / "front_door").is_dir()
        await api.project()
        assert (await api.json("/api/cameras/front_door"))["name"] == "Front Door"
