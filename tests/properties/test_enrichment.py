"""Entities follow from the sightings alone: any interleaving, any runs, with pgvector or not."""

import asyncio
import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from support.enrichments import captioned, described, embedded, left_out, look, names
from support.histories import NOON, envelopes
from support.interleaving import interleaved

from domain import ids
from domain.events import Event, ObjectsEmbedded, RetentionApplied, Sighting
from projections.enrichment import Enrichment
from streams.envelope import Envelope

TABLES = ("enrichments", "sightings", "enrichment_redactions")
CAMERAS = ("front_door", "garden", "garage")
Contents = dict[str, list[Any]]


def history(random: Random) -> list[Event]:
    """Make up what three cameras' events got: looks near each other, words again, retention."""
    events: list[Event] = []
    for camera in CAMERAS:
        for number in range(random.randint(1, 8)):
            when = _when(random, number)
            events += [_looks(random, camera, number, when) for _ in range(random.randint(1, 2))]
            events += random.sample(
                [
                    captioned(camera, number, minutes=when),
                    captioned(camera, number, "another caption", minutes=when),
                    described(camera, number, random.choice(["red", "blue"]), minutes=when),
                    left_out(camera, number, minutes=when),
                    left_out(camera, number, "florence", minutes=when),
                ],
                k=random.randint(0, 2),
            )
        if random.random() < 0.5:
            events.insert(random.randrange(len(events)), _retention(random, camera))
    return events


def _when(random: Random, number: int) -> float:
    """Return the minute of an event: out of order, and now and then beyond a window."""
    return random.choice([number, number * 3, 600 - number, 1500 + number])


def _looks(random: Random, camera: str, number: int, when: float) -> ObjectsEmbedded:
    looks = [look(random.choice([0, 10, 20, 25, 40, 90])) for _ in range(random.randint(1, 3))]
    return embedded(
        camera,
        number,
        *looks,
        kind=random.choice(["person", "person", "vehicle"]),
        model=random.choice(["clip", "clip", "newer"]),
        minutes=when,
        window_hours=random.choice([1.0, 24.0]),
        threshold=random.choice([0.85, 0.95]),
    )


def _retention(random: Random, camera: str) -> RetentionApplied:
    return RetentionApplied(
        camera_id=camera,
        cutoff=NOON + timedelta(minutes=random.choice([2, 400, 3000])),
        as_of=NOON + timedelta(days=30 * random.choice([-1, 1])),
        kept_event_ids=(names(camera, random.randint(0, 7))[2],),
        events_deleted=0,
        detections_deleted=0,
        images_deleted=0,
        space_reclaimed=0,
    )


async def contents_after(
    url: str, runs: Sequence[Sequence[Envelope]], *, pgvector: bool
) -> Contents:
    """Return what stands in every table once `runs` have been applied to empty ones."""
    model = Enrichment(pgvector=pgvector)
    connection: AsyncConnection[TupleRow]
    async with await AsyncConnection.connect(url) as connection:
        for table in TABLES:
            await connection.execute(f"DELETE FROM {table}")
        for run in runs:
            if run:
                await model.apply(connection, run)
        found: Contents = {}
        for table in TABLES:
            statement = f"SELECT t::text FROM {table} t ORDER BY 1"
            cursor = await connection.execute(statement)
            found[table] = await cursor.fetchall()
        cursor = await connection.execute(
            "SELECT id, parent_id, similarity, entity_id FROM sightings ORDER BY id"
        )
        found["links"] = await cursor.fetchall()
        await connection.commit()
        return found


def by_hand(events: Sequence[ObjectsEmbedded]) -> list[tuple[str, str | None]]:
    """Return each sighting's parent as the rule says it, the slow way."""
    seen: list[tuple[datetime, str, ObjectsEmbedded, Sighting]] = sorted(
        (s.captured_at, ids.sighting_id(e.event_id, s.detection_id), e, s)
        for e in events
        for s in e.sightings
    )
    found = []
    for index, (at, one, event, sighting) in enumerate(seen):
        best: tuple[float, str | None] = (event.threshold, None)
        for earlier, other, its, it in seen[:index]:
            same = (its.model, it.kind) == (event.model, sighting.kind)
            near = at - earlier <= timedelta(hours=event.window_hours)
            alike = round(_cosine(it.vector, sighting.vector), 6)
            if same and near and its.event_id != event.event_id and alike >= best[0]:
                best = (alike, other)
        found.append((one, best[1]))
    return sorted(found)


def _cosine(one: bytes, other: bytes) -> float:
    a, b = (np.frombuffer(each, "<i2").astype(object) for each in (one, other))
    return float(sum(a * b) / math.sqrt(sum(a * a) * sum(b * b)))


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(random=st.randoms(use_true_random=False))
def test_any_interleaving_redelivery_and_server_gives_the_same_entities(
    database_url: str, random: Random
) -> None:
    log = envelopes(history(random))
    straight = asyncio.run(contents_after(database_url, [log], pgvector=True))
    mixed = asyncio.run(contents_after(database_url, interleaved(random, log), pgvector=True))
    assert mixed == straight
    without = asyncio.run(contents_after(database_url, interleaved(random, log), pgvector=False))
    assert without == straight


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(random=st.randoms(use_true_random=False))
def test_links_are_those_of_the_rule(database_url: str, random: Random) -> None:
    events = [
        _looks(random, camera, n, _when(random, n))
        for camera in CAMERAS
        for n in range(random.randint(1, 6))
    ]
    runs = interleaved(random, envelopes(events))
    found = asyncio.run(contents_after(database_url, runs, pgvector=random.random() < 0.5))
    assert [(row[0], row[1]) for row in found["links"]] == by_hand(events)
    entity = {row[0]: row[3] for row in found["links"]}
    for one, parent, _, named in found["links"]:
        assert named == (one if parent is None else entity[parent])


async def test_a_server_without_pgvector_gives_the_same_entities(database_url: str) -> None:
    events = [embedded(camera, n, look(8.0 * n)) for n, camera in enumerate(CAMERAS)]
    log = envelopes(events)
    with_it = await contents_after(database_url, [log], pgvector=True)
    async with await AsyncConnection.connect(database_url) as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM pg_extension WHERE extname='vector'"
        )
        assert await cursor.fetchone() == (1,)  # The embedded server has it.
        await connection.execute("DROP EXTENSION vector")
    assert await contents_after(database_url, [log], pgvector=True) == with_it
    assert len({row[3] for row in with_it["links"]}) == 1
