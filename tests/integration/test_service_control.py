"""Requests to start and stop services: through the API and the log to a supervisor, and back."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.logs import opened
from support.loss import copy, put_back
from support.servers import PrivateValkey
from support.serving import Served, new, served
from support.supervising import FAIL, SERVICES, supervising, watching_children
from support.watching import eventually

from domain.events import (
    SYSTEM,
    ProcessFacts,
    ServiceAction,
    ServiceControlRequested,
    ServiceStateChanged,
)
from hsi import control, holder
from streams.envelope import START, NewEvent
from streams.supervised import load_supervised

ROUTE = "/api/system/services"


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(
        valkey_url,
        database_url,
        tmp_path,
        config=lambda config: replace(config, service_wait_seconds=20.0),
    ) as running:
        yield running


async def ask(api: Served, service: str, action: str, *, status: int = 200) -> dict[str, Any]:
    told = await api.json(f"{ROUTE}/{service}/{action}", method="POST", status=status)
    found: dict[str, Any] = told["service"] if status == 200 else told
    return found


def asked(action: ServiceAction) -> ServiceControlRequested:
    return ServiceControlRequested(
        camera_id=SYSTEM,
        service="detect",
        action=action,
        actor="ann",
        requested_at=datetime.now(UTC),
    )


async def request(api: Served, action: ServiceAction, new_id: str) -> None:
    """Ask as an API does that dies before it hears the answer."""
    await api.log.append(NewEvent(id=new_id, event=asked(action), correlation_id=new_id))


async def answers(api: Served) -> list[tuple[str, str]]:
    """Return what was answered to which request, in order."""
    found = await api.log.read("system", api.log.partition_of(SYSTEM), START, 1000)
    return [
        (each.event.process.answers, each.event.status)
        for each in found
        if isinstance(each.event, ServiceStateChanged)
        and each.event.process is not None
        and each.event.process.answers
    ]


async def known(api: Served, service: str, status: str) -> None:
    async def is_so() -> bool:
        word = api.services.supervision.word(service)
        return word is not None and word.status == status

    await eventually(is_so, seconds=20)


async def test_a_service_goes_through_all_its_states(
    api: Served, valkey_url: str, tmp_path: Path
) -> None:
    async with supervising(valkey_url, tmp_path) as supervisor:
        await known(api, "detect", "running")
        assert (await ask(api, "detect", "restart"))["restart_count"] == 1
        assert (await ask(api, "detect", "stop"))["status"] == "stopped"
        assert (await ask(api, "detect", "stop"))["status"] == "stopped"
        assert (await ask(api, "detect", "start"))["status"] == "running"
        disabled = await ask(api, "detect", "disable")
        assert (disabled["status"], disabled["message"]) == ("disabled", "disabled by anonymous")
        said = await ask(api, "detect", "restart", status=409)
        assert said["detail"] == "detect was disabled by anonymous: enable it first"
        assert (await ask(api, "detect", "enable"))["status"] == "running"
        assert supervisor.starts == [
            SERVICES,
            SERVICES,
            ("watch",),
            SERVICES,
            ("watch",),
            SERVICES,
        ]
        said = await ask(api, "api", "restart", status=409)
        assert said["detail"] == "api cannot be controlled: it answers these requests"


async def test_what_fails_is_reported_as_failure(
    api: Served, valkey_url: str, tmp_path: Path
) -> None:
    async with supervising(valkey_url, tmp_path) as supervisor:
        await known(api, "detect", "running")
        supervisor.program = FAIL
        said = await ask(api, "detect", "restart", status=502)
        assert said["code"] == "service_action_failed"
        assert "ended with exit status 3; starting it again" in said["detail"]
        assert supervisor.process.keeper is not None
        supervisor.process.keeper.failed = True
        supervisor.control.tell(supervisor.process)
        await known(api, "detect", "failed")
        health = await api.json("/api/system/health")
        assert health["services"]["processes"]["status"] == "degraded"
        ready = await api.json("/ready")
        assert (ready["ready"], ready["status"]) == (True, "degraded")
        assert {each["name"]: each["running"] for each in ready["workers"]}["detect"] is False
        said = await ask(api, "detect", "start", status=409)
        assert (said["code"], "enable it" in said["detail"]) == ("service_failed", True)
        supervisor.program = 'echo {} > "$0"; exec sleep 600'
        enabled = await ask(api, "detect", "enable")
        assert (enabled["status"], enabled["failure_count"]) == ("running", 0)


async def test_without_a_supervisor_a_request_is_said_to_have_failed_and_is_not_done_later(
    api: Served, valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, why in (
        ("detect", "no `hsi up` runs it"),
        ("redis", "Redis holds the log, through which these requests come"),
        ("database", "PostgreSQL holds the read models"),
    ):
        said = await ask(api, name, "restart", status=409)
        assert said["code"] == "service_not_supervised"
        assert f"{name} cannot be controlled: {why}" in said["detail"]
    async with supervising(valkey_url, tmp_path):
        await known(api, "detect", "running")
    object.__setattr__(api.services.config, "service_wait_seconds", 0.2)
    said = await ask(api, "detect", "stop", status=504)
    assert said["code"] == "supervisor_silent"
    audit = [each for each in await _audited(api) if each[0] == "stop_service"]
    assert audit == [("stop_service", "refused")]
    monkeypatch.setattr(control, "EXPIRED_SECONDS", 0.0)
    async with supervising(valkey_url, tmp_path) as supervisor:

        async def seen() -> bool:
            return bool(supervisor.control._handled)

        await eventually(seen, seconds=20)
        monkeypatch.undo()
        object.__setattr__(api.services.config, "service_wait_seconds", 20.0)
        assert (await ask(api, "watch", "stop"))["status"] == "stopped"
        assert supervisor.starts == [SERVICES, ("detect",)]


async def _audited(api: Served) -> list[tuple[str, str]]:
    await api.project()
    told = await api.json("/api/audit")
    return [(each["action"], each["outcome"]) for each in told["entries"]]


async def test_a_request_is_answered_once_whoever_dies(
    api: Served, valkey_url: str, tmp_path: Path
) -> None:
    """The second supervisor finds what the first one did not answer, and what is disabled."""
    async with supervising(valkey_url, tmp_path):
        await request(api, "disable", "one")
        await known(api, "detect", "disabled")
    await request(api, "restart", "two")
    await request(api, "enable", "three")

    async def all_answered() -> bool:
        return len(await answers(api)) == 3

    async with supervising(valkey_url, tmp_path) as second:
        await eventually(all_answered, seconds=20)
    assert second.starts == [("watch",), SERVICES]
    async with supervising(valkey_url, tmp_path) as third:
        await ask(api, "watch", "stop")
    assert third.starts == [SERVICES, ("detect",)]
    told = [each for each in await answers(api) if len(each[0]) < 6]
    assert told == [("one", "disabled"), ("two", "disabled"), ("three", "running")]


async def test_of_two_on_one_redis_one_obeys_and_the_other_says_so(
    api: Served, valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holder, "LATE_SECONDS", 0.0)
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    async with AsyncExitStack() as stack:
        watch = stack.enter_context(watching_children())
        async with supervising(valkey_url, folders[0], "porch 1", watch) as first:
            await known(api, "detect", "running")
            second = await stack.enter_async_context(
                supervising(valkey_url, folders[1], "attic 2", watch)
            )

            def says_so() -> bool:
                return any("on porch 1 (this one: attic 2)" in line for line in second.said)

            await eventually(says_so, seconds=20)
            assert (await ask(api, "detect", "restart"))["restart_count"] == 1
            assert (first.starts, second.starts) == ([SERVICES] * 2, [SERVICES])
            assert not any("anonymous asked for" in line for line in second.said)
        await first.control.say_goodbye()

        def takes_over() -> bool:
            return "the `hsi up` on porch 1 has ended" in second.said[-1]

        await eventually(takes_over, seconds=20)
        assert (await ask(api, "detect", "stop"))["status"] == "stopped"
        assert (first.starts, second.starts) == ([SERVICES] * 2, [SERVICES, ("watch",)])
    told = [status for _, status in await answers(api)]
    assert told == ["running", "stopped"]


async def test_what_the_settings_no_longer_name_is_no_trouble_and_keeps_its_state(
    api: Served, valkey_url: str, tmp_path: Path
) -> None:
    facts = ProcessFacts(process="pipeline", host="here", enabled=False, by="ann")
    disabled = ServiceStateChanged(
        camera_id=SYSTEM,
        service="enrich",
        status="disabled",
        message="disabled by ann",
        changed_at=datetime.now(UTC),
        process=facts,
    )
    await api.append(disabled)
    await known(api, "enrich", "disabled")
    async with supervising(valkey_url, tmp_path):
        await known(api, "enrich", "stopped")
        await known(api, "detect", "running")
        health = await api.json("/api/system/health")
        assert health["services"]["processes"]["status"] == "healthy"
        said = await ask(api, "enrich", "enable", status=409)
        assert said["detail"] == f"enrich cannot be controlled: {control.NOT_HERE}"
    assert api.services.supervision.known.disabled == {"enrich": ""}


async def test_a_redis_that_comes_back_without_its_end_is_told_again(
    private_valkey: PrivateValkey, tmp_path: Path
) -> None:
    """Nobody has to start `hsi up` again, and what was disabled stays so."""

    async def last(service: str) -> tuple[str, str]:
        async with opened(private_valkey.url, 4) as log:
            words = (await load_supervised(log)).services
        return (words[service].status, words[service].facts.by) if service in words else ("", "")

    async def disabled() -> bool:
        return await last("detect") == ("disabled", "ann")

    async with opened(private_valkey.url, 4) as log:
        await log.append(new(asked("disable")))
    copy(private_valkey, tmp_path / "kept")
    async with supervising(private_valkey.url, tmp_path) as supervisor:
        await eventually(disabled, seconds=20)
        put_back(private_valkey, tmp_path / "kept")
        await eventually(disabled, seconds=20)
        assert supervisor.process.off.keys() == {"detect"}
        async with opened(private_valkey.url, 4) as log:
            await log.append(new(asked("enable")))

        async def running() -> bool:
            return await last("detect") == ("running", "")

        await eventually(running, seconds=20)
