"""Who may call what: keys, roles, cameras, sessions, refusals, and the audit of all that."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import WSMsgType
from support.enrichments import embedded, look
from support.histories import unverified
from support.serving import Served, Story, drawn, served, story

from api.access import COOKIE
from api.access_keys import KeyRing, digest_of, prime_keys
from api.access_scope import SCOPED
from api.app import TOPICS
from api.limits import is_live
from api.routing import Operation
from api.services import ApiConfig
from domain.events import ImageReceived
from projections.access_queries import AuditFilter

ADMIN = "the-key-of-the-settings"
OPERATIONS = [operation for topic in TOPICS for operation in topic.routes.operations]
RANK = {"public": 0, "viewer": 1, "operator": 2, "admin": 3}


def asking(config: ApiConfig) -> ApiConfig:
    return replace(config, api_key_enabled=True, trusted_proxies=("127.0.0.1", "::1"))


@pytest.fixture
async def api(
    valkey_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Served]:
    # Nobody projects here, so nothing that is waited for would come.
    monkeypatch.setattr("api.commands.WAIT_SECONDS", 0.2)
    monkeypatch.setattr("projections.retention.WAIT_SECONDS", 0.2)
    ring = KeyRing([digest_of(ADMIN)])
    async with served(valkey_url, database_url, tmp_path, config=asking, keys=ring) as running:
        yield running


def by(key: str) -> dict[str, str]:
    return {"X-API-Key": key}


async def make(api: Served, role: str, cameras: list[str] | None = None) -> str:
    body: dict[str, Any] = {"name": f"{role} {cameras}".translate({91: None, 93: None, 39: None})}
    body |= {"role": role} | ({"cameras": cameras} if cameras else {})
    made = await api.json("/api/keys", method="POST", json=body, headers=by(ADMIN), status=201)
    key: str = made["key"]
    return key


def address(operation: Operation, named: str = "nothing") -> str:
    """Return a path that reaches the route."""
    path = operation.path.replace("{channel:events|detections}", "events")
    path = path.replace(r"{file:[\s\S]+}", "1.jpg")
    while "{" in path:
        head, _, rest = path.partition("{")
        path = head + named + rest.partition("}")[2]
    return path


async def status_of(api: Served, operation: Operation, headers: dict[str, str]) -> tuple[int, str]:
    method = operation.method
    async with api.client.request(method, address(operation), headers=headers) as response:
        if response.content_type != "application/problem+json":
            return response.status, ""
        return response.status, (await response.json())["code"]


@pytest.mark.slow
async def test_every_route_asks_for_its_role(api: Served) -> None:
    """Walk the table: no key, a wrong key, a role too low, and the role that is asked for."""
    keys = {role: await make(api, role) for role in ("viewer", "operator")} | {"admin": ADMIN}
    lower = {"operator": "viewer", "admin": "operator"}
    asked = 0
    for operation in OPERATIONS:
        if operation.role == "public":
            status, code = await status_of(api, operation, {})
            assert code not in ("role_too_low",), operation.path
            assert status != 401 or operation.path == "/api/session", operation.path
            continue
        asked += 1
        assert await status_of(api, operation, {}) == (401, "key_missing"), operation.path
        if operation.role in lower:
            low = await status_of(api, operation, by(keys[lower[operation.role]]))
            assert low == (403, "role_too_low"), operation.path
        status, code = await status_of(api, operation, by(keys[operation.role]))
        assert status not in (401, 403), (operation.path, status, code)
    assert asked > 30


@pytest.mark.slow
async def test_the_document_says_who_is_let_in(api: Served) -> None:
    """Walk the document: key in the header, key in the query, session with and without token."""
    document = await api.json("/api/openapi.json")
    told = {
        described["operationId"]: described
        for path in document["paths"].values()
        for described in path.values()
    }
    async with api.client.post("/api/session", json={"api_key": ADMIN}) as response:
        cookie = {"Cookie": f"{COOKIE}={response.cookies[COOKIE].value}"}
    api.client.session.cookie_jar.clear()
    token = (await api.json("/api/session", headers=cookie))["csrf_token"]
    for operation in [each for each in OPERATIONS if each.name in told]:
        ways = [set(way) for way in told[operation.name]["security"]]
        assert told[operation.name]["x-role"] == operation.role
        assert told[operation.name]["x-camera-keys"] is (
            operation.role == "public" or operation.name in SCOPED
        )
        if operation.role == "public":
            assert ways == [], operation.name
            continue
        assert {"key"} in ways
        with_token = {**cookie, "X-CSRF-Token": token}
        assert (await status_of(api, operation, with_token))[0] not in (401, 403), operation.name
        no_token = (await status_of(api, operation, cookie))[1] == "csrf_token_missing"
        assert no_token == ({"session", "sessionToken"} in ways), operation.name
        assert no_token == ({"session"} not in ways), operation.name
        method, url = operation.method, f"{address(operation)}?api_key={ADMIN}"
        async with api.client.request(method, url) as response:
            assert (response.status != 401) == ({"keyInQuery"} in ways), operation.name


async def test_a_wrong_key_is_refused_everywhere(api: Served) -> None:
    asked = [each for each in OPERATIONS if each.role != "public"]
    for number, operation in enumerate(asked):
        # After ten wrong keys an address has to wait: each stands for another client.
        headers = by("not-the-key") | {"X-Forwarded-For": f"203.0.113.{number}"}
        status, code = await status_of(api, operation, headers)
        assert (status, code) == (401, "wrong_key"), operation.path


async def test_reads_take_a_viewer_and_changes_more(api: Served) -> None:
    """No route that changes something may be called by viewers; only these are public."""
    public = {operation.path for operation in OPERATIONS if operation.role == "public"}
    for operation in OPERATIONS:
        # What a page tells of its own errors changes nothing.
        if operation.writes and operation.path not in ("/api/session", "/api/logs/frontend"):
            assert RANK[operation.role] >= RANK["operator"], operation.path
    assert public <= {
        "/", "/app.js", "/style.css", "/health", "/ready", "/api/system/health",
        "/api/system/health/ready", "/api/system/health/live", "/api/openapi.json", "/api/docs",
        "/docs.js", "/docs.css", "/client.js", "/page.js", "/services.js", "/unverified.js",
        "/scenes.js",
        "/api/session", "/api/docs.js", "/api/asyncapi.json", "/api/docs/{name}",
    }  # fmt: skip


async def test_keys_come_and_go(api: Served) -> None:
    body = {"name": "Kitchen tablet", "role": "viewer", "cameras": ["front"]}
    made = await api.json("/api/keys", method="POST", json=body, headers=by(ADMIN), status=201)
    assert made["key"].startswith("hsi_")
    assert (made["cameras"], made["created_by"]) == (["front"], "API_KEYS 1")
    again: dict[str, Any] = {"method": "POST", "json": body, "headers": by(ADMIN)}
    await api.problem("/api/keys", "key_exists", status=409, **again)
    listed = await api.json("/api/keys", headers=by(ADMIN))
    assert [key["name"] for key in listed["keys"]] == ["API_KEYS 1", "Kitchen tablet"]
    assert made["key"] not in str(listed)
    await api.json("/api/events", headers=by(made["key"]))
    where = f"/api/keys/{made['id']}"
    async with api.client.delete(where, headers=by(ADMIN)) as response:
        assert response.status == 204
    await api.problem("/api/events", "wrong_key", status=401, headers=by(made["key"]))
    setting = listed["keys"][0]["id"]
    refused: dict[str, Any] = {"method": "DELETE", "headers": by(ADMIN)}
    await api.problem(f"/api/keys/{setting}", "key_is_a_setting", status=409, **refused)
    await api.problem("/api/keys/key_0", "key_not_found", status=404, headers=by(ADMIN))


async def test_no_store_holds_a_key(api: Served, valkey_url: str) -> None:
    """What is kept of a key is its hash: in the log, in tables, with an idempotency key too."""
    headers = {**by(ADMIN), "Idempotency-Key": "once"}
    body = {"name": "one", "role": "admin"}
    made = await api.json("/api/keys", method="POST", json=body, headers=headers, status=201)
    async with api.client.post("/api/session", json={"api_key": made["key"]}) as response:
        cookie = response.cookies[COOKIE].value
    await api.project()
    kept = await everything(api)
    assert hashlib.sha256(made["key"].encode()).hexdigest().encode() in kept
    for secret in (made["key"], ADMIN, cookie):
        assert secret.encode() not in kept
    rows = await api.services.queries.api_keys()
    assert made["key"] not in str(rows)


async def everything(api: Served) -> bytes:
    """Return all keys and values of Redis in one piece."""
    client = api.log.client
    found = []
    async for name in client.scan_iter():
        kind = (await client.type(name)).decode()
        match kind:
            case "stream":
                found.append(str(await client.xrange(name)).encode())
            case "string":
                found.append(await client.get(name) or b"")
            case "hash":
                found.append(str(await client.hgetall(name)).encode())
            case _:
                continue
        found.append(name)
    return b"\n".join(found)


async def test_another_process_learns_the_keys(api: Served) -> None:
    """From the table, from the log behind it, and from both: a revocation always wins."""
    first, second = await make(api, "viewer"), await make(api, "operator")
    await api.project()
    third = await make(api, "admin")
    keys = (await api.json("/api/keys", headers=by(ADMIN)))["keys"]
    gone = next(key["id"] for key in keys if key["role"] == "viewer")
    async with api.client.delete(f"/api/keys/{gone}", headers=by(ADMIN)) as response:
        assert response.status == 204
    ring = KeyRing()
    await prime_keys(ring, api.services.queries, api.log)
    assert ring.find(first) is None
    assert {key.role for text in (second, third) if (key := ring.find(text))} == {
        "operator",
        "admin",
    }


# --- cameras ----------------------------------------------------------------------------------


@pytest.fixture
async def two(api: Served) -> tuple[Story, Story]:
    """Two cameras, each with an event."""
    await api.register("front", "yard")
    picture = drawn(640, 480)
    told = story("front", 1, picture=picture), story("yard", 2, picture=picture)
    for each in told:
        api.picture(each, picture)
        received = next(event for event in each.events if isinstance(event, ImageReceived))
        await api.append(*each.events, unverified(received))
    return told


def names_of(told: Story, operation: Operation) -> str:
    """Return what names the story's camera, event, picture … in a route's path."""
    path = operation.path
    if path.startswith(("/api/cameras", "/api/media")):
        return told.camera_id
    if path.startswith("/api/events"):
        return told.event_id
    if path.startswith("/api/files"):
        return told.file_id
    return f"{told.picture_id}.0" if path.startswith("/api/detections") else told.picture_id


_NEED_MORE = frozenset(
    {
        "acknowledge_scene_change",
        "clip_file",
        "detection_video",
        "detection_video_thumbnail",
    }
)
"""Need a clip, a video or a scene change that a story does not have:
test_a_clip_goes_with_its_event, test_api_videos.py and test_api_scene_changes.py; who may see a
detection is asked by the same function for all its routes."""


def _body_of(operation: Operation) -> dict[str, Any]:
    if not operation.writes:
        return {}
    if operation.name == "generate_clip":
        return {"json": {}}
    return {"json": {"name": "x"} if "cameras" in operation.path else {"reviewed": True}}


async def test_a_clip_goes_with_its_event(api: Served, two: tuple[Story, Story]) -> None:
    key = await make(api, "viewer", ["front"])
    for told, status in zip(two, (200, 404), strict=True):
        path = f"/api/events/{told.event_id}/clip/generate"
        made = await api.json(path, method="POST", headers=by(ADMIN))
        async with api.client.get(made["url"], headers=by(key)) as response:
            assert response.status == status


async def test_a_key_for_one_camera_finds_no_other(api: Served, two: tuple[Story, Story]) -> None:
    """Walk the table with a scoped key: its camera is there, others are not, the rest is shut."""
    mine, other = two
    key = await make(api, "operator", ["front"])
    scoped = [operation for operation in OPERATIONS if operation.name in SCOPED]
    assert {operation.name for operation in scoped} == SCOPED
    for operation in scoped:
        if is_live(operation) or operation.name in _NEED_MORE:
            continue  # test_api_websocket.py: a scoped key hears of its cameras
        more = _body_of(operation)
        if "{" not in operation.path:
            await only_front(api, operation.path, key)
            continue
        wanted = address(operation, names_of(other, operation))
        async with api.client.request(
            operation.method, wanted, headers=by(key), **more
        ) as response:
            assert response.status == 404, (operation.path, await response.text())
        wanted = address(operation, names_of(mine, operation))
        async with api.client.request(
            operation.method, wanted, headers=by(key), **more
        ) as response:
            assert response.status in (200, 202), (operation.path, await response.text())
    assert (await api.json("/api/cameras/yard", headers=by(ADMIN)))["name"] == "yard"
    for operation in OPERATIONS:
        if operation.name in SCOPED or RANK[operation.role] not in (1, 2) or is_live(operation):
            continue
        code = await status_of(api, operation, by(key))
        assert code == (403, "outside_scope"), operation.path


async def test_who_was_seen_again_elsewhere_is_not_told(
    api: Served, two: tuple[Story, Story]
) -> None:
    """A sighting names the one of another camera that it was matched with."""
    path = f"/api/events/{two[0].event_id}"
    again = msgspec.structs.replace(embedded("front", 2, look(0)), event_id=two[0].event_id)
    await api.append(embedded("yard", 1, look(0)), again)

    async def sightings(route: str, key: str) -> Any:
        added = (await api.json(route, headers=by(key)))["enrichments"]
        return next(each["sightings"] for each in added if each["service"] == "clip")

    key = await make(api, "viewer", ["front"])
    for route in (path, f"{path}/enrichments"):
        (told,) = await sightings(route, ADMIN)
        assert told["parent_id"] is not None
        assert await sightings(route, key) == []


async def only_front(api: Served, path: str, key: str) -> None:
    """Check that a list or a sum tells of one camera and of no other; narrowed and by pages."""
    query = "?q=person" if path.endswith("/search") else ""
    async with api.client.get(path + query, headers=by(key)) as response:
        assert response.status == 200, (path, await response.text())
        text = await response.text()
    assert "front" in text, path
    assert "yard" not in text, (path, text)
    if path in ("/api/events", "/api/detections", "/api/files", "/api/unverified"):
        assert (await api.json(f"{path}?camera_id=yard", headers=by(key)))["count"] == 0
        assert (await api.json(f"{path}?limit=1", headers=by(key)))["next_cursor"] is None


# --- other ways to give a key -------------------------------------------------------------------


async def test_media_and_live_take_the_key_where_browsers_can_send_it(
    api: Served, two: tuple[Story, Story]
) -> None:
    key = await make(api, "viewer")
    async with api.client.get(
        f"/api/pictures/{two[0].picture_id}/thumbnail?api_key={key}"
    ) as response:
        assert response.status == 200
    # Elsewhere a key in the address ends in logs and histories.
    await api.problem(f"/api/events?api_key={key}", "key_missing", status=401)
    for query in (f"api_key={key}", f"token={key}"):
        ws = await api.client.ws_connect(f"/ws/events?{query}")
        assert (await ws.receive_json(timeout=5))["type"] == "hello"
        await ws.close()
    ws = await api.client.ws_connect("/ws/events", protocols=("hsi", f"api-key.{key}"))
    assert (await ws.receive_json(timeout=5))["type"] == "hello"
    assert ws.protocol == "hsi"
    await ws.close()


@pytest.mark.parametrize("query", ["", "?api_key=wrong", "?token=wrong"])
async def test_a_websocket_without_a_right_key_is_closed(api: Served, query: str) -> None:
    ws = await api.client.ws_connect(f"/ws/system{query}")
    message = await ws.receive(timeout=5)
    assert message.type is WSMsgType.CLOSE
    assert (message.data, ws.close_code) == (1008, 1008)


async def test_the_system_is_not_told_to_a_key_for_one_camera(api: Served) -> None:
    key = await make(api, "viewer", ["front"])
    ws = await api.client.ws_connect("/ws/system", headers=by(key))
    message = await ws.receive(timeout=5)
    assert message.data == 1008
    assert str(message.extra).startswith("outside_scope")


# --- sessions -----------------------------------------------------------------------------------


async def test_a_session_stands_for_a_key(api: Served, two: tuple[Story, Story]) -> None:
    key = await make(api, "operator")
    async with api.client.post("/api/session", json={"api_key": key}) as response:
        assert response.status == 200
        cookie = response.cookies[COOKIE]
        told = await response.json()
    assert (cookie["httponly"], cookie["samesite"], cookie["secure"]) == (True, "Strict", "")
    assert (told["role"], told["required"]) == ("operator", True)
    assert (await api.json("/api/session"))["csrf_token"] == told["csrf_token"]
    await api.json("/api/events")
    where, body = f"/api/events/{two[0].event_id}", {"reviewed": True}
    for headers in ({}, {"X-CSRF-Token": "guessed"}):
        change: dict[str, Any] = {"method": "PATCH", "json": body, "headers": headers}
        await api.problem(where, "csrf_token_missing", status=403, **change)
    headers = {"X-CSRF-Token": told["csrf_token"]}
    async with api.client.patch(where, json=body, headers=headers) as response:
        assert response.status in (200, 202)
    await api.project()
    reviewed = await api.services.queries.event(two[0].event_id)
    assert reviewed is not None
    assert reviewed.event.reviewed_by == "operator None"
    async with api.client.delete("/api/session") as response:
        assert response.status == 204
    api.client.session.cookie_jar.update_cookies({COOKIE: cookie.value})
    await api.problem("/api/events", "key_missing", status=401)


async def test_a_revoked_key_ends_its_sessions(api: Served) -> None:
    key = await make(api, "viewer")
    async with api.client.post("/api/session", json={"api_key": key}) as response:
        assert response.status == 200
    await api.json("/api/events")
    key_id = (await api.json("/api/keys", headers=by(ADMIN)))["keys"][1]["id"]
    async with api.client.delete(f"/api/keys/{key_id}", headers=by(ADMIN)) as response:
        assert response.status == 204
    await api.problem("/api/events", "key_missing", status=401)


async def test_wrong_keys_shut_an_address_out_and_are_audited(api: Served) -> None:
    for _ in range(10):
        await api.problem("/api/events", "wrong_key", status=401, headers=by("guess-guess"))
    shut = await api.problem("/api/events", "too_many_requests", status=429, headers=by(ADMIN))
    assert "wrong keys" in shut["detail"]
    await api.project()
    rows = (await api.services.queries.audit(AuditFilter(), limit=50)).items
    assert [(row.actor, row.outcome, row.status) for row in rows] == [
        ("unknown", "refused", 401)
    ] * 10
    assert "guess" not in str(rows)


async def test_who_changed_what_is_told(api: Served, two: tuple[Story, Story]) -> None:
    viewer = await make(api, "viewer")
    change: dict[str, Any] = {"method": "DELETE", "headers": by(viewer)}
    await api.problem("/api/cameras/front", "role_too_low", status=403, **change)
    async with api.client.delete("/api/cameras/front", headers=by(ADMIN)) as response:
        assert response.status in (202, 204)
    await api.project()
    told = await api.json("/api/audit?resource=/api/cameras", headers=by(ADMIN))
    assert [
        (row["actor"], row["action"], row["outcome"], row["status"]) for row in told["entries"]
    ] == [
        ("API_KEYS 1", "camera_deleted", "success", 202),
        ("viewer None", "camera_deleted", "refused", 403),
    ]
    one = told["entries"][0]
    assert await api.json(f"/api/audit/{one['id']}", headers=by(ADMIN)) == one
    stats = await api.json("/api/audit/stats", headers=by(ADMIN))
    assert stats["by_action"] == {"camera_deleted": 2, "key_created": 1}
    await api.problem("/api/audit/audit_0", "audit_not_found", status=404, headers=by(ADMIN))
    await api.problem("/api/audit", "role_too_low", status=403, headers=by(viewer))
