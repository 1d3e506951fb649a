"""`hsi replay` with models asked again: the real embedded detector, a llama-server over HTTP."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec import structs
from support.llama import KEY, fake_llama
from support.logs import box, detected, new, opened, quick
from support.models import demo_picture, ssdlite_dir
from support.whatif import assessments, live, order, replayed, said

from domain.events import ObjectsDetected
from inference import images
from inference.detectors import DetectorOptions, open_detector
from streams.log import EventLog

pytestmark = pytest.mark.usefixtures("quick")
__all__ = ["quick", "ssdlite_dir"]

HOUR = 3600.0
PICTURES = ("yard-1-01.jpg", "porch-1-01.jpg", "yard-2-04.jpg")


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[EventLog]:
    async with opened(valkey_url, partitions=2) as log:
        yield log


async def seen_now(models: Path, name: str) -> list[str]:
    """Return what the detector sees above one half, asked directly."""
    options = DetectorOptions(
        models_dir=models,
        allow_fallback=True,
        connect_timeout=5,
        read_timeout=60,
        health_timeout=5,
    )
    detector = open_detector(None, options)
    (answer,) = await detector.detect([images.decode(demo_picture(name), name)])
    await detector.close()
    return [one.label for one in answer.boxes if one.score >= 0.5]


async def test_the_embedded_detector_looks_at_the_pictures_again(
    log: EventLog, valkey_url: str, tmp_path: Path, ssdlite_dir: Path
) -> None:
    """The log says giraffes; what the detector sees decides which events there are."""
    given = []
    for number, name in enumerate(PICTURES):
        one = detected(f"p{number}", number * HOUR, box("giraffe", 0.9))
        path = tmp_path / one.uri.removeprefix("camera:")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(demo_picture(name))
        given.append(one)
    given.append(detected("gone", 8 * HOUR, box("giraffe", 0.9)))
    given.append(detected("last", 20 * HOUR, box("giraffe", 0.9)))
    await live(log, given)
    env = {"HSI_MODELS_DIR": str(ssdlite_dir), "RTDETR_URL": "http://127.0.0.1:9"}
    end = (given[0].captured_at + timedelta(hours=15)).isoformat()
    # The boxes of the log do for any other setting: the service of RTDETR_URL is not asked.
    same, _ = await replayed(valkey_url, tmp_path, "same", order(tmp_path, end=end, environ=env))
    assert (same.same, same.changed) == (4, 0)
    tried = order(tmp_path, "RTDETR_URL=", end=end, environ=env)
    result, changes = await replayed(valkey_url, tmp_path, "again", tried)
    expected = {
        one.picture_id: labels
        for one, name in zip(given, PICTURES, strict=False)
        if (labels := await seen_now(ssdlite_dir, name))
    }
    assert len(expected) >= 2
    after = {c.after.picture_ids[0]: c.after for c in changes if c.after is not None}
    assert set(after) == set(expected)
    assert all(one.cover.label in expected[picture] for picture, one in after.items())
    lost = {c.before.picture_ids[0] for c in changes if c.after is None and c.before is not None}
    assert lost == {one.picture_id for one in given[:3]} - set(expected)
    assert result.same == 1  # The picture that is gone keeps its boxes.
    assert result.notes[-1].startswith("1 pictures cannot be read")


async def test_refine_asks_the_server_about_what_differs_and_a_new_model_about_all(
    log: EventLog, valkey_url: str, tmp_path: Path
) -> None:
    given: list[ObjectsDetected] = [
        detected("a1", 0, box("car", 0.59)),
        detected("a2", 10, box("car", 0.8)),
        detected("b1", HOUR, box("car", 0.9)),
        detected("z", 3 * HOUR, box("car", 0.9)),
    ]
    await live(log, given)
    rules = {one.event_id: one for one in await assessments(log) if one.stage == "final"}
    await log.append_all([new(said(one), f"said-{key}") for key, one in rules.items()])
    end = (given[0].captured_at + timedelta(hours=2)).isoformat()
    async with fake_llama() as then, fake_llama() as now:
        env = {"NEMOTRON_URL": then.url, "NEMOTRON_API_KEY": KEY}
        same = order(tmp_path, end=end, environ=env, refine=True)
        unchanged, _ = await replayed(valkey_url, tmp_path, "same", same)
        assert (unchanged.same, unchanged.changed, then.requests) == (2, 0, [])
        up = order(
            tmp_path, "DETECTION_CONFIDENCE_THRESHOLD=0.6", end=end, environ=env, refine=True
        )
        result, changes = await replayed(valkey_url, tmp_path, "up", up)
        (change,) = changes
        assert change.before is not None
        assert change.before.summary == "of then"
        assert change.shown.summary == "A person at the door."
        assert change.shown.refined
        assert (len(then.requests), result.same) == (1, 1)
        assert "The language model was asked 1 times." in result.notes
        other = order(tmp_path, f"NEMOTRON_URL={now.url}", end=end, environ=env, refine=True)
        result, changes = await replayed(valkey_url, tmp_path, "other", other)
        assert (len(now.requests), len(then.requests)) == (2, 1)
        assert [c.shown.summary for c in changes] == ["A person at the door."] * 2
        assert [c.before.score for c in changes if c.before] == [3, 3]


async def test_refine_asks_again_about_what_a_candidate_on_trial_had_answered(
    log: EventLog, valkey_url: str, tmp_path: Path
) -> None:
    given = [detected(f"p{n}", n * HOUR, box("car", 0.9)) for n in range(4)]
    await live(log, given)
    rules = [one for one in await assessments(log) if one.stage == "final"]
    canary = rules[0].event_id
    told = [structs.replace(said(one), canary=one.event_id == canary) for one in rules]
    await log.append_all([new(one, f"said-{one.event_id}") for one in told])
    end = (given[0].captured_at + timedelta(hours=3)).isoformat()
    async with fake_llama() as now:
        env = {"NEMOTRON_URL": now.url, "NEMOTRON_API_KEY": KEY}
        again = order(tmp_path, end=end, environ=env, refine=True)
        result, changes = await replayed(valkey_url, tmp_path, "again", again)
        assert len(now.requests) == 1
    (change,) = changes
    assert change.before is not None
    assert (change.before.event_id, change.before.canary) == (canary, True)
    assert (change.shown.canary, change.shown.summary) == (False, "A person at the door.")
    assert result.same == len(rules) - 1
