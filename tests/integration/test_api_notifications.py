"""Notifications as the API shows them: lineage with the outcome, the set-up, a test."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from support.histories import assessed, image
from support.logs import all_of, quick, until
from support.notifying import GROUPS, deciding, done, requested, sending, settings_of
from support.serving import Served, served, story
from support.sink import Sink

from domain.ids import notification_id
from runtime.settings import Settings
from streams.redrive import DeadLetterId, DeadLetters

__all__ = ["quick"]

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with Sink().open() as opened_sink:
        yield opened_sink


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path) as running:
        await running.log.use_groups(GROUPS)
        yield running


def set_up(api: Served, settings: Settings) -> None:
    api.services.live.own = api.services.live.current = settings


async def test_lineage_shows_a_notification_and_what_came_of_it(api: Served, sink: Sink) -> None:
    tale = story("porch")

    async def shown() -> list[dict[str, Any]]:
        await api.project()
        lineage = await api.json(f"/api/events/{tale.event_id}/lineage")
        assert lineage["missing"] == []
        return [*lineage["notifications"], *lineage["parked"]]

    await api.append(*tale.events)
    assert await shown() == []
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(deciding(api.log))
        await until(lambda: requested(api.log))
        (waiting,) = await shown()
        assert (waiting["outcome"], waiting["entry"]) == ("waiting", None)
        sink.answers = [403]
        await stack.enter_async_context(sending(api.log, sink))
        await until(lambda: done(api.log))
        failed, parked = await shown()
        assert (failed["outcome"], failed["status"]) == ("failed", 403)
        assert parked["group"] == "notify"
        entry = (await all_of(api.log, "parked"))[0]
        await DeadLetters(api.log).redrive(DeadLetterId(entry.partition, entry.position))
        await until(lambda: len(sink.came) == 2)
        await until(lambda: done(api.log))
    sent, _ = await shown()
    assert (sent["outcome"], sent["status"], sent["reason"]) == ("sent", 204, None)
    assert sent["notification_id"] == notification_id(tale.event_id, "webhook")
    assert sent["entry"]["causation_id"] == sent["requested"]["id"]
    file = await api.json(f"/api/files/{tale.file_id}/lineage")
    assert file["ending"]["state"] == "assessed"
    steps = [step["step"] for step in file["pictures"][0]["steps"]]
    assert steps[-5:] == ["to be told", "not notified", "parked", "redriven", "notified"]


async def test_the_api_tells_what_is_set_up_and_sends_a_test(api: Served, sink: Sink) -> None:
    config = await api.json("/api/notification/config")
    assert (config["available_channels"], config["webhook_target"]) == ([], None)
    wanted: dict[str, Any] = {"method": "POST", "json": {"channel": "webhook"}}
    path = "/api/notification/test"
    await api.problem(path, "notification_not_configured", status=409, **wanted)
    for body in ({"channel": "email"}, {}, {"channel": "webhook", "url": "http://other"}):
        async with api.client.post(path, json=body) as response:
            assert response.status == 422
    set_up(api, settings_of(sink))
    await api.append(assessed(image(1)))
    config = await api.json("/api/notification/config")
    port = sink.listener.getsockname()[1]
    assert config["webhook_target"] == f"http://127.0.0.1:{port}"
    assert (config["webhook_configured"], config["waiting"]) == (True, 1)
    assert "verySecretPart" not in json.dumps(config)

    sink.answers = [200, 500, 302, 503]
    results = [await api.json(path, **wanted) for _ in range(4)]
    assert [(each["result"], each["status"], each["success"]) for each in results] == [
        ("taken", 200, True),
        ("refused", 500, False),
        ("refused", 302, False),
        ("away", None, False),
    ]
    assert all("verySecretPart" not in json.dumps(each) for each in results)
    assert len(set(sink.keys)) == 4
    assert {body["type"] for _, body in sink.came} == {"test"}

    async def secret(request: web.Request) -> web.StreamResponse:
        return web.Response(status=404, text="what lies behind")

    sink.answer = secret
    assert "behind" not in json.dumps(await api.json(path, **wanted))
