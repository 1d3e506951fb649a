"""One idempotency key, one effect and one answer, for every kind of write."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.serving import Served, served

from api.app import TOPICS
from streams.requests import KeptAnswer, SeenRequests

CLEANUP = "/api/system/cleanup"
BODIES: dict[str, dict[str, Any]] = {
    "add_camera": {"name": "a", "folder_path": "a"},
    "change_camera": {"name": "a"},
    "review_event": {"reviewed": True},
    "create_key": {"name": "a", "role": "viewer"},
    "begin_session": {"api_key": "not-a-key"},
    "change_config": {"retention_days": 9},
    "log_of_browser": {"level": "ERROR", "message": "a"},
    "notification_test": {"channel": "webhook"},
}
"""A body for every operation that needs one."""


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path) as running:
        await running.register("front")  # A cleanup waits for read models that have begun.
        yield running


async def _post(api: Served, path: str, key: str) -> tuple[int, Any, str | None]:
    async with api.client.post(path, headers={"Idempotency-Key": key}) as response:
        body = await response.json(content_type=None)
        return response.status, body, response.headers.get("Idempotent-Replay")


async def test_a_request_sent_again_gets_the_answer_of_the_first(api: Served) -> None:
    status, first, replayed = await _post(api, f"{CLEANUP}?dry_run=true", "one")
    assert (status, replayed) == (200, None)
    status, again, replayed = await _post(api, f"{CLEANUP}?dry_run=true", "one")
    assert (status, replayed) == (200, "true")
    # A run of its own would have another time.
    assert again == first
    status, other, _ = await _post(api, f"{CLEANUP}?dry_run=true", "two")
    assert other["timestamp"] != first["timestamp"]
    status, problem, _ = await _post(api, f"{CLEANUP}?dry_run=false", "one")
    assert (status, problem["code"]) == (422, "idempotency_key_reused")


async def test_a_request_that_failed_may_be_sent_again(api: Served) -> None:
    path = "/api/dlq/requeue-all/nowhere"
    for _ in range(2):
        status, problem, replayed = await _post(api, path, "one")
        assert (status, problem["code"], replayed) == (404, "queue_not_found", None)


async def test_a_key_that_is_none_is_refused(api: Served) -> None:
    for bad in ("x" * 256, "a b", ""):
        status, problem, _ = await _post(api, CLEANUP, bad)
        assert (status, problem["code"]) == (400, "bad_request"), bad


async def test_every_write_takes_a_key(api: Served) -> None:
    operations = [each for topic in TOPICS for each in topic.routes.operations if each.writes]
    assert len(operations) > 15
    for operation in operations:
        path = re.sub(r"\{[^}]*\}", "x", operation.path)
        more = {"json": BODIES[operation.name]} if operation.body_required else {}
        headers = {"Idempotency-Key": "not one word"}
        told = {"method": operation.method, "headers": headers, **more}
        await api.problem(path, "bad_request", status=400, **told)


async def test_of_requests_at_the_same_time_one_is_done(api: Served) -> None:
    path = f"{CLEANUP}?dry_run=true"
    answers = await asyncio.gather(*(_post(api, path, "same") for _ in range(8)))
    done = [body for status, body, _ in answers if status == 200]
    assert len({body["timestamp"] for body in done}) == 1
    rest = [body["code"] for status, body, _ in answers if status != 200]
    assert set(rest) <= {"request_in_progress"}


async def test_a_claim_is_given_up_or_kept(api: Served) -> None:
    seen = SeenRequests(api.log)
    assert await seen.claim("name", "f") is None
    before = await seen.claim("name", "f")
    assert before is not None
    assert before.answer is None
    await seen.give_up("name")
    assert await seen.claim("name", "f") is None
    await seen.keep("name", "f", KeptAnswer(201, {"Location": "/x"}, b"{}"))
    before = await seen.claim("name", "f")
    assert before is not None
    assert before.answer == KeptAnswer(201, {"Location": "/x"}, b"{}")
