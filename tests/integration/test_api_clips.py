"""Clips of events: made of the pictures around them, given in parts, gone with their pictures."""

import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from support.serving import BEGIN, Served, Story, drawn, served, story

from api.clip_maker import ClipMaker
from api.clips import MOST_PICTURES, _chosen
from domain.errors import TransientError
from domain.events import EventHeld
from inference.clip_store import ClipStore, Content, Span
from inference.clips import NoPicturesError, Shot, write_clip
from inference.video import Clip
from projections.rows import PictureRow

PICTURES = [drawn(320 + 2 * number, 240) for number in range(4)]


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    base = tmp_path / "cameras"
    base.mkdir()
    async with served(valkey_url, database_url, base) as running:
        yield running


async def told(api: Served, camera: str = "front") -> list[Story]:
    """Tell of four pictures of a camera, a minute apart, each an event; they lie there."""
    await api.register(camera)
    stories = [story(camera, number, picture=picture) for number, picture in enumerate(PICTURES)]
    for each, picture in zip(stories, PICTURES, strict=True):
        api.picture(each, picture)
        await api.append(*each.events)
    return stories


async def test_a_clip_shows_the_pictures_around_its_event(api: Served) -> None:
    first, second, *_ = await told(api)
    path = f"/api/events/{second.event_id}/clip"
    none = await api.json(path)
    assert (none["event_id"], none["available"], none["url"]) == (second.event_id, False, None)
    made = await api.json(f"{path}/generate", method="POST")
    assert (made["frames"], made["start_offset"], made["end_offset"]) == (1, -15, 30)
    assert made["duration_seconds"] == 0.5
    wanted = {"start_offset": -60, "end_offset": 120}
    wider = await api.json(f"{path}/generate", method="POST", json=wanted)
    assert (wider["available"], wider["frames"], wider["duration_seconds"]) == (True, 4, 2.0)
    assert wider["begins_at"] == BEGIN.isoformat().replace("+00:00", "Z")
    # the one made before is no more; this one is what there is
    assert await api.json(path) == wider
    await api.problem(made["url"], "clip_not_found", status=404)
    (file,) = api.services.clips.store.folder.iterdir()
    with Clip(str(file)) as clip:
        assert (clip.facts.width, clip.facts.height, clip.facts.duration_seconds) == (320, 240, 2)
        assert len(list(clip.frames(0.5, 10))) == 4
    # the same again is there; by force it is made anew
    os.utime(file, (0, 0))
    again = await api.json(f"{path}/generate", method="POST", json=wanted)
    assert again["generated_at"] == "1970-01-01T00:00:00Z"
    forced = await api.json(f"{path}/generate", method="POST", json={**wanted, "force": True})
    assert forced["generated_at"] > "2020"
    # a picture that was overwritten meanwhile is left out, not all of them
    api.picture(first, b"something else")
    fewer = await api.json(f"{path}/generate", method="POST", json={**wanted, "force": True})
    assert fewer["frames"] == 3
    await _parts_are_given(api, fewer["url"], file.parent / fewer["url"].rsplit("/", 1)[1])


async def _parts_are_given(api: Served, url: str, file: Path) -> None:
    whole = file.read_bytes()  # noqa: ASYNC240 - a few kB
    async with api.client.get(url) as response:
        assert (response.status, response.content_type) == (200, "video/mp4")
        assert await response.read() == whole
    async with api.client.get(url, headers={"Range": "bytes=10-19"}) as response:
        assert (response.status, await response.read()) == (206, whole[10:20])
    async with api.client.get(url, headers={"Range": f"bytes={len(whole)}-"}) as response:
        await api.is_problem(response, "range_not_satisfiable", 416)
    for odd in ("..%2f..%2fetc%2fpasswd", ".evt_.part.mp4", "x.mp4", "%2e%2e"):
        async with api.client.get(f"/api/media/clips/{odd}") as response:
            assert response.status == 404, odd


async def test_what_no_clip_can_be_made_of_is_said(api: Served) -> None:
    await api.problem("/api/events/evt_0/clip", "event_not_found", status=404)
    await api.register("front")
    lost = story("front", 0, picture=PICTURES[0])
    await api.append(*lost.events)
    path = f"/api/events/{lost.event_id}/clip/generate"
    await api.problem(path, "clip_without_pictures", status=409, method="POST")
    assert list(api.services.clips.store.folder.iterdir()) == []
    for wrong in ({"start_offset": -301}, {"end_offset": 301}, {"start_offset": 1}, {"x": 1}):
        await api.problem(path, "invalid_body", status=422, method="POST", json=wrong)


async def test_retention_takes_the_clips_of_what_it_deletes_and_counts_them(api: Served) -> None:
    kept, gone, *_ = await told(api)
    for each in (kept, gone):
        await api.json(f"/api/events/{each.event_id}/clip/generate", method="POST")
    left = api.services.clips.store.part_of(gone.event_id)
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    held = EventHeld(camera_id="front", event_id=kept.event_id, held=True, actor="ann")
    await api.append(held)
    storage = await api.json("/api/system/storage")
    assert storage["event_clips"]["file_count"] == 3
    clip = api.services.clips.store.of_event(gone.event_id)[0]
    now = BEGIN + timedelta(days=40)
    planned = await api.services.retention.plan(now)
    assert planned.clips == 1
    assert planned.bytes >= clip.size_bytes
    # what the plan would delete is what a run deletes
    cutoff = datetime(2026, 1, 1, tzinfo=UTC)
    clips = api.services.clips.store
    assert clips.measure(cutoff, [kept.event_id]) == (1, clip.size_bytes)
    assert clips.delete_older(cutoff, [kept.event_id]) == (1, clip.size_bytes)
    assert [each.event_id for each in clips._all()] == [kept.event_id]
    assert not left.exists()


def test_a_clip_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "clips" / "made.mp4"
    with pytest.raises(NoPicturesError):
        write_clip(target, [Shot(b"no picture", "")])
    (tmp_path / "clips").rmdir()  # empty
    (tmp_path / "clips").write_bytes(b"")
    with pytest.raises(TransientError, match=r"clips cannot be saved in .*clips"):
        write_clip(target, [Shot(PICTURES[0], "")])


def test_of_many_pictures_the_first_the_last_and_even_ones_between_are_shown() -> None:
    def picture(number: int) -> PictureRow:
        row = dict.fromkeys(PictureRow.__struct_fields__)
        return PictureRow(**{**row, "picture_id": str(number)})  # type: ignore[arg-type]

    chosen = [int(each.picture_id) for each in _chosen([picture(n) for n in range(1000)])]
    assert (len(chosen), chosen[0], chosen[-1]) == (MOST_PICTURES, 0, 999)
    assert {b - a for a, b in pairwise(chosen)} == {4, 5}


async def test_a_server_that_stops_breaks_off_what_it_makes(tmp_path: Path) -> None:
    maker = ClipMaker(ClipStore(tmp_path))

    def shots() -> Iterator[Shot]:
        yield Shot(PICTURES[0], "")
        maker._ending.set()
        yield Shot(PICTURES[1], "")

    content = Content("evt_" + "0" * 24, BEGIN, Span(-15, 30), ["a", "b"])
    with pytest.raises(TransientError, match="the server stops"):
        await maker.make(content, shots())
    maker.close()
    assert os.listdir(tmp_path) == []
