"""How PostgreSQL finds the files that are on their way or parked: few among many, by indexes.

A plan is looked at, not a clock, and the pages are compared with the view that decides.
"""

from collections.abc import AsyncIterator, Iterator
from itertools import product, starmap
from typing import Any

import pytest
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from projections.database import Pool, open_pool
from projections.queries import Queries
from projections.reading import Parameters, Statement
from projections.rows import FileFilter, State
from projections.scope import seeing_only

LIMIT = 5

# Files at their end: assessed, filtered, duplicates, rejected, and videos without a frame.
MANY = """
INSERT INTO files (
    file_id, camera_id, path, size_bytes, media, frames, received_at, duplicate_of,
    rejected_reason, picture_ids)
SELECT 'f' || n, 'camera_' || n % 3, n || '.jpg', 1, (ARRAY['image', 'image', 'video', NULL])[k],
    CASE WHEN k = 3 AND n % 8 = 2 THEN 0 END, timestamptz '2026-01-01' + make_interval(secs => n),
    CASE WHEN k = 4 AND n % 8 = 3 THEN 'f1' END, CASE WHEN k = 4 AND n % 8 = 7 THEN 'empty' END,
    CASE WHEN k < 3 THEN ARRAY['p' || n]
         WHEN k = 3 AND n % 8 = 6 THEN ARRAY['p' || n, 'p' || n || 'b'] ELSE '{}' END
FROM (SELECT n, 1 + n % 4 AS k FROM generate_series(1, 4000) AS n) AS numbers
"""
THEIR_PICTURES = """
INSERT INTO pictures (
    picture_id, camera_id, file_id, uri, frame, received_at, detected_at, detection_count,
    batch_id, assessed_at)
SELECT picture_id, camera_id, file_id, CASE media WHEN 'video' THEN 'frame:' ELSE 'camera:' END,
    CASE WHEN picture_id LIKE '%b' THEN 1 ELSE 0 END, received_at, received_at, n % 2,
    CASE WHEN n % 2 = 1 THEN 'b' || n END, CASE WHEN n % 2 = 1 THEN received_at END
FROM (SELECT *, substr(file_id, 2)::integer AS n FROM files) AS f,
    unnest(picture_ids) AS picture_id
"""

# Pictures that stand somewhere else, by how they got there; some forty files of each.
STANDING = {
    "before detect": "detected_at = NULL, detection_count = NULL, batch_id = NULL",
    "before batch": "detection_count = 1, batch_id = NULL",
    "before assess": "detection_count = 1, batch_id = 'b' || picture_id",
    "set aside": "detected_at = NULL, detection_count = NULL, batch_id = NULL,"
    " filtered_reason = 'the camera is disabled'",
    "parked at detect": "detected_at = NULL, detection_count = NULL, batch_id = NULL",
    "parked at assess": "detection_count = 1, batch_id = 'b' || picture_id",
    "redriven": "detected_at = NULL, detection_count = NULL, batch_id = NULL",
    "discarded": "detected_at = NULL, detection_count = NULL, batch_id = NULL",
}
STEP = 99
STAND = "UPDATE pictures SET assessed_at = NULL, {so} WHERE file_id = ANY (%s)"
PARK = """
INSERT INTO parked_entries (
    partition, ms, seq, camera_id, source_stream, source_position, group_name, stage, event_id,
    event_tag, cause, error, attempts, service_version, parked_at, picture_id, batch_id,
    resolution)
SELECT 0, row_number() OVER (), {number}, camera_id, 'files', '1-0', {stage}, {stage}, picture_id,
    'x', 'OddError', '', 1, '1', received_at, {picture}, {batch}, {resolution}
FROM pictures WHERE file_id = ANY (%s)
"""
PARKED = {
    "parked at detect": ("'detect'", "picture_id", "NULL", "NULL"),
    "parked at assess": ("'assess'", "NULL", "batch_id", "NULL"),
    "redriven": ("'detect'", "picture_id", "NULL", "'redriven'"),
    "discarded": ("'detect'", "picture_id", "NULL", "'discarded'"),
}
# Videos of which only the second frame is on its way.
SECOND_FRAME = """
UPDATE pictures SET assessed_at = NULL, detected_at = NULL, detection_count = NULL, batch_id = NULL
WHERE frame = 1 AND substr(file_id, 2)::integer % 400 = 46
"""
# The same bytes dropped again, and videos whose frames are not there yet.
LATER = """
INSERT INTO files (file_id, camera_id, path, size_bytes, media, received_at, picture_ids)
SELECT 'again' || file_id, camera_id, path || '.again', 1, media,
    received_at + interval '1 hour', picture_ids
FROM files WHERE media IS NOT NULL AND substr(file_id, 2)::integer % 33 IN (1, 2, 5, 6, 7)
   OR substr(file_id, 2)::integer % 800 = 46;
INSERT INTO files (file_id, camera_id, path, size_bytes, media, received_at)
SELECT 'new' || n, 'camera_1', 'new' || n, 1, 'video',
    timestamptz '2026-01-01' + make_interval(secs => n * 900)
FROM generate_series(1, 6) AS n
"""
TRUE_PAGE = """
SELECT file_id FROM file_states
WHERE state = %s AND camera_id = ANY (%s) ORDER BY received_at DESC, file_id DESC
"""
STATES: tuple[State, ...] = ("pending", "parked")
CAMERAS = [f"camera_{number}" for number in range(3)]


class Asked(Queries):
    """Queries that remember what they asked PostgreSQL."""

    last: tuple[Statement, Parameters]

    async def _all(
        self, kind: Any, statement: Statement, parameters: Parameters | None = None
    ) -> list[Any]:
        self.last = statement, parameters or {}
        return await super()._all(kind, statement, parameters)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[AsyncConnection[TupleRow]]:
    opened: AsyncConnection[TupleRow]
    async with await AsyncConnection.connect(database_url, autocommit=True) as opened:
        await opened.execute(MANY)
        await opened.execute(THEIR_PICTURES)
        for number, (name, so) in enumerate(STANDING.items()):
            files = [f"f{n}" for n in range(1 + number, 4001, STEP)]
            await opened.execute(STAND.format(so=so).encode(), [files])
            if (parked := PARKED.get(name)) is not None:
                stage, picture, batch, resolution = parked
                park = PARK.format(
                    number=number,
                    stage=stage,
                    picture=picture,
                    batch=batch,
                    resolution=resolution,
                )
                await opened.execute(park.encode(), [files])
        await opened.execute(SECOND_FRAME)
        await opened.execute(LATER)
        for table in ("files", "pictures", "parked_entries"):
            await opened.execute(f"VACUUM (ANALYZE) {table}".encode())
        yield opened


@pytest.fixture
async def queries(database_url: str) -> AsyncIterator[Asked]:
    pool: Pool = await open_pool(database_url, name="test")
    yield Asked(pool)
    await pool.close()


async def listed(queries: Queries, which: FileFilter) -> list[str]:
    """Return all pages."""
    found: list[str] = []
    after = None
    while True:
        page = await queries.files(which, limit=LIMIT, after=after)
        assert {row.state for row in page.items} <= {which.state}
        found += [row.file_id for row in page.items]
        after = page.next_cursor
        if after is None:
            return found


async def test_the_pages_hold_what_the_view_says(
    connection: AsyncConnection[TupleRow], queries: Asked
) -> None:
    choices = (CAMERAS, CAMERAS[:1], CAMERAS[1:3], ["camera_gone"])
    for state, cameras in product(STATES, choices):
        cursor = await connection.execute(TRUE_PAGE, [state, cameras])
        truth = [file_id for (file_id,) in await cursor.fetchall()]
        with seeing_only(tuple(cameras)):
            assert await listed(queries, FileFilter(state=state)) == truth
        if len(cameras) == 1:
            assert await listed(queries, FileFilter(state=state, camera_id=cameras[0])) == truth
        assert len(truth) > LIMIT or cameras == ["camera_gone"]
        assert state == "parked" or cameras != CAMERAS or {"f46", "f446", "againf46"} <= {*truth}
    page = await queries.files(FileFilter(state="pending", reason="batch"), limit=1000)
    assert {row.reason for row in page.items} == {"batch"}


async def test_a_page_is_found_without_a_look_at_the_others(
    connection: AsyncConnection[TupleRow], queries: Asked
) -> None:
    cursor = await connection.execute(
        "SELECT count(*) FROM file_states WHERE state IN ('pending', 'parked')"
    )
    ((few,),) = await cursor.fetchall()
    assert few < 500
    for which in starmap(FileFilter, product(STATES, (None, "camera_1"))):
        await queries.files(which, limit=LIMIT)
        statement, values = queries.last
        for step in await plan_of(connection, statement, values):
            table = step.get("Relation Name")
            if table in ("files", "pictures"):
                assert step["Node Type"] != "Seq Scan", (which, table)
                assert step["Actual Rows"] * step["Actual Loops"] <= few + 100, (which, step)


async def plan_of(
    connection: AsyncConnection[TupleRow], statement: Statement, values: Parameters
) -> list[dict[str, Any]]:
    """Return the steps that PostgreSQL took."""
    assert not isinstance(statement, bytes)
    text = statement.as_string(connection).encode()
    explain = b"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + text
    ((told,),) = await (await connection.execute(explain, values, prepare=False)).fetchall()
    return list(_steps(told[0]["Plan"]))


def _steps(step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield step
    for below in step.get("Plans", ()):
        yield from _steps(below)
