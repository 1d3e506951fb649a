"""How PostgreSQL finds a page of events: by runs of an index, whatever it is filtered by.

A plan is looked at, not a clock: no table is read through, and no row is read and then left out
but for its score, so the work for a page does not grow with the number of events.
"""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import msgspec
import pytest
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from projections.cursor import Cursor
from projections.database import Pool, open_pool
from projections.event_labels import SET_LABELS
from projections.queries import Queries
from projections.reading import Parameters, Statement
from projections.rows import EventFilter
from projections.scope import seeing_only

COUNT = 5000
LIMIT = 5
"""Much less than there are events of each kind: so it is where there are many."""
CAMERAS = 4
RUNS = 4 * 2 * 2
"""Of one camera and label: levels, reviewed or not, fast path or not."""

# What an event is follows from its number, in steps that have no common divisor.
EVENTS = """
INSERT INTO events (
    id, camera_id, batch_id, started_at, ended_at, stage, is_fast_path, picture_ids, labels,
    rule_score, rule_level, floor, rule_summary, rule_reasoning, signals, facts, rules_version,
    assessed_at, reviewed)
SELECT 'evt_' || n, 'camera_' || n % 4, 'batch_' || n, at, at, 'final', n % 3 = 0, '{}',
    CASE WHEN n % 5 = 0 THEN ARRAY['person', 'bear'] ELSE ARRAY['person'] END,
    n % 101, (ARRAY['low', 'medium', 'high', 'critical'])[1 + n % 101 / 26], 0, '', '', '[]', '{}',
    '1', at, n % 7 = 0
FROM generate_series(1, 5000) AS n, make_interval(secs => n) AS since,
    LATERAL (SELECT timestamptz '2026-01-01' + since AS at) AS moment
"""
MIDDLE = Cursor(datetime(2026, 1, 1, 0, 40, tzinfo=UTC), "evt_1")
FILTERS: dict[str, Any] = {
    "camera_id": "camera_1",
    "risk_level": "high",
    "min_score": 60,
    "start": datetime(2026, 1, 1, 0, 10, tzinfo=UTC),
    "end": datetime(2026, 1, 1, 1, 20, tzinfo=UTC),
    "reviewed": False,
    "object_type": "bear",
    "is_fast_path": False,
}


class Asked(Queries):
    """Queries that remember what they asked PostgreSQL."""

    last: tuple[Statement, Parameters]

    async def _text(self, statement: Statement, parameters: Parameters) -> str | None:
        self.last = statement, parameters
        return "[]"


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[AsyncConnection[TupleRow]]:
    opened: AsyncConnection[TupleRow]
    async with await AsyncConnection.connect(database_url, autocommit=True) as opened:
        await opened.execute(EVENTS)
        rows = msgspec.json.encode([{"id": f"evt_{number}"} for number in range(1, COUNT + 1)])
        await opened.execute(SET_LABELS, {"rows": rows.decode()})
        for table in ("events", "event_labels"):
            await opened.execute(f"VACUUM (ANALYZE) {table}".encode())
        yield opened


@pytest.fixture
async def queries(database_url: str) -> AsyncIterator[Asked]:
    pool: Pool = await open_pool(database_url, name="test")
    yield Asked(pool)
    await pool.close()


def combined() -> Iterator[dict[str, Any]]:
    """Give every combination of filters."""
    for count in range(len(FILTERS) + 1):
        for names in combinations(FILTERS, count):
            yield {name: FILTERS[name] for name in names}


async def plan_of(
    connection: AsyncConnection[TupleRow], queries: Asked, which: dict[str, Any], after: str | None
) -> list[dict[str, Any]]:
    """Return the steps that PostgreSQL took for a page."""
    await queries.events(EventFilter(**which), limit=LIMIT, after=after)
    statement, values = queries.last
    assert isinstance(statement, bytes)
    explain = b"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + statement
    ((told,),) = await (await connection.execute(explain, values, prepare=False)).fetchall()
    return list(_steps(told[0]["Plan"]))


def _steps(step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield step
    for below in step.get("Plans", ()):
        yield from _steps(below)


def check(steps: list[dict[str, Any]], which: dict[str, Any], runs: int) -> None:
    """Assert that a page was found without a look at what does not come into it."""
    for step in steps:
        assert step["Node Type"] != "Seq Scan", which
        left_out = step.get("Filter", "").replace("(", "").replace(")", "")
        assert left_out in ("", "stage IS NOT NULL") or left_out.startswith("risk_score >="), which
        if "min_score" not in which:
            assert step.get("Rows Removed by Filter", 0) == 0, which
        assert step.get("Rows Removed by Index Recheck", 0) == 0, which
        if step.get("Relation Name") in ("events", "event_labels"):
            assert step["Actual Rows"] * step["Actual Loops"] <= runs * (LIMIT + 1), which


async def test_a_page_is_found_by_runs_of_an_index(
    connection: AsyncConnection[TupleRow], queries: Asked
) -> None:
    for which in combined():
        steps = await plan_of(connection, queries, which, MIDDLE.encode())
        check(steps, which, RUNS)


async def test_so_is_one_for_a_key_that_is_for_some_cameras(
    connection: AsyncConnection[TupleRow], queries: Asked
) -> None:
    some = ("camera_1", "camera_3", "camera_gone")
    for which in combined():
        if {"start", "end", "is_fast_path"} & which.keys():
            continue
        with seeing_only(some):
            steps = await plan_of(connection, queries, which, None)
        check(steps, which, RUNS * len(some))
