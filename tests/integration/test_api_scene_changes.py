"""Scene changes over the API: lists, acknowledging, who may, live messages, own thresholds."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.logs import NOON, all_of
from support.scenes import view_at
from support.serving import Served, served, until

from api.access_keys import KeyRing, digest_of
from api.services import ApiConfig
from domain.events import (
    CameraRegistered,
    SceneBaselineSet,
    SceneChangeAcknowledged,
    SceneChanged,
    SceneChecked,
    SceneRestored,
)
from streams.log import EventLog

LIST = "/api/cameras/yard/scene-changes"
ADMIN = "the-key-of-the-settings"


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path, projecting=True) as running:
        await running.register("yard", "porch")
        yield running


def changed(number: int, camera: str = "yard") -> SceneChanged:
    """Return the change that a camera's picture showed, `number` minutes after noon."""
    return SceneChanged(
        camera_id=camera,
        change_id=f"scene_{camera}_{number}",
        change_type="view_blocked",
        severity="high",
        similarity=0.04,
        structure=0.0,
        threshold=0.9,
        view=view_at(60 * number, camera),
        baseline=view_at(0, camera),
    )


async def listed(api: Served, query: str = "") -> list[dict[str, Any]]:
    found = await api.json(LIST + query)
    rows: list[dict[str, Any]] = found["scene_changes"]
    assert found["count"] == len(rows)
    return rows


async def test_changes_are_listed_newest_first_with_both_pictures(api: Served) -> None:
    assert await listed(api) == []
    restored = SceneRestored(
        camera_id="yard",
        change_ids=("scene_yard_1",),
        picture_id="x",
        captured_at=NOON + timedelta(minutes=2),
    )
    await api.append(changed(1), restored, changed(3), changed(3, "porch"))
    newest, oldest = await listed(api)
    assert [newest["id"], oldest["id"]] == ["scene_yard_3", "scene_yard_1"]
    assert newest["file_path"] == "yard/180.jpg"
    assert (newest["change_type"], newest["severity"]) == ("view_blocked", "high")
    assert (newest["similarity_score"], newest["acknowledged"]) == (0.04, False)
    assert (newest["acknowledged_at"], newest["restored_at"]) == (None, None)
    assert datetime.fromisoformat(newest["detected_at"]) == NOON + timedelta(minutes=3)
    assert oldest["restored_at"] is not None
    assert newest["links"]["picture"] == "/api/pictures/yard-180/image"
    assert newest["links"]["baseline"] == "/api/pictures/yard-0/image"
    assert newest["links"]["acknowledge"] == f"{LIST}/scene_yard_3/acknowledge"
    assert [row["id"] for row in await listed(api, "?limit=1")] == ["scene_yard_3"]
    await api.problem(f"{LIST}?limit=0", "invalid_parameter", status=400)
    await api.problem("/api/cameras/none/scene-changes", "camera_not_found", status=404)
    camera = await api.json("/api/cameras/yard")
    assert camera["links"]["scene_changes"] == LIST
    await acknowledging_is_one_event_however_often_it_is_asked(api)


async def acknowledging_is_one_event_however_often_it_is_asked(api: Served) -> None:
    path = f"{LIST}/scene_yard_1/acknowledge"
    answers = await asyncio.gather(*(api.json(path, method="POST") for _ in range(4)))
    first = answers[0]
    assert answers == [first] * 4
    assert (first["acknowledged"], first["acknowledged_by"]) == (True, "anonymous")
    assert await api.json(path, method="POST") == first
    assert await told(api.log) == ["scene_yard_1"]
    _, row = await listed(api)
    assert (row["acknowledged"], row["acknowledged_at"]) == (True, first["acknowledged_at"])
    assert len(await listed(api, "?acknowledged=false")) == 1
    for wrong in ("scene_porch_3", "none", "a%20b"):
        await api.problem(
            f"{LIST}/{wrong}/acknowledge", "scene_change_not_found", status=404, method="POST"
        )
    missing = "/api/cameras/none/scene-changes/scene_yard_1/acknowledge"
    await api.problem(missing, "camera_not_found", status=404, method="POST")


async def told(log: EventLog) -> list[str]:
    events = [envelope.event for envelope in await all_of(log, "scenes")]
    return [each.change_id for each in events if isinstance(each, SceneChangeAcknowledged)]


async def test_clients_hear_of_changes_and_of_nothing_that_is_only_checked(api: Served) -> None:
    async with api.client.ws_connect("/ws/events") as socket:
        await until(socket, "hello")
        checked = SceneChecked(
            camera_id="yard",
            picture_id="x",
            baseline_picture_id="y",
            captured_at=NOON,
            similarity=0.99,
            structure=1.0,
            flat=0.0,
            threshold=0.9,
            verdict="same",
        )
        begun = SceneBaselineSet(camera_id="yard", view=view_at(0), reason="first")
        await api.append(begun, checked, changed(1))
        detected = await until(socket, "scene_change")
        assert detected["data"]["change"] == "detected"
        assert detected["data"]["ids"] == ["scene_yard_1"]
        assert detected["data"]["links"]["thumbnail"] == "/api/pictures/yard-60/thumbnail"
        await api.json(f"{LIST}/scene_yard_1/acknowledge", method="POST")
        seen = await until(socket, "scene_change")
        assert seen["data"] == {
            "camera_id": "yard",
            "change": "acknowledged",
            "ids": ["scene_yard_1"],
            "at": seen["data"]["at"],
            "acknowledged_by": "anonymous",
        }
    async with api.client.ws_connect(f"/ws/events?cursor={detected['cursor']}") as socket:
        assert (await until(socket, "scene_change"))["data"] == seen["data"]
    await a_camera_has_a_threshold_of_its_own_until_it_is_taken_back(api)


async def a_camera_has_a_threshold_of_its_own_until_it_is_taken_back(api: Served) -> None:
    async def change(value: float | None) -> Any:
        body = {"scene_change_threshold": value}
        answer = await api.json("/api/cameras/yard", method="PATCH", json=body)
        return answer["scene_change_threshold"]

    assert (await api.json("/api/cameras/yard"))["scene_change_threshold"] is None
    assert await change(0.75) == 0.75
    await api.json("/api/cameras/yard", method="PATCH", json={"entry_point": True})
    assert (await api.json("/api/cameras/yard"))["scene_change_threshold"] == 0.75
    assert await change(None) is None
    for wrong in (0.49, 1.01, "high"):
        body = {"scene_change_threshold": wrong}
        await api.problem(
            "/api/cameras/yard", "invalid_body", status=422, method="PATCH", json=body
        )
    made = await api.json(
        "/api/cameras",
        method="POST",
        status=201,
        json={"name": "New", "folder_path": "new", "scene_change_threshold": 0.6},
    )
    assert made["scene_change_threshold"] == 0.6


def asking(config: ApiConfig) -> ApiConfig:
    return replace(config, api_key_enabled=True)


async def test_viewers_may_look_and_operators_acknowledge(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    ring = KeyRing([digest_of(ADMIN)])
    async with served(
        valkey_url, database_url, tmp_path, projecting=True, config=asking, keys=ring
    ) as api:
        cameras = [
            CameraRegistered(camera_id=name, name=name, folder=name, source="api")
            for name in ("yard", "porch")
        ]
        await api.append(*cameras, changed(1))

        async def key(role: str, camera: str) -> dict[str, str]:
            body = {"name": f"{role} of {camera}", "role": role, "cameras": [camera]}
            by = {"X-API-Key": ADMIN}
            made = await api.json("/api/keys", method="POST", json=body, headers=by, status=201)
            return {"X-API-Key": made["key"]}

        viewer, operator = await key("viewer", "yard"), await key("operator", "yard")
        assert (await api.json(LIST, headers=viewer))["count"] == 1
        path = f"{LIST}/scene_yard_1/acknowledge"
        await api.problem(path, "role_too_low", status=403, method="POST", headers=viewer)
        other = await key("operator", "porch")
        await api.problem(path, "camera_not_found", status=404, method="POST", headers=other)
        done = await api.json(path, method="POST", headers=operator)
        assert done["acknowledged_by"] == "operator of yard"
