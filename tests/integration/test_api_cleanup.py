"""The cleanup routes and the legal hold: dry run, real run, status, and what is refused."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.serving import Served, served, story

from projections.log_table import LogWriter
from runtime.log_shipping import LogLine
from streams.holding import holding
from streams.lease import Lease

CLEANUP = "/api/system/cleanup"
NUMBERS = (
    "events_deleted",
    "detections_deleted",
    "gpu_stats_deleted",
    "logs_deleted",
    "thumbnails_deleted",
    "images_deleted",
    "space_reclaimed",
)


@pytest.fixture
async def api(
    valkey_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Served]:
    # Retention's clock runs ahead: what is recorded now was recorded more than 30 days before.
    monkeypatch.setattr("api.cleanup._now", lambda: datetime.now(UTC) + timedelta(days=40))
    async with served(valkey_url, database_url, tmp_path, projecting=True) as running:
        yield running


def _write_logs(database_url: str) -> None:
    """Write five log records of today and one of five days before retention's clock."""
    write = LogWriter(database_url)
    kept = datetime.now(UTC) + timedelta(days=35)
    same: dict[str, Any] = {
        "level": logging.INFO,
        "component": "api",
        "host": "here",
        "pid": 7,
        "logger": "tests",
    }
    times = (*[datetime.now(UTC)] * 5, kept)
    write([LogLine(at=at, message="a record", **same) for at in times])
    write.close()


async def test_dry_run_numbers_are_those_of_the_run_that_follows(
    api: Served, database_url: str
) -> None:
    told = [story("porch", number) for number in range(3)]  # of last year
    for each in told:
        await api.append(*each.events)
    await asyncio.to_thread(_write_logs, database_url)
    planned = await api.json(f"{CLEANUP}?dry_run=true", method="POST")
    assert planned["dry_run"] is True
    assert (planned["logs_deleted"], planned["thumbnails_deleted"]) == (5, 0)
    assert planned["retention_days"] == 30
    assert (planned["events_deleted"], planned["detections_deleted"]) == (3, 3)
    assert (await api.json("/api/events"))["count"] == 3
    before = await api.json(f"{CLEANUP}/status")
    assert before["last_run"] is None
    done = await api.json(f"{CLEANUP}?dry_run=false", method="POST")
    assert done["dry_run"] is False
    assert {name: done[name] for name in NUMBERS} == {name: planned[name] for name in NUMBERS}
    assert (await api.json("/api/events"))["count"] == 0
    assert sum(row.files for row in await api.services.queries.file_counts()) == 3
    assert (await api.json("/api/logs"))["count"] == 1
    after = await api.json(f"{CLEANUP}/status")
    assert after["running"] is False
    told_later = [name for name in NUMBERS if name != "thumbnails_deleted"]
    assert {name: after["last_run"][name] for name in told_later} == {
        name: planned[name] for name in told_later
    }
    again = await api.json(CLEANUP, method="POST")
    assert {again[name] for name in NUMBERS} == {0}


async def test_a_held_event_stays(api: Served) -> None:
    held, other = story("porch", 1), story("porch", 2)
    await api.append(*held.events, *other.events)
    path = f"/api/events/{held.event_id}"
    answer = await api.json(path, method="PATCH", json={"hold": True})
    assert answer["held"] is True
    assert (await api.json(f"/api/events/{other.event_id}"))["held"] is False
    done = await api.json(CLEANUP, method="POST")
    assert done["events_deleted"] == 1
    assert (await api.json(path))["held"] is True
    await api.problem(f"/api/events/{other.event_id}", "event_not_found", status=404)
    lifted = await api.json(path, method="PATCH", json={"hold": False})
    assert lifted["held"] is False


async def test_what_is_refused_says_why(api: Served) -> None:
    told = story("porch")
    await api.append(*told.events)
    await api.problem(f"{CLEANUP}?dry_run=perhaps", "invalid_parameter", status=400, method="POST")
    await api.problem(f"{CLEANUP}?days=1", "unknown_parameter", status=400, method="POST")
    await api.problem(
        f"/api/events/{told.event_id}",
        "invalid_body",
        status=422,
        method="PATCH",
        json={"hold": True, "reviewed": True},
    )
    async with holding(Lease(api.log, "retention", 0), "retention"):
        await api.problem(CLEANUP, "cleanup_running", status=409, method="POST")
