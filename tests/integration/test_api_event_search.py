"""Counting, searching and exporting events."""

import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.serving import BEGIN, Served, refinement, served, story

from domain.events import EventReviewed


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path) as running:
        await running.register("front", "garage")
        yield running


async def test_events_are_counted_by_level_and_camera(api: Served) -> None:
    assert (await api.json("/api/events/stats"))["total_events"] == 0
    first, second = story("front", 0), story("garage", 1, score=90, level="critical")
    await api.append(*first.events, *second.events)
    await api.append(EventReviewed(camera_id="front", event_id=first.event_id, reviewed=True))
    assert await api.json("/api/events/stats") == {
        "total_events": 2,
        "by_risk_level": {"medium": 1, "critical": 1},
        "by_camera": {"front": 1, "garage": 1},
        "reviewed": 1,
        "fast_path": 0,
    }
    assert (await api.json("/api/events/stats?camera_id=garage"))["by_camera"] == {"garage": 1}
    assert (await api.json("/api/events/stats?end_date=2020-01-01"))["total_events"] == 0


async def _found(api: Served, words: str, more: str = "") -> list[str]:
    said = await api.json(f"/api/events/search?q={words}{more}")
    assert said["count"] == len(said["results"])
    scores = [each["relevance_score"] for each in said["results"]]
    assert scores == sorted(scores, reverse=True)
    return [each["id"] for each in said["results"]]


async def test_words_phrases_and_their_opposites_are_found(api: Served) -> None:
    front, garage, dog = story("front", 0), story("garage", 1), story("garage", 2, label="dog")
    await api.append(*front.events, *garage.events, *dog.events)
    note = EventReviewed(camera_id="front", event_id=front.event_id, notes="a blue bicycle")
    await api.append(note)
    everything = {front.event_id, garage.event_id, dog.event_id}
    assert set(await _found(api, "person")) == everything
    assert set(await _found(api, "persons picture")) == everything
    assert set(await _found(api, "person -front")) == {garage.event_id, dog.event_id}
    assert set(await _found(api, "front or dog")) == {front.event_id, dog.event_id}
    assert await _found(api, '"blue bicycle"') == [front.event_id]
    assert await _found(api, '"bicycle blue"') == []
    assert await _found(api, "bicycles") == [front.event_id]
    assert await _found(api, "person", "&camera_id=front") == [front.event_id]
    for odd in ("%22", "%26%7C!()", "-", "or", "%00", "%F0%9F%98%80", ":*", "'%3B%20--", "<->"):
        assert await _found(api, odd) == [], odd
    assert set(await _found(api, "the person")) == everything


async def test_what_the_model_said_is_found_while_it_counts(api: Served) -> None:
    told = story("front", 0)
    await api.append(*told.events)
    assert await _found(api, "lingers") == []
    await api.append(refinement(told.events[-1]))  # type: ignore[arg-type]
    assert await _found(api, "lingers") == [told.event_id]
    assert await _found(api, "stay long") == [told.event_id]


async def test_pages_of_a_search_hold_every_match_once(api: Served) -> None:
    told = [story("front", number) for number in range(7)]
    await api.append(*(event for each in told for event in each.events))
    seen: list[str] = []
    cursor = ""
    while True:
        said = await api.json(f"/api/events/search?q=person&limit=3{cursor}")
        assert (said["total_count"], said["total_is_more"]) == (7, False)
        seen += [each["id"] for each in said["results"]]
        if said["next_cursor"] is None:
            break
        cursor = f"&cursor={said['next_cursor']}"
    assert sorted(seen) == sorted(each.event_id for each in told)
    await api.problem("/api/events/search", "invalid_parameter", status=400)
    await api.problem("/api/events/search?q=a&cursor=x", "invalid_cursor", status=400)
    await api.problem("/api/events/search?q=a&limit=201", "invalid_parameter", status=400)


async def test_an_export_has_every_event_that_fits(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.event_search.EXPORT_RUN", 2)
    told = [story("front", number) for number in range(5)]
    await api.append(*(event for each in told for event in each.events))
    notes = '=SUM(A1), "quoted"\nand more'
    await api.append(
        EventReviewed(camera_id="front", event_id=told[0].event_id, notes=notes, reviewed=True)
    )
    async with api.client.get("/api/events/export") as response:
        assert response.content_type == "text/csv"
        assert "events.csv" in response.headers["Content-Disposition"]
        rows = list(csv.DictReader(io.StringIO(await response.text(), newline="")))
    assert [row["id"] for row in rows] == [each.event_id for each in reversed(told)]
    assert rows[-1]["notes"] == f"'{notes}"
    assert (rows[-1]["reviewed"], rows[-1]["started_at"]) == ("true", BEGIN.isoformat())
    async with api.client.get("/api/events/export?format=jsonl&reviewed=false") as response:
        assert response.content_type == "application/x-ndjson"
        lines = [json.loads(line) for line in (await response.text()).splitlines()]
    assert [line["id"] for line in lines] == [each.event_id for each in reversed(told[1:])]
    await api.problem("/api/events/export?format=xml", "invalid_parameter", status=400)


async def test_an_export_without_events_has_its_header(api: Served) -> None:
    async with api.client.get("/api/events/export") as response:
        assert (await response.text()).startswith("id,camera_id,started_at")


async def test_long_json_leaves_gzipped_for_those_who_take_it(api: Served) -> None:
    await api.append(*(event for n in range(3) for event in story("front", n).events))
    for accept, coding in (("gzip", "gzip"), ("gzip;q=0", None), ("br", None), ("", None)):
        headers = {"Accept-Encoding": accept}
        async with api.client.get("/api/events", headers=headers) as response:
            assert response.headers.get("Content-Encoding") == coding
            assert response.headers["Vary"] == "Accept-Encoding"
            assert (await response.json())["count"] == 3
    async with api.client.get("/health", headers={"Accept-Encoding": "gzip"}) as response:
        assert "Content-Encoding" not in response.headers
