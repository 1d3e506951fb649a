"""Pages of events: every combination of filters, followed to its end, against a plain look."""

from collections.abc import AsyncIterator, Iterator
from itertools import combinations
from typing import Any

import pytest
from msgspec.structs import replace
from support.event_labels import LABELS_THAT_DIFFER
from support.histories import assessed, at, envelopes, image, refined

from agents.project import read_models
from domain.events import Event, EventReviewed, Level, RetentionApplied
from projections.database import Pool, open_pool
from projections.queries import Queries
from projections.rows import EventFilter, EventRow
from projections.scope import seeing_only
from projections.timeline import Timeline

LEVELS: tuple[Level, ...] = ("low", "medium", "high", "critical")
COUNT = 48
FILTERS: dict[str, Any] = {
    "camera_id": "front_door",
    "risk_level": "high",
    "min_score": 60,
    "start": at(8),
    "end": at(40),
    "reviewed": True,
    "object_type": "dog",
    "is_fast_path": False,
}


def happened() -> Iterator[Event]:
    """Tell of events of two cameras in which no two facts go together; two begin at a time."""
    for number in range(COUNT):
        camera = "front_door" if number % 3 else "garden"
        picture = image(number - number % 2, camera, name=f"n{number}")
        told = replace(
            assessed(picture),
            event_id=f"evt_{number * 37 % COUNT:03}",
            batch_id=f"batch_{number}",
            score=number * 7 % 100,
            level=LEVELS[number % 4],
            is_fast_path=number % 5 == 0,
        )
        label = "dog" if number % 7 < 3 else "person"
        objects = tuple(replace(each, label=label) for each in told.facts.objects)
        yield replace(told, facts=replace(told.facts, objects=objects))
        if number % 2:
            yield EventReviewed(camera_id=camera, event_id=told.event_id, reviewed=True)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, name="test")
    async with opened.connection() as connection:
        for model in read_models():
            wanted = [e for e in envelopes(list(happened())) if e.stream in model.streams]
            await model.apply(connection, wanted)
    yield opened
    await opened.close()


def wanted(row: EventRow, which: dict[str, Any]) -> bool:
    """Say whether an event passes filters, by looking at it."""
    facts = {
        "camera_id": row.camera_id,
        "risk_level": row.risk_level,
        "reviewed": row.reviewed,
        "is_fast_path": row.is_fast_path,
    }
    return (
        all(facts[name] == value for name, value in which.items() if name in facts)
        and row.risk_score >= which.get("min_score", 0)
        and which.get("start", row.started_at) <= row.started_at
        and ("end" not in which or row.started_at < which["end"])
        and ("object_type" not in which or which["object_type"] in row.labels)
    )


async def all_pages(queries: Queries, which: EventFilter, limit: int) -> list[EventRow]:
    """Follow the cursors to the last page."""
    rows, after = [], None
    while True:
        page = await queries.events(which, limit=limit, after=after)
        assert len(page.items) <= limit
        rows += page.items
        after = page.next_cursor
        if after is None:
            return rows


async def test_every_combination_of_filters(pool: Pool) -> None:
    queries = Queries(pool)
    everything = await all_pages(queries, EventFilter(), 10)
    assert len(everything) == COUNT
    assert everything == sorted(everything, key=lambda r: (r.started_at, r.id), reverse=True)
    found = 0
    for count in range(1, len(FILTERS) + 1):
        for names in combinations(FILTERS, count):
            which = {name: FILTERS[name] for name in names}
            rows = await all_pages(queries, EventFilter(**which), 9)
            assert rows == [row for row in everything if wanted(row, which)], which
            found += len(rows)
    assert found > 500


async def test_an_event_that_is_told_of_only_by_its_review_is_in_no_list(pool: Pool) -> None:
    review = EventReviewed(camera_id="front_door", event_id="evt_later", reviewed=True)
    async with pool.connection() as connection:
        for model in read_models():
            if "assessments" in model.streams:
                await model.apply(connection, envelopes([review]))
    queries = Queries(pool)
    assert await queries.event("evt_later") is None
    rows = await all_pages(queries, EventFilter(reviewed=True), 100)
    assert "evt_later" not in {row.id for row in rows}
    assert len(rows) == COUNT // 2


async def test_a_key_for_some_cameras_lists_the_events_of_those(pool: Pool) -> None:
    queries = Queries(pool)
    everything = await all_pages(queries, EventFilter(), 10)
    for names in [(), *combinations(FILTERS, 1), *combinations(FILTERS, 2)]:
        which = {name: FILTERS[name] for name in names}
        with seeing_only(["garden", "camera_of_nobody"]):
            rows = await all_pages(queries, EventFilter(**which), 5)
        seen = [row for row in everything if row.camera_id == "garden"]
        assert rows == [row for row in seen if wanted(row, which)], which
    with seeing_only([]):
        assert await all_pages(queries, EventFilter(), 10) == []


async def test_labels_follow_their_events(pool: Pool) -> None:
    """Told anew with other labels, refined, reviewed, deleted: so are the rows of its labels."""
    picture = image(0, "porch")
    fast, final = assessed(picture, stage="fast_path", label="dog"), assessed(picture, label="cat")
    steps: list[tuple[Event, list[str]]] = [
        (EventReviewed(camera_id="porch", event_id=fast.event_id, reviewed=True), []),
        (fast, ["dog"]),
        (refined(fast, score=90), ["dog"]),
        (final, ["cat"]),
        (EventReviewed(camera_id="porch", event_id=fast.event_id, reviewed=False), ["cat"]),
        (
            RetentionApplied(
                camera_id="porch",
                cutoff=at(9999),
                as_of=at(9999),
                events_deleted=1,
                detections_deleted=0,
                images_deleted=0,
                space_reclaimed=0,
            ),
            [],
        ),
    ]
    log = envelopes([event for event, _ in steps])
    async with pool.connection() as connection:
        for envelope, (event, labels) in zip(log, steps, strict=True):
            await Timeline().apply(connection, [envelope])
            found = await connection.execute(
                "SELECT label FROM event_labels WHERE id = %s", (fast.event_id,)
            )
            assert [row[0] for row in await found.fetchall()] == labels, event
            differ = await connection.execute(LABELS_THAT_DIFFER.encode())
            assert await differ.fetchall() == [], event
