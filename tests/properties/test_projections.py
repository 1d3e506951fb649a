"""Any interleaving of the streams, in any runs, with redelivery, gives the same rows."""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection, connect
from psycopg.rows import TupleRow
from support.histories import envelopes
from support.interleaving import interleaved
from support.made_up import history

from agents.project import read_models
from streams.envelope import Envelope

TABLES = (
    "cameras",
    "files",
    "pictures",
    "parked_entries",
    "detections",
    "events",
    "event_labels",
    "gpu_samples",
    "gpu_sources",
    "service_states",
    "positions",
    "enrichments",
    "sightings",
    "trial_comparisons",
    "trial_changes",
    "prompt_comparisons",
    "unverified",
    "scene_changes",
)
Contents = dict[str, list[Any]]


async def contents_after(url: str, runs: Sequence[Sequence[Envelope]]) -> Contents:
    """Return what stands in every table once `runs` have been applied to empty ones."""
    connection: AsyncConnection[TupleRow]
    async with await AsyncConnection.connect(url) as connection:
        for table in TABLES:
            await connection.execute(f"DELETE FROM {table}")
        for run in runs:
            for model in read_models():
                wanted = [envelope for envelope in run if envelope.stream in model.streams]
                if wanted:
                    await model.apply(connection, wanted)
        found: Contents = {}
        for table in (*TABLES, "picture_states", "file_states"):
            cursor = await connection.execute(f"SELECT t::text FROM {table} t ORDER BY 1")
            found[table] = await cursor.fetchall()
        await connection.commit()
        return found


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(random=st.randoms(use_true_random=False))
def test_any_interleaving_and_redelivery_gives_the_same_rows(
    database_url: str, random: Random
) -> None:
    log = envelopes(history(random))
    straight = asyncio.run(contents_after(database_url, [log]))
    mixed = asyncio.run(contents_after(database_url, interleaved(random, log)))
    assert mixed == straight


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(random=st.randoms(use_true_random=False))
def test_every_file_is_in_exactly_one_state(database_url: str, random: Random) -> None:
    log = envelopes(history(random))
    asyncio.run(contents_after(database_url, interleaved(random, log)))
    told = {getattr(e.event, "file_id", None) for e in log if e.stream == "files"}
    with connect(database_url) as connection:
        rows = connection.execute("SELECT file_id, state, reason FROM file_states").fetchall()
    assert {row[0] for row in rows} == told
    assert len(rows) == len(told)
    known = {"assessed", "filtered", "duplicate", "rejected", "parked", "pending"}
    assert {row[1] for row in rows} <= known
    assert all(reason for _, state, reason in rows if state != "assessed")
