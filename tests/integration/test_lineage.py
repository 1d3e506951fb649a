"""Lineage over the API: every file has a whole chain or a reason, also of a trimmed log."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.histories import (
    CAT,
    FAINT,
    PERSON,
    assessed,
    batched,
    closed,
    detected,
    duplicate,
    escalated,
    image,
    parked,
    refined,
    rejected,
)
from support.lineages import Told, history
from support.serving import Served, served

from domain.events import (
    SYSTEM,
    Event,
    EventReviewed,
    ImageReceived,
    PictureFiltered,
    ServiceStateChanged,
)
from streams.archive import Archive
from streams.envelope import START, Position
from streams.history import History
from streams.lookup import Lookup, Place, before
from streams.trim import Bound, trim

FILES = 1000


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path) as running:
        yield running


async def chained(api: Served, *events: Event) -> None:
    """Append events, each caused by the one before, and bring the read models up to them."""
    told = Told()
    cause = None
    for event in events:
        cause = told.add(event, cause, root=getattr(event, "file_id", "root"))
    await api.log.append_all(told.news)
    await api.project()


async def test_an_event_back_to_its_files(api: Served) -> None:
    first, second = image(1), image(2)
    fast = assessed(first, stage="fast_path")
    final = assessed(first, second)
    event = final.event_id
    review = EventReviewed(camera_id=first.camera_id, event_id=event, notes="Ann", actor="bob")
    await chained(api, first, detected(first, PERSON, CAT, FAINT), batched(first, first))
    await chained(api, second, detected(second, PERSON, FAINT), batched(second, first))
    await chained(api, escalated(first), fast, refined(fast))
    await chained(api, closed(first, second), final, refined(final), review)
    lineage = await api.json(f"/api/events/{event}/lineage")
    assert lineage["missing"] == []
    in_force, before_it = lineage["assessments"]
    assert (in_force["stage"], in_force["in_force"]) == ("final", True)
    assert (before_it["stage"], before_it["in_force"]) == ("fast_path", False)
    word = in_force["refinement"]
    assert (word["model"], word["prompt_sha256"], word["raw_text"]) == (
        "nemotron-mini",
        "ab" * 32,
        '{"score": 75}',
    )
    assert word["entry"]["causation_id"] == in_force["entry"]["id"]
    batch = lineage["batch"]
    assert (batch["close_reason"], len(batch["members"])) == ("idle", 2)
    assert batch["escalations"][0]["label"] == "person"
    assert in_force["entry"]["causation_id"] == batch["entry"]["id"]
    _is_first_picture(lineage, first)
    assert lineage["reviews"][0]["notes"] == "Ann"
    await _all_entries_stand_in_the_log(api, lineage)


def _is_first_picture(lineage: Any, first: ImageReceived) -> None:
    detection = lineage["pictures"][0]["detection"]
    boxes = detection["boxes"]
    assert [(box["label"], box["counts"]) for box in boxes] == [
        ("person", True),
        ("cat", True),
        ("dog", False),
    ]
    assert (detection["model"], detection["inference_ms"], detection["threshold"]) == (
        "rtdetr-v2-r18",
        12.5,
        0.5,
    )
    file = next(f for f in lineage["files"] if f["file_id"] == first.file_id)
    assert (file["sha256"], file["path"]) == (first.sha256, first.path)
    assert (file["captured_from"], file["entry"]["stream"]) == ("exif", "files")
    assert file["entry"]["correlation_id"] == first.file_id
    assert detection["entry"]["causation_id"] == lineage["pictures"][0]["received"]["id"]


async def _all_entries_stand_in_the_log(api: Served, lineage: Any) -> None:
    entries = list(_entries(lineage))
    assert len(entries) >= 11
    for entry in entries:
        position = Position.parse(entry["position"])
        found = await api.log.read(entry["stream"], entry["partition"], before(position), 1)
        assert (found[0].id, found[0].position) == (entry["id"], position)


def _entries(value: Any) -> Sequence[dict[str, Any]]:
    if isinstance(value, list):
        return [entry for item in value for entry in _entries(item)]
    if not isinstance(value, dict):
        return []
    own = [value["entry"]] if value.get("entry") else []
    return own + [entry for item in value.values() for entry in _entries(item)]


async def test_why_nothing_came_of_a_file(api: Served) -> None:
    faint, nothing, off, stuck, waiting, bad = (image(number) for number in range(1, 7))
    copy = duplicate(9, faint)
    broken = rejected(10)
    filtered = PictureFiltered(
        camera_id=off.camera_id,
        picture_id=off.picture_id,
        file_id=off.file_id,
        captured_at=off.captured_at,
        reason="camera_disabled",
    )
    await chained(api, faint, detected(faint, FAINT))
    await chained(api, nothing, detected(nothing))
    await chained(api, off, filtered)
    await chained(api, stuck, parked("detect", picture=stuck))
    await chained(api, waiting, detected(waiting, PERSON), batched(waiting, waiting))
    for event in (bad, copy, broken):
        await chained(api, event)
    await chained(
        api,
        ServiceStateChanged(
            camera_id=SYSTEM,
            service="detector",
            status="unhealthy",
            message="nobody listens there",
            changed_at=faint.captured_at,
        ),
    )
    said = {
        faint.file_id: "the best was dog at 0.20, 0.50 is needed",
        nothing.file_id: "saw nothing in it",
        off.file_id: "was switched off",
        stuck.file_id: "PermanentError: the picture cannot be decoded",
        waiting.file_id: "its batch to close",
        bad.file_id: "the detector, which is unhealthy since",
        copy.file_id: f"the same bytes had come from this camera shortly before as {faint.path}",
        broken.file_id: "rejected (empty): the file has 0 bytes",
    }
    for file_id, because in said.items():
        lineage = await api.json(f"/api/files/{file_id}/lineage")
        assert because in lineage["conclusion"], lineage["conclusion"]
        assert lineage["missing"] == []
        assert lineage["file"]["entry"] is not None
    late = await api.json(f"/api/files/{bad.file_id}/lineage")
    assert late["conclusion"].startswith("Nothing has been sent about this picture yet because")
    assert (late["ending"]["stage"], late["ending"]["state"]) == ("detect", "pending")
    below = (await api.json(f"/api/files/{faint.file_id}/lineage"))["ending"]
    assert (below["highest_label"], below["highest_score"], below["threshold"]) == (
        "dog",
        0.2,
        0.5,
    )
    aside = await api.json(f"/api/files/{stuck.file_id}/lineage")
    entry = aside["pictures"][0]["steps"][-1]["entry"]
    parked_id = f"{entry['partition']}-{entry['position']}"
    assert f"hsi dlq redrive --id {parked_id}`" in aside["ending"]["to_do"]
    assert [step["step"] for step in aside["pictures"][0]["steps"]] == ["received", "parked"]


async def test_what_an_id_or_a_path_names(api: Served, tmp_path: Path) -> None:
    picture = image(1)
    again = image(2, name="1")
    await chained(api, picture, detected(picture, PERSON), batched(picture, picture))
    final = assessed(picture)
    await chained(api, closed(picture), final)
    await chained(api, again)
    event = {"kind": "event", "id": final.event_id, "earlier": []}
    file = {"kind": "file", "id": picture.file_id, "earlier": []}
    newest = {"kind": "file", "id": again.file_id, "earlier": [picture.file_id]}
    wanted = {
        final.event_id: event,
        final.batch_id: event,
        picture.picture_id: file,
        f"{picture.picture_id}.0": file,
        picture.file_id: file,
        picture.path: newest,
        str(tmp_path / picture.path): newest,
    }
    for of, named in wanted.items():
        found = await api.json("/api/lineage", params={"of": of})
        assert {key: found[key] for key in named} == named
        await api.json(found["links"]["lineage"])
    for of, code in {
        "evt_none": "event_not_found",
        "file_none": "file_not_found",
        "pic_none": "picture_not_found",
        "front_door/none.jpg": "file_not_found",
        "nul\0byte": "file_not_found",
    }.items():
        await api.problem("/api/lineage", code, status=404, params={"of": of})
    await api.problem("/api/files/file_none/lineage", "file_not_found", status=404)
    await api.problem("/api/events/evt_none/lineage", "event_not_found", status=404)
    await api.problem("/api/lineage", "invalid_parameter", status=400)


async def test_every_one_of_a_thousand_files(api: Served) -> None:
    told = history(Random(20261122), FILES)
    await api.log.append_all(told.news)
    await api.project()
    async with asyncio.TaskGroup() as group:
        room = asyncio.Semaphore(6)
        answers = {
            file_id: group.create_task(_asked(api, room, file_id)) for file_id in told.states
        }
    endings: Counter[str] = Counter()
    for file_id, state in told.states.items():
        lineage = answers[file_id].result()
        assert lineage["missing"] == []
        assert lineage["ending"]["state"] == state, lineage
        assert lineage["ending"]["because"]
        assert lineage["file"]["entry"]
        steps = [step["step"] for picture in lineage["pictures"] for step in picture["steps"]]
        assert bool(steps) == (state not in ("rejected", "duplicate"))
        if state == "assessed":
            assert {"received", "detected", "batched", "assessed"} <= set(steps)
            assert lineage["links"]["event"]
        endings[state] += 1
    assert sum(endings.values()) >= FILES
    assert set(endings) == {"assessed", "filtered", "duplicate", "rejected", "parked", "pending"}


async def _asked(api: Served, room: asyncio.Semaphore, file_id: str) -> Any:
    async with room:
        return await api.json(f"/api/files/{file_id}/lineage")


async def test_entries_that_only_the_archive_has(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "archive"
    told = history(Random(7), 60)
    async with served(
        valkey_url, database_url, tmp_path, config=lambda c: replace(c, archive_dir=folder)
    ) as api:
        await api.log.append_all(told.news)
        await api.project()
        before_it = [await api.json(f"/api/files/{each}/lineage") for each in told.states]
        await Archive(api.log, folder, segment_entries=50).run()
        for stream in ("files", "detections", "batches", "assessments", "parked"):
            for partition in range(api.log.partitions):
                await _trim_all(api, stream, partition)
        for lineage in before_it:
            assert _but_waiting(await api.json(lineage["links"]["self"])) == _but_waiting(lineage)
        await _is_told_what_is_gone(api, folder, before_it[0])


async def _trim_all(api: Served, stream: str, partition: int) -> None:
    end = (await api.log.newest(stream, partition)).next()
    if end > START.next():
        await trim(api.log, Bound(stream, partition, end, ""))
    assert await api.log.read(stream, partition, START, 1) == []


def _but_waiting(lineage: Any) -> Any:
    """Return a lineage without the number of entries that its stage has to do."""
    lineage["ending"].pop("waits_for", None)
    lineage["ending"].pop("because")
    lineage.pop("conclusion")
    for picture in lineage["pictures"]:
        picture.pop("ending")
    return lineage


async def _is_told_what_is_gone(api: Served, folder: Path, known: Any) -> None:
    await asyncio.to_thread(folder.rename, folder.with_name("moved"))
    lineage = await api.json(known["links"]["self"])
    assert "neither the log nor the archive has it any more" in lineage["missing"][-1]
    assert str(folder) in lineage["missing"][0]
    assert lineage["file"]["path"] == known["file"]["path"]


async def test_a_place_where_nothing_ever_stood(api: Served) -> None:
    (position,) = await api.append(image(1))
    lane = api.log.partition_of("front_door")
    there, nowhere = Place("files", lane, position), Place("files", lane, Position(1, 0))
    found = await Lookup(api.log, History(api.log)).find([there, nowhere])
    assert list(found.entries) == [there]
    assert found.troubles == ()
