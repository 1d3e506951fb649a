"""Log records in the table: lists, filters, pages, counts, one, deletion, and the browser's."""

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.serving import Served, served

from domain.errors import ServiceUnavailableError
from projections.log_table import LogWriter
from runtime.log_shipping import LogLine

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path) as running:
        write = LogWriter(database_url)
        write([line(number) for number in range(10)])
        write([line(10, level=logging.ERROR, component="detect", message="100%_sure \\ broke")])
        write.close()
        yield running


def line(
    number: int,
    *,
    level: int = logging.INFO,
    component: str = "api",
    message: str = "",
    at: datetime | None = None,
) -> LogLine:
    return LogLine(
        at=at or NOON + timedelta(seconds=number),
        level=level,
        component=component,
        host="here",
        pid=7,
        logger="tests",
        message=message or f"record {number}",
        correlation_id=f"pic_{number}",
        extra=f'{{"number": {number}}}',
    )


async def messages(api: Served, query: str) -> list[str]:
    return [each["message"] for each in (await api.json(f"/api/logs?{query}"))["logs"]]


async def test_the_list_and_its_filters(api: Served) -> None:
    everything = await api.json("/api/logs")
    assert everything["count"] == 11
    assert everything["logs"][1]["extra"] == {"number": 9}
    assert await messages(api, "level=WARNING") == ["100%_sure \\ broke"]
    assert await messages(api, "component=detect") == ["100%_sure \\ broke"]
    assert await messages(api, "search=100%25_SURE") == ["100%_sure \\ broke"]
    assert await messages(api, "search=%25") == ["100%_sure \\ broke"]
    assert await messages(api, "search=record+7") == ["record 7"]
    assert await messages(api, "correlation_id=pic_3") == ["record 3"]
    span = "start_date=2026-03-01T12:00:01Z&end_date=2026-03-01T12:00:03Z"
    assert await messages(api, span) == ["record 2", "record 1"]


async def test_pages_one_record_and_counts(api: Served) -> None:
    first = await api.json("/api/logs?limit=6")
    second = await api.json(f"/api/logs?limit=6&cursor={first['next_cursor']}")
    ids = [each["id"] for each in first["logs"] + second["logs"]]
    assert len(set(ids)) == 11
    assert second["next_cursor"] is None
    assert (await api.json(f"/api/logs/{ids[0]}"))["level"] == "ERROR"
    for bad in ("999999", "x", "9" * 30, "-1"):
        await api.problem(f"/api/logs/{bad}", "log_not_found", status=404)
    for bad in ("0~x", f"0~{2**64}"):
        await api.problem(f"/api/logs?cursor={bad}", "invalid_cursor", status=400)
    stats = await api.json("/api/logs/stats?hours=8760")
    assert stats["total"] == 11
    assert stats["components"]["detect"] == {"ERROR": 1}


async def test_what_is_too_old_is_deleted(api: Served) -> None:
    assert await api.services.queries.delete_logs(NOON + timedelta(seconds=4)) == 4
    assert (await api.json("/api/logs"))["count"] == 7


async def test_a_browser_may_write_a_record(api: Served, caplog: pytest.LogCaptureFixture) -> None:
    body = {"level": "ERROR", "message": "x is\nundefined", "url": "/", "stack": "at y"}
    route = "/api/logs/frontend"
    assert await api.json(route, method="POST", json=body) == {"status": "recorded"}
    (said,) = [record for record in caplog.records if record.name == "browser"]
    assert (said.levelname, said.getMessage()) == ("ERROR", "x is undefined")
    assert said.__dict__["stack"] == "at y"
    too_long = {**body, "message": "x" * 2001}
    await api.problem(route, "invalid_body", status=422, method="POST", json=too_long)


def test_without_a_server_a_run_waits() -> None:
    write = LogWriter("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(ServiceUnavailableError, match="log records wait"):
        write([line(1)])
