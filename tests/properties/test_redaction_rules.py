"""Retention's rules meet every row, whatever order the streams are applied in."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from support.event_labels import LABELS_THAT_DIFFER
from support.histories import assessed, at, envelopes, image
from support.made_up import history

from agents.project import read_models
from domain.events import SYSTEM, Event, EventHeld, RetentionApplied, RetentionFinished
from streams.envelope import Envelope

TABLES = sorted({table for model in read_models() for table in model.tables})
CAMERAS = ("front_door", "garden", "garage")


def rules(random: Random, recorded: Sequence[datetime]) -> list[Event]:
    """Return what one or two runs decided in the end: some cameras, a cut-off in the middle."""
    events: list[Event] = []
    first = image(0, random.choice(CAMERAS))
    kept = assessed(first).event_id
    as_of = max(recorded)
    for _ in range(random.randint(1, 2)):
        as_of += timedelta(microseconds=500)
        cutoff = at(random.randint(0, 8))
        events += [
            RetentionApplied(
                camera_id=camera,
                cutoff=cutoff,
                as_of=as_of,
                kept_event_ids=(kept,),
                kept_picture_ids=(first.picture_id,),
                kept_file_ids=(first.file_id,),
                events_deleted=0,
                detections_deleted=0,
                images_deleted=0,
                space_reclaimed=0,
            )
            for camera in random.sample(CAMERAS, k=random.randint(1, 3))
        ]
        told = dict.fromkeys(
            (
                "events_deleted",
                "detections_deleted",
                "gpu_stats_deleted",
                "images_deleted",
                "space_reclaimed",
            ),
            0,
        )
        events.append(
            RetentionFinished(
                camera_id=SYSTEM,
                cutoff=cutoff,
                as_of=as_of,
                finished_at=as_of,
                retention_days=30,
                **told,
            )
        )
    return events


def interleaved(random: Random, log: Sequence[Envelope]) -> list[list[Envelope]]:
    """Mix the lanes at random, each in order, and cut them into runs."""
    lanes: dict[tuple[str, int], list[Envelope]] = defaultdict(list)
    for envelope in log:
        lanes[envelope.stream, envelope.partition].append(envelope)
    queues = [list(reversed(lane)) for lane in lanes.values()]
    runs: list[list[Envelope]] = [[]]
    while queues := [queue for queue in queues if queue]:
        queue = random.choice(queues)
        for _ in range(min(len(queue), random.randint(1, 4))):
            runs[-1].append(queue.pop())
        if random.random() < 0.3:
            runs.append([])
    return runs


async def contents_after(url: str, runs: Sequence[Sequence[Envelope]]) -> dict[str, list[Any]]:
    connection: AsyncConnection[TupleRow]
    async with await AsyncConnection.connect(url) as connection:
        for table in TABLES:
            await connection.execute(f"DELETE FROM {table}")
        for run in runs:
            for model in read_models():
                if wanted := [each for each in run if each.stream in model.streams]:
                    await model.apply(connection, wanted)
        found: dict[str, list[Any]] = {}
        for table in TABLES:
            cursor = await connection.execute(f"SELECT t::text FROM {table} t ORDER BY 1")
            found[table] = await cursor.fetchall()
        differ = await connection.execute(LABELS_THAT_DIFFER.encode())
        assert await differ.fetchall() == []
        await connection.commit()
        return found


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(random=st.randoms(use_true_random=False))
def test_any_interleaving_with_retention_gives_the_same_rows(
    database_url: str, random: Random
) -> None:
    event_id = assessed(image(0, "garden")).event_id
    told = [*history(random), EventHeld(camera_id="garden", event_id=event_id, held=True)]
    recorded = [envelope.position.recorded_at for envelope in envelopes(told)]
    log = envelopes([*told, *rules(random, recorded)])
    straight = asyncio.run(contents_after(database_url, [log]))
    mixed = asyncio.run(contents_after(database_url, interleaved(random, log)))
    assert mixed == straight
