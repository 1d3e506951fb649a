"""Events, detections, files and pictures over the API, from a real log and real read models."""

import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.serving import BEGIN, Served, drawn, refinement, served, story

from domain.events import FileRejected, RetentionApplied, RiskAssessed


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path, projecting=True) as running:
        yield running


async def test_an_event_with_its_chain_back_to_the_file(api: Served) -> None:
    await api.register("front")
    told = story("front", picture=drawn(640, 480))
    await api.append(*told.events)
    event = await api.json(f"/api/events/{told.event_id}")
    assert event["risk_score"] == 45
    assert (event["engine"], event["rules_version"], event["model"]) == ("rules", "1", None)
    assert event["detection_ids"] == [f"{told.picture_id}.0"]
    assert event["detection_count"] == 1
    detection = event["detections"][0]
    assert (detection["object_type"], detection["fallback"]) == ("person", True)
    assert (detection["bbox_x"], detection["bbox_height"]) == (64, 300)
    assert event["pictures"][0]["state"] == "assessed"
    assert event["files"][0]["path"] == "front/0.jpg"
    # Every link leads somewhere.
    api.picture(told, drawn(640, 480))
    parts = [event, *event["detections"], *event["pictures"], *event["files"]]
    links = {link for part in parts for link in part["links"].values()}
    assert len(links) >= 8
    for link in links:
        async with api.client.get(link) as response:
            assert response.status == 200, link
    linked = await api.json(f"/api/events/{told.event_id}/detections")
    assert linked["detections"] == event["detections"]
    file = await api.json(f"/api/files/{told.file_id}")
    assert (file["state"], file["pictures"][0]["event_id"]) == ("assessed", told.event_id)
    assert file["pictures"][0]["links"]["event"] == f"/api/events/{told.event_id}"


async def test_the_language_models_word_and_who_said_it(api: Served) -> None:
    await api.register("front")
    told = story("front")
    assessed = told.events[-1]
    assert isinstance(assessed, RiskAssessed)
    await api.append(*told.events, refinement(assessed))
    event = await api.json(f"/api/events/{told.event_id}")
    assert (event["engine"], event["model"]) == ("rules+model", "tiny")
    assert (event["risk_score"], event["risk_level"], event["rule_score"]) == (62, "high", 45)
    assert event["summary"] == "A person lingers"
    assert event["model_tokens_in"] == 100


async def test_filters_and_pages(api: Served) -> None:
    await api.register("front", "back")
    for number in range(5):
        await api.append(*story("front", number, score=10 * number, level="low").events)
    await api.append(*story("back", 9, score=90, level="critical", label="dog").events)
    everything = await api.json("/api/events")
    assert (everything["count"], everything["limit"]) == (6, 50)
    assert everything["next_cursor"] is None
    starts = [event["started_at"] for event in everything["events"]]
    assert starts == sorted(starts, reverse=True)
    for query, count in {
        "camera_id=front": 5,
        "risk_level=critical": 1,
        "min_score=40": 2,
        "object_type=dog": 1,
        "reviewed=true": 0,
        "is_fast_path=false": 6,
        f"start_date={BEGIN:%Y-%m-%dT%H:%M}:00Z&end_date={BEGIN:%Y-%m-%d}T12:02Z": 2,
        "start_date=2025-12-30&end_date=2025-12-30": 6,
        "end_date=2025-12-29": 0,
    }.items():
        assert (await api.json(f"/api/events?{query}"))["count"] == count, query
    seen, cursor = [], ""
    while True:
        page = await api.json(f"/api/events?limit=4{cursor}")
        seen += [event["id"] for event in page["events"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == [event["id"] for event in everything["events"]]
    dogs = await api.json("/api/detections?object_type=dog")
    assert [found["camera_id"] for found in dogs["detections"]] == ["back"]
    page = await api.json("/api/detections?limit=2&min_confidence=0.9")
    more = await api.json(f"/api/detections?limit=50&cursor={page['next_cursor']}")
    assert (page["count"], more["count"]) == (2, 4)
    one = await api.json(dogs["detections"][0]["links"]["self"])
    assert one == dogs["detections"][0]


async def test_review_marks_and_notes(api: Served) -> None:
    await api.register("front")
    told = story("front")
    await api.append(*told.events)
    path = f"/api/events/{told.event_id}"
    marked = await api.json(
        path, method="PATCH", json={"reviewed": True, "notes": "Our\nneighbour"}
    )
    assert (marked["reviewed"], marked["notes"]) == (True, "Our\nneighbour")
    assert marked["reviewed_at"] is not None
    assert (await api.json("/api/events?reviewed=true"))["count"] == 1
    cleared = await api.json(path, method="PATCH", json={"notes": ""})
    assert (cleared["reviewed"], cleared["notes"]) == (True, "")
    await api.problem(path, "invalid_body", status=422, method="PATCH", json={})


async def test_pictures_as_browsers_want_them(api: Served) -> None:
    await api.register("front")
    data = drawn(1280, 960)
    told = story("front", picture=data)
    await api.append(*told.events)
    url = f"/api/pictures/{told.picture_id}"
    await api.problem(f"{url}/image", "picture_gone", status=410)
    api.picture(told, data)
    async with api.client.get(f"{url}/image") as response:
        assert await response.read() == data
        assert "immutable" in response.headers["Cache-Control"]
        tag = response.headers["ETag"]
    async with api.client.get(f"{url}/image", headers={"If-None-Match": tag}) as response:
        assert (response.status, await response.read()) == (304, b"")
    async with api.client.get(f"{url}/thumbnail") as response:
        thumbnail = Image.open(io.BytesIO(await response.read()))
        assert response.headers["ETag"] != tag
    assert thumbnail.size == (320, 240)
    async with api.client.get(f"/api/detections/{told.picture_id}.0/image") as response:
        boxed = Image.open(io.BytesIO(await response.read())).convert("RGB")
    assert boxed.size == (1280, 960)
    # The box starts 64 pixels from the left: there the grey slope is red.
    red, green, blue = np.asarray(boxed)[300, 64].astype(int)
    assert red > green + 80
    assert red > blue + 80


async def test_another_picture_under_the_same_name_is_not_shown_for_it(api: Served) -> None:
    await api.register("front")
    data = drawn(1280, 960)
    told = story("front", picture=data)
    await api.append(*told.events)
    api.picture(told, data)
    url = f"/api/pictures/{told.picture_id}"
    async with api.client.get(f"{url}/thumbnail") as response:
        assert response.status == 200
    api.picture(told, drawn(1280, 959))
    await api.problem(f"{url}/image", "picture_changed", status=410)
    async with api.client.get(f"{url}/thumbnail") as response:
        assert response.status == 200, "it was kept in memory"
    odd = story("front", 1, picture=b"no picture at all")
    await api.append(*odd.events)
    api.picture(odd, b"no picture at all")
    await api.problem(f"/api/pictures/{odd.picture_id}/image", "picture_unreadable", status=422)


async def test_what_retention_deleted_says_so(api: Served) -> None:
    await api.register("front")
    data = drawn(640, 480)
    told = story("front", picture=data)
    await api.append(*told.events)
    api.picture(told, data)
    url = f"/api/pictures/{told.picture_id}"
    async with api.client.get(f"{url}/thumbnail") as response:
        assert response.status == 200
    file = await api.json(f"/api/events/{told.event_id}")
    detail = f"/api/files/{file['files'][0]['file_id']}"
    assert (await api.json(detail))["redacted_at"] is None
    as_of = datetime.now(UTC) + timedelta(days=40)
    rule = RetentionApplied(
        camera_id="front",
        cutoff=as_of - timedelta(days=30),
        as_of=as_of,
        kept_event_ids=(),
        kept_picture_ids=(),
        kept_file_ids=(),
        events_deleted=1,
        detections_deleted=1,
        images_deleted=1,
        space_reclaimed=1,
    )
    await api.append(rule)
    # The ledger forgets no file; it says when its bytes went, and shows nothing kept in memory.
    shown = await api.json(detail)
    assert shown["state"] == "assessed"
    assert datetime.fromisoformat(shown["redacted_at"]) == as_of
    assert shown["pictures"][0]["redacted_at"] == shown["redacted_at"]
    listed = (await api.json("/api/files?state=assessed"))["files"]
    assert [one["redacted_at"] for one in listed] == [shown["redacted_at"]]
    for what in ("image", "thumbnail"):
        await api.problem(f"{url}/{what}", "picture_redacted", status=410)


async def test_the_ledger_in_numbers_and_one_by_one(api: Served) -> None:
    await api.register("front")
    told = story("front")
    rejected = FileRejected(
        camera_id="front",
        file_id="file_" + "0" * 24,
        path="front/broken.jpg",
        size_bytes=0,
        reason="empty",
        detail="the file has no bytes",
    )
    await api.append(*told.events, rejected)
    counts = await api.json("/api/ledger?camera_id=front")
    assert counts["states"] == {"assessed": 1, "rejected": 1}
    assert counts["total"] == 2
    file = await api.json(f"/api/files/{rejected.file_id}")
    assert (file["state"], file["reason"]) == ("rejected", "empty")
    assert file["rejected_detail"] == "the file has no bytes"
    stats = await api.json("/api/system/stats")
    assert (stats["total_cameras"], stats["total_events"], stats["total_detections"]) == (1, 1, 1)
    assert stats["files"] == {"assessed": 1, "rejected": 1}
