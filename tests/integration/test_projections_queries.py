"""Every read the API makes, over rows that real read models wrote."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
from psycopg.sql import SQL
from support.histories import (
    CAT,
    FAINT,
    NOON,
    PERSON,
    assessed,
    at,
    batched,
    closed,
    detected,
    duplicate,
    envelopes,
    filtered,
    gpu_sample,
    image,
    parked,
    refined,
    registered,
    rejected,
    video,
)

from agents.project import read_models
from domain.errors import ServiceUnavailableError, TransientError
from domain.events import (
    SYSTEM,
    CameraRemoved,
    CameraUpdated,
    Event,
    EventReviewed,
    GpuReading,
    ImageReceived,
    ServiceStateChanged,
    ServiceStatus,
)
from domain.ids import detection_id
from projections.cursor import BadCursorError, Cursor
from projections.database import Pool, open_pool
from projections.queries import Queries
from projections.rows import DetectionFilter, EventFilter


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, name="test")
    yield opened
    await opened.close()


async def test_a_question_that_takes_too_long_is_given_up(database_url: str) -> None:
    pool = await open_pool(database_url, name="test", statement_seconds=0.1)
    try:
        with pytest.raises(TransientError, match=r"more than 0\.1 s and was given up") as caught:
            await Queries(pool)._text(SQL("SELECT pg_sleep(20)::text"), {})
        assert not isinstance(caught.value, ServiceUnavailableError)
        assert await Queries(pool)._text(SQL("SELECT 'the next one'"), {}) == "the next one"
    finally:
        await pool.close()


@pytest.fixture
def queries(pool: Pool) -> Queries:
    return Queries(pool)


async def apply(pool: Pool, events: Sequence[Event]) -> None:
    """Let every read model apply the events, as if appended in this order."""
    async with pool.connection() as connection:
        for model in read_models():
            wanted = [e for e in envelopes(events) if e.stream in model.streams]
            await model.apply(connection, wanted)


async def state_of(queries: Queries, file_id: str) -> tuple[str, str]:
    found = await queries.file(file_id)
    assert found is not None
    return found.file.state, found.file.reason


# --- cameras --------------------------------------------------------------------------------


async def test_cameras(pool: Pool, queries: Queries) -> None:
    events = [
        registered("front_door"),
        registered("garden", api=False),
        registered("attic"),
        CameraUpdated(camera_id="garden", confirmed=True, entry_point=True),
        CameraRemoved(camera_id="attic"),
        image(1, "unregistered"),
        image(5, "garden"),
        image(3, "garden"),
    ]
    await apply(pool, events)
    assert [row.id for row in await queries.cameras()] == ["front_door", "garden"]
    assert len(await queries.cameras(include_removed=True)) == 3
    garden = await queries.camera("garden")
    assert garden is not None
    assert (garden.source, garden.confirmed, garden.entry_point) == ("folder", True, True)
    assert garden.last_seen_at == at(5)
    attic = await queries.camera("attic")
    assert attic is not None
    assert attic.removed_at is not None
    assert await queries.camera("unregistered") is None
    assert await queries.camera("nul\0 and \ud800") is None


async def test_a_found_folder_does_not_undo_what_a_person_set(
    pool: Pool, queries: Queries
) -> None:
    await apply(pool, [registered("garden", name="Roses"), registered("garden", api=False)])
    camera = await queries.camera("garden")
    assert camera is not None
    assert (camera.name, camera.source, camera.confirmed) == ("Roses", "api", True)


# --- ledger ---------------------------------------------------------------------------------


async def test_each_file_is_in_one_state_with_its_reason(pool: Pool, queries: Queries) -> None:
    done, nothing, waiting, joined, fresh, broken = (image(number) for number in range(6))
    off = image(6)
    copy, bad = duplicate(1, done), rejected(300)
    events = [
        *(done, nothing, waiting, joined, fresh, broken, copy, bad, off),
        detected(done, PERSON),
        detected(nothing, FAINT),
        detected(waiting, PERSON),
        detected(joined, PERSON),
        batched(done, done),
        batched(joined, joined),
        closed(done),
        assessed(done),
        parked("detect", picture=broken),
        parked("refine", picture=done),
        filtered(off),
    ]
    await apply(pool, events)
    expected = {
        done.file_id: ("assessed", ""),
        nothing.file_id: ("filtered", "no object at or above the threshold"),
        waiting.file_id: ("pending", "batch"),
        joined.file_id: ("pending", "assess"),
        fresh.file_id: ("pending", "detect"),
        broken.file_id: ("parked", "PermanentError"),
        copy.file_id: ("duplicate", done.file_id),
        bad.file_id: ("rejected", "empty"),
        off.file_id: ("filtered", "camera_disabled"),
    }
    for file_id, state in expected.items():
        assert await state_of(queries, file_id) == state
    counts = await queries.file_counts(camera_id="front_door")
    assert sum(row.files for row in counts) == len(expected)
    assert ("duplicate", "", 1) in {(row.state, row.reason, row.files) for row in counts}
    assert await queries.file_counts(camera_id="elsewhere") == []
    first = await queries.file(done.file_id)
    assert first is not None
    assert [row.file_id for row in first.duplicates] == [copy.file_id]
    assert await queries.file("file_unknown") is None


async def test_a_batch_parked_at_assess_parks_its_pictures(pool: Pool, queries: Queries) -> None:
    picture = image(1)
    joined = batched(picture, picture)
    events = [picture, detected(picture, PERSON), joined, parked("assess", batch=joined.batch_id)]
    await apply(pool, events)
    row = await queries.picture(picture.picture_id)
    assert row is not None
    assert (row.state, row.parked_group, row.parked_cause) == (
        "parked",
        "assess",
        "PermanentError",
    )
    # A replay of the parked entry that works takes it out of that state.
    await apply(pool, [*events, assessed(picture)])
    assert await state_of(queries, picture.file_id) == ("assessed", "")


async def test_a_video_is_where_its_least_finished_picture_is(
    pool: Pool, queries: Queries
) -> None:
    events = video(10, 3)
    frames = [event for event in events if isinstance(event, ImageReceived)]
    file_id = frames[0].file_id
    await apply(pool, events)
    found = await queries.file(file_id)
    assert found is not None
    assert [row.frame for row in found.pictures] == [10, 11, 12]
    assert (found.file.media, found.file.state) == ("video", "pending")
    events += [detected(frames[0]), detected(frames[1], PERSON), detected(frames[2])]
    await apply(pool, events)
    assert await state_of(queries, file_id) == ("pending", "batch")
    events += [batched(frames[1], frames[1]), assessed(frames[1])]
    await apply(pool, events)
    assert await state_of(queries, file_id) == ("assessed", "")


async def test_the_same_picture_out_of_two_files_gives_both_its_state(
    pool: Pool, queries: Queries
) -> None:
    first, again = image(1), image(1, name="later")
    assert first.picture_id == again.picture_id
    await apply(pool, [first, detected(first), again])
    assert await state_of(queries, first.file_id) == await state_of(queries, again.file_id)
    found = await queries.file(again.file_id)
    assert found is not None
    assert [row.picture_id for row in found.pictures] == [first.picture_id]


# --- events ---------------------------------------------------------------------------------


async def test_the_word_in_force_is_the_models_on_the_stage_the_rules_have_reached(
    pool: Pool, queries: Queries
) -> None:
    picture = image(1)
    fast = assessed(picture, stage="fast_path", score=80)
    final = assessed(picture, score=30)
    told: list[tuple[list[Event], int, str, str]] = [
        ([fast], 80, "high", "rules fast_path 80"),
        ([fast, refined(fast, score=85)], 85, "high", "model fast_path 85"),
        ([fast, refined(fast, score=85), final], 30, "medium", "rules final 30"),
        ([fast, final, refined(fast, score=85)], 30, "medium", "rules final 30"),
        ([fast, final, refined(final, score=35)], 35, "medium", "model final 35"),
    ]
    for events, score, level, summary in told:
        async with pool.connection() as connection:
            await connection.execute("DELETE FROM events")
        await apply(pool, events)
        detail = await queries.event(fast.event_id)
        assert detail is not None
        event = detail.event
        assert (event.risk_score, event.risk_level, event.summary) == (score, level, summary)
        assert event.rule_score == (30 if event.stage == "final" else 80)


async def test_an_event_leads_back_to_its_pictures_detections_and_files(
    pool: Pool, queries: Queries
) -> None:
    one, two, other = image(1), image(2), image(3)
    told = assessed(one, two)
    events = [
        *(one, two, other),
        *(detected(one, PERSON, CAT, FAINT), detected(two, PERSON), detected(other, CAT)),
        told,
        EventReviewed(camera_id="front_door", event_id=told.event_id, reviewed=True, actor="ann"),
        EventReviewed(camera_id="front_door", event_id=told.event_id, notes="the\0 neighbour"),
    ]
    await apply(pool, events)
    detail = await queries.event(told.event_id)
    assert detail is not None
    assert [row.picture_id for row in detail.pictures] == [one.picture_id, two.picture_id]
    assert {row.event_id for row in detail.pictures} == {told.event_id}
    assert [row.label for row in detail.detections] == ["person", "cat", "person"]
    assert {row.file_id for row in detail.files} == {one.file_id, two.file_id}
    assert detail.event.signals == list(told.signals)
    assert detail.event.facts == told.facts
    event = detail.event
    assert (event.reviewed, event.notes, event.reviewed_by) == (
        True,
        "the\ufffd neighbour",
        "anonymous",
    )
    assert await queries.event("evt_unknown") is None


async def test_a_review_of_an_unassessed_event_is_not_listed(pool: Pool, queries: Queries) -> None:
    await apply(pool, [EventReviewed(camera_id="front_door", event_id="evt_1", reviewed=True)])
    assert await queries.event("evt_1") is None
    assert (await queries.events(EventFilter(), limit=5)).items == []


async def test_event_pages_meet_every_event_once_newest_first(
    pool: Pool, queries: Queries
) -> None:
    told = [assessed(image(number // 2, f"camera{number % 2}")) for number in range(7)]
    await apply(pool, told)
    seen: list[str] = []
    after = None
    while True:
        page = await queries.events(EventFilter(), limit=3, after=after)
        seen += [row.id for row in page.items]
        after = page.next_cursor
        if after is None:
            break
    assert len(seen) == len(set(seen)) == 7
    wanted = sorted(told, key=lambda event: (event.started_at, event.event_id), reverse=True)
    assert seen == [event.event_id for event in wanted]


async def test_event_filters(pool: Pool, queries: Queries) -> None:
    low = assessed(image(1, "garden"), score=10, label="cat")
    high = assessed(image(60), score=70, stage="fast_path")
    review = EventReviewed(camera_id="garden", event_id=low.event_id, reviewed=True)
    await apply(pool, [low, high, review])
    minute = NOON + timedelta(seconds=60)
    for wanted, expected in [
        (EventFilter(), {low.event_id, high.event_id}),
        (EventFilter(camera_id="garden"), {low.event_id}),
        (EventFilter(risk_level="high"), {high.event_id}),
        (EventFilter(min_score=70), {high.event_id}),
        (EventFilter(min_score=71), set()),
        (EventFilter(start=minute), {high.event_id}),
        (EventFilter(end=minute), {low.event_id}),
        (EventFilter(reviewed=False), {high.event_id}),
        (EventFilter(reviewed=True), {low.event_id}),
        (EventFilter(object_type="cat"), {low.event_id}),
        (EventFilter(is_fast_path=True), {high.event_id}),
        (EventFilter(camera_id="garden", object_type="person"), set()),
        (EventFilter(camera_id="'; DROP TABLE events; --"), set()),
    ]:
        page = await queries.events(wanted, limit=10)
        assert {row.id for row in page.items} == expected, wanted


async def test_a_cursor_that_no_page_gave_out_is_refused(queries: Queries) -> None:
    good = Cursor(NOON, "x").encode()
    for text in ("", "rubbish", "é", "W10", f"{good}é", f"99{good}", f"{good}\n", "٣~x"):
        with pytest.raises(BadCursorError, match="first page"):
            await queries.events(EventFilter(), limit=5, after=text)


# --- detections -----------------------------------------------------------------------------


async def test_detections(pool: Pool, queries: Queries) -> None:
    one, two = image(1, "garden"), image(2)
    await apply(pool, [detected(one, PERSON, CAT, FAINT), detected(two, PERSON)])
    for wanted, expected in [
        (DetectionFilter(), 3),
        (DetectionFilter(camera_id="garden"), 2),
        (DetectionFilter(object_type="person"), 2),
        (DetectionFilter(start=at(2)), 1),
        (DetectionFilter(end=at(2)), 2),
        (DetectionFilter(min_confidence=0.9), 2),
    ]:
        page = await queries.detections(wanted, limit=10)
        assert len(page.items) == expected, wanted
    first = await queries.detections(DetectionFilter(), limit=2)
    rest = await queries.detections(DetectionFilter(), limit=2, after=first.next_cursor)
    assert len(first.items + rest.items) == 3
    assert rest.next_cursor is None
    row = await queries.detection(detection_id(one.picture_id, 1))
    assert row is not None
    assert (row.label, row.confidence, row.width, row.fallback) == ("cat", 0.62, 3.0, False)
    assert await queries.detection(detection_id(one.picture_id, 2)) is None


# --- system ---------------------------------------------------------------------------------


async def test_gpus(pool: Pool, queries: Queries) -> None:
    samples = [
        gpu_sample(second, GpuReading(index=0, name="A10", utilization_percent=second))
        for second in range(5)
    ]
    await apply(pool, [*samples, gpu_sample(9, host="bare")])
    history = await queries.gpu_history(since=at(1), limit=3)
    latest = history[-1]
    assert (latest.host, latest.utilization_percent, latest.power_watts) == ("box", 4.0, None)
    assert [row.sampled_at for row in history] == [at(2), at(3), at(4)]
    assert len(await queries.gpu_history()) == 5
    sources = await queries.gpu_sources()
    assert [(row.host, row.source, row.sampled_at) for row in sources] == [
        ("bare", "none", at(9)),
        ("box", "nvml", at(4)),
    ]


async def test_service_states(pool: Pool, queries: Queries) -> None:
    states: tuple[ServiceStatus, ...] = ("waiting", "unhealthy", "healthy")
    events = [
        ServiceStateChanged(
            camera_id=SYSTEM,
            service="detector",
            status=status,
            message=status,
            changed_at=at(number),
        )
        for number, status in enumerate(states)
    ]
    await apply(pool, events)
    (row,) = await queries.service_states()
    assert (row.service, row.status, row.changed_at) == ("detector", "healthy", at(2))


async def test_a_database_that_is_away_is_named(state_folder: object) -> None:
    pool = await open_pool(f"postgresql://x@/hsi?host={state_folder}", name="away")
    pool.timeout = 0.2
    try:
        with pytest.raises(ServiceUnavailableError, match="PostgreSQL does not answer") as caught:
            await Queries(pool).ping()
        assert caught.value.service == "database"
    finally:
        await pool.close()
