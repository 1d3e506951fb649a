"""Ledger and dead letters over the API and the command line, on a real log and read models."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer
from support.logs import new, received
from support.logs import rejected as rejection
from support.parking import CAUSES, BrokenError, OddError, finish, park
from support.serving import Served, served
from typer.testing import CliRunner

from domain.errors import TransientError
from domain.events import Event
from domain.outcomes import Park
from hsi.dlq import app as dlq_app
from hsi.ledger import ledger
from projections.ledger_counts import AGES
from projections.runner import Projector
from streams.consumer import ConsumerGroup
from streams.failures import Failed

CAMERA = "porch"


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path, projecting=True) as running:
        await running.register(CAMERA)
        yield running


async def shown(api: Served) -> None:
    """Wait until the ledger has applied the whole log."""
    for stream in ("files", "detections", "batches", "assessments", "parked"):
        for partition in range(api.log.partitions):
            end = await api.log.newest(stream, partition)
            assert await api.services.queries.wait_for("ledger", stream, partition, end, 10)


async def parked_150(api: Served) -> dict[str, str]:
    """Park 50 pictures for each of three causes; return the ids by picture."""
    causes = {f"{cause.__name__}{n:02}": cause for n in range(50) for cause in CAUSES}
    ids = await park(api.log, causes, camera=CAMERA)
    await shown(api)
    return {name: str(wanted) for name, wanted in ids.items()}


def by_cause(stats: Any) -> dict[str, int]:
    return {group["cause"]: group["entries"] for group in stats["groups"]}


async def test_three_causes_of_fifty_each(api: Served) -> None:
    await parked_150(api)
    stats = await api.json("/api/dlq/stats")
    assert by_cause(stats) == {"BrokenError": 50, "RefusedError": 50, "OddError": 50}
    assert {(g["model"], g["model_version"], g["group_name"]) for g in stats["groups"]} == {
        ("m", "1", "detect")
    }
    assert (stats["detection_queue_count"], stats["analysis_queue_count"]) == (50 * 3, 0)
    assert stats["total_count"] == 150
    ledger = await api.json("/api/ledger")
    assert ledger["states"] == {"parked": 150}

    # More than 100 need a confirmation; a dry run does nothing at all.
    before = await api.log.newest("parked", api.log.partition_of(CAMERA))
    problem = await api.problem(
        "/api/dlq/requeue-all/all", "confirmation_needed", status=409, method="POST"
    )
    assert "150 entries" in problem["detail"]
    dry = await api.json("/api/dlq/requeue-all/detection_queue?dry_run=true", method="POST")
    assert (dry["selected"], dry["count"], dry["dry_run"]) == (150, 0, True)
    assert await api.log.newest("parked", api.log.partition_of(CAMERA)) == before

    # One group goes, the others stay, exactly.
    redrive = "/api/dlq/requeue-all/dlq:detection_queue?cause=RefusedError"
    told = await api.json(redrive, method="POST")
    assert (told["success"], told["count"], told["remaining"]) == (True, 50, 0)
    assert by_cause(await api.json("/api/dlq/stats")) == {"BrokenError": 50, "OddError": 50}
    ledger = await api.json("/api/ledger")
    assert ledger["states"] == {"parked": 100, "pending": 50}
    assert ledger["stages"] == {"detect": 50}

    # A second redrive finds nothing, and by ids it does nothing.
    again = await api.json(redrive, method="POST")
    assert (again["success"], again["selected"], again["count"]) == (True, 0, 0)
    assert set(await finish(api.log, api.log.partition_of(CAMERA))) == {
        f"RefusedError{n:02}" for n in range(50)
    }
    await shown(api)
    assert (await api.json("/api/ledger"))["states"] == {"parked": 100, "pending": 50}
    assert (await api.json("/api/ledger"))["stages"] == {"batch": 50}


async def test_one_a_selection_and_discarding(api: Served) -> None:
    ids = await parked_150(api)
    jobs = await api.json("/api/dlq/jobs/detect?limit=2")
    first, second = jobs["jobs"]
    assert (first["attempt_count"], first["error_type"]) == (1, "BrokenError")
    assert first["queue_name"] == "dlq:detection_queue"
    # Nobody wrote down when it failed: it had when it was parked.
    assert first["first_failed_at"] == first["last_failed_at"] == first["parked_at"]
    assert (first["retry_delays"], first["first_error_type"]) == ([], "BrokenError")
    one = await api.json("/api/dlq/requeue/all", method="POST")
    assert (one["selected"], one["count"]) == (1, 1)
    (now_first,) = (await api.json("/api/dlq/jobs/all?limit=1"))["jobs"]
    assert now_first["id"] == second["id"]
    skipped = await api.json("/api/dlq/jobs/all?limit=1&start=1")
    after = await api.json(f"/api/dlq/jobs/all?limit=1&cursor={jobs['next_cursor']}")
    assert skipped["jobs"] == after["jobs"]
    detail = await api.json(f"/api/dlq/entries/{second['id']}")
    assert json.loads(detail["original_job"])["picture_id"] == second["picture_id"]
    assert detail["answer"] is None
    broken = await api.json(f"/api/dlq/entries/{first['id']}")
    assert (broken["cause"], broken["answer"]) == ("BrokenError", "<html>busy</html>")

    chosen = [ids["OddError00"], ids["OddError01"], first["id"]]
    told = await api.json("/api/dlq/requeue/detect", method="POST", json={"ids": chosen})
    assert (told["count"], told["already"], told["success"]) == (2, 1, True)
    wrong = "/api/dlq/requeue/analysis_queue"
    await api.problem(
        wrong, "dead_letter_not_found", status=404, method="POST", json={"ids": chosen}
    )


async def test_when_an_entry_failed_first_and_last_and_how_long_it_waited(api: Served) -> None:
    await api.log.append_all([new(received("a", CAMERA))])
    partition = api.log.partition_of(CAMERA)
    group = ConsumerGroup(api.log, "detect", partition, "parker")
    (delivery,) = await group.read(10, 5)
    at = delivery.envelope.position
    told = [
        Failed(at, 1, TransientError("busy"), 1.5),
        Failed(at, 2, OddError("odd"), 3.25),
        Failed(at, 3, OddError("odd"), None),
    ]
    await group.failures.note(told)
    await group.settle([(delivery, Park(OddError("odd")))])
    await shown(api)
    (job,) = (await api.json("/api/dlq/jobs/all"))["jobs"]
    times = [datetime.fromisoformat(job[f"{which}_failed_at"]) for which in ("first", "last")]
    assert times == [told[0].at, told[2].at]
    assert (job["first_error_type"], job["error_type"]) == ("TransientError", "OddError")
    assert job["retry_delays"] == [1.5, 3.25]
    entry = await hsi(api, "show", job["id"])
    assert "TransientError" in entry
    assert "[1.5, 3.25]" in entry

    # Parked again, it still failed first when it did.
    await api.json("/api/dlq/requeue/all", method="POST")
    await finish(api.log, partition, refuse=["a"])
    await shown(api)
    (again,) = (await api.json("/api/dlq/jobs/all"))["jobs"]
    assert again["first_failed_at"] == job["first_failed_at"]
    assert again["first_error_type"] == "TransientError"
    assert again["last_failed_at"] == again["parked_at"] > job["parked_at"]
    assert again["retry_delays"] == []


async def test_discarded_pictures_count_as_filtered_and_are_listed_so(api: Served) -> None:
    ids = await parked_150(api)
    chosen = [ids["OddError00"], ids["OddError01"], ids["BrokenError00"]]
    await api.json("/api/dlq/requeue/detect", method="POST", json={"ids": chosen})
    path = "/api/dlq/all?cause=BrokenError"
    discarded = await api.json(path, method="DELETE")
    assert (discarded["count"], discarded["action"]) == (49, "discard")
    ledger = await api.json("/api/ledger")
    assert ledger["states"] == {"filtered": 49, "parked": 98, "pending": 3}
    gone = await api.json("/api/files?state=filtered&reason=discarded%20after%20BrokenError")
    assert gone["count"] == 49
    page = await api.json("/api/files?state=parked&limit=60")
    rest = await api.json(f"/api/files?state=parked&limit=60&cursor={page['next_cursor']}")
    assert (rest["count"], rest["next_cursor"]) == (38, None)
    names = {file["file_id"] for file in [*page["files"], *rest["files"]]}
    assert len(names) == 98
    one_state = await api.json("/api/files?state=pending&reason=detect&camera_id=porch")
    assert one_state["count"] == 3
    assert (await api.json("/api/files?camera_id=nobody"))["files"] == []


async def test_the_ledger_sums_up_in_every_direction(api: Served, database_url: str) -> None:
    await park(api.log, {"a": BrokenError, "b": OddError}, camera=CAMERA)
    others: Sequence[Event] = [received("c", "yard"), rejection("r1", "yard"), rejection("r2")]
    await api.log.append_all([new(event) for event in others])
    await shown(api)
    ledger = await api.json("/api/ledger")
    assert ledger["total"] == sum(ledger["states"].values()) == 5
    assert {c["camera_id"]: c["states"] for c in ledger["cameras"]} == {
        "porch": {"parked": 2, "rejected": 1},
        "yard": {"pending": 1, "rejected": 1},
    }
    assert sum(age["total"] for age in ledger["ages"]) == 5
    assert [age["to_seconds"] for age in ledger["ages"]] == [*AGES, None]
    assert ledger["ages"][0]["total"] == 5
    oldest = ledger["oldest_pending"]
    assert (oldest["file_id"], oldest["stage"]) == ("file-c", "detect")
    assert 0 <= oldest["age_seconds"] < 60
    assert (await api.json("/api/ledger?camera_id=yard"))["total"] == 2
    reasons = {(r["state"], r["reason"]): r["files"] for r in ledger["reasons"]}
    assert reasons == await _of_the_view(database_url)


async def _of_the_view(database_url: str) -> dict[tuple[str, str], int]:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        cursor = await connection.execute(
            """SELECT state, CASE WHEN state = 'duplicate' THEN '' ELSE reason END, count(*)
            FROM file_states GROUP BY 1, 2"""
        )
        return {(state, reason): files for state, reason, files in await cursor.fetchall()}


async def test_read_models_made_anew_say_the_same(api: Served, database_url: str) -> None:
    ids = await parked_150(api)
    chosen = [ids[f"{cause}{n:02}"] for cause in ("OddError", "BrokenError") for n in range(9)]
    await api.json("/api/dlq/requeue/all", method="POST", json={"ids": chosen[:9]})
    refused = [f"OddError{n:02}" for n in range(4)]
    await finish(api.log, api.log.partition_of(CAMERA), refuse=refused)
    await api.json(f"/api/dlq/all?ids={','.join(chosen[9:])}", method="DELETE")
    await shown(api)
    first = await _everything(database_url)
    assert sum(row[1] == "parked" for row in first) == 150 - 18 + 4
    await _forget(database_url)
    projector = Projector(api.log, api.services.queries._pool, api.projectors[1]._read_model, 7)
    while await projector.run_once():
        continue
    assert await _everything(database_url) == first


async def _everything(database_url: str) -> list[tuple[Any, ...]]:
    query = "SELECT file_id, state, reason FROM file_states ORDER BY 1"
    entries = """SELECT ms, seq, cause, resolution, resolved_at, resolved_by, model
    FROM parked_entries ORDER BY 1, 2"""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        found = [await (await connection.execute(q)).fetchall() for q in (query, entries)]
    return [*found[0], *found[1]]


async def _forget(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await connection.execute("TRUNCATE files, pictures, parked_entries")
        await connection.execute("DELETE FROM checkpoints WHERE projection = 'ledger'")


async def test_the_command_line_shows_redrives_and_discards(api: Served) -> None:
    ids = await parked_150(api)
    listed = json.loads(await hsi(api, "list", "--json", "--limit", "3"))
    assert (listed["stats"]["total_count"], listed["count"]) == (150, 3)
    table = await hsi(api, "list")
    assert "RefusedError" in table
    assert "the oldest 20 are shown" in table
    entry = await hsi(api, "show", ids["OddError07"])
    assert "no OddError07" in entry
    assert '"picture_id":"OddError07"' in entry
    assert await hsi(api, "redrive", "--dry-run") == "150 entries would be redriven\n"
    asked = await hsi(api, "redrive", given="n\n", ends=1)
    assert "150 entries" in asked
    assert by_cause(await api.json("/api/dlq/stats"))["OddError"] == 50
    told = await hsi(api, "redrive", "detect", "--cause", "OddError", "--rate", "2000", "--json")
    assert json.loads(told)["count"] == 50
    told = await hsi(api, "redrive", "--id", ids["OddError07"])
    assert told == "0 of 1 entries redriven, 1 were decided before, 0 could not be\n"
    told = await hsi(api, "discard", "all", "--yes", "--rate", "2000")
    assert told.startswith("100 of 100 entries discarded")
    assert await hsi(api, "list") == "Nothing is parked.\n"


async def test_a_rate_is_kept(api: Served) -> None:
    ids = await parked_150(api)
    chosen = [ids[f"OddError{n:02}"] for n in range(6)]
    began = time.monotonic()
    await api.json("/api/dlq/requeue/all?rate=20", method="POST", json={"ids": chosen})
    assert time.monotonic() - began >= 5 / 20


async def test_the_command_line_shows_the_ledger(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    await park(api.log, {"a": BrokenError}, camera=CAMERA)
    await api.log.append_all([new(received("c", "yard"))])
    await shown(api)
    app = typer.Typer()
    app.command()(ledger)
    url = str(api.client.make_url("/"))
    run = CliRunner()
    table = (await asyncio.to_thread(run.invoke, app, ["--url", url])).stdout
    told = await asyncio.to_thread(run.invoke, app, ["--url", url, "--json"])
    counts = json.loads(told.stdout)
    assert counts["states"] == {"parked": 1, "pending": 1}
    assert [line.split() for line in table.splitlines()][:4] == [
        ["camera", "assessed", "filtered", "duplicate", "rejected", "parked", "pending", "total"],
        ["porch", "0", "0", "0", "0", "1", "0", "1"],
        ["yard", "0", "0", "0", "0", "0", "1", "1"],
        ["all", "0", "0", "0", "0", "1", "1", "2"],
    ]
    assert "BrokenError" in table
    assert "within 1 minute" in table
    assert "oldest pending: file-c of yard" in table
    nobody = await asyncio.to_thread(run.invoke, app, ["--url", "http://127.0.0.1:9"])
    assert "does not answer" in str(nobody.exception)


async def hsi(api: Served, *arguments: str, given: str = "", ends: int = 0) -> str:
    """Run `hsi dlq …` against the API under test, as a person would."""
    url = str(api.client.make_url("/"))
    command = [arguments[0], "--url", url, *arguments[1:]]
    result = await asyncio.to_thread(CliRunner().invoke, dlq_app, command, input=given)
    assert result.exit_code == ends, result.output
    return result.output if ends else result.stdout
