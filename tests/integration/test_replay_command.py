"""`hsi replay` as a command: table, JSON, a report of one file, its errors and exit codes."""

import asyncio
import base64
import signal
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from support.logs import box, detected, new, opened, quick
from support.whatif import FROM, called, live, started

from streams.log import EventLog

pytestmark = pytest.mark.usefixtures("quick")
__all__ = ["quick"]


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[EventLog]:
    async with opened(valkey_url, partitions=2) as log:
        yield log


class Page(HTMLParser):
    """What a report shows: counts, events, pictures, and whatever it would load from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.events: list[str] = []
        self.pictures: list[bytes] = []
        self.elsewhere: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        if event := values.get("data-event"):
            self.events.append(event)
        source = values.get("src") or values.get("href") or ""
        if source.startswith("data:image/jpeg;base64,"):
            self.pictures.append(base64.b64decode(source.partition(",")[2], validate=True))
        elif source:
            self.elsewhere.append(source)


def draw(state: Path, picture: str) -> None:
    folder = state / "cameras" / "porch"
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.full((480, 640, 3), 90, np.uint8)
    assert cv2.imwrite(str(folder / f"{picture}.jpg"), pixels)


async def test_table_json_and_a_report_that_needs_nothing_else(
    log: EventLog, valkey_url: str, tmp_path: Path
) -> None:
    await live(log, [detected("a", 0, box("car", 0.55)), detected("b", 4000, box("<b>&", 0.58))])
    await live(log, [detected("c", 8000, box("person", 0.8))])
    await live(log, [detected("z", 90_000)])
    draw(tmp_path, "a")
    page, options = tmp_path / "out.html", ("--set", "DETECTION_CONFIDENCE_THRESHOLD=0.6", *FROM)
    code, out, err = await called(
        valkey_url, tmp_path, *options, "--report", str(page), "--name", "mine", "--json"
    )
    assert code == 0, err
    result: dict[str, Any] = msgspec.json.decode(out)
    assert result["counts"] == {"gained": 0, "lost": 2, "level": 0, "score": 0, "details": 0}
    assert (result["events_before"], result["events_after"], result["same"]) == (3, 1, 1)
    text = page.read_text(encoding="utf-8")
    shown = Page(text)
    assert shown.elsewhere == []
    assert "script" not in shown.tags
    assert sorted(shown.events) == sorted(c["before"]["event_id"] for c in result["changes"])
    assert len(shown.pictures) == 1
    pixels = cv2.imdecode(np.frombuffer(shown.pictures[0], np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    assert pixels.shape == (240, 320, 3)
    assert "the picture is gone" in text
    assert "<b>&<" not in text
    # Once more the same: it is finished, so it is only shown.
    code, out, err = await called(valkey_url, tmp_path, *options, "--name", "mine")
    assert code == 0
    assert "DETECTION_CONFIDENCE_THRESHOLD: 0.5 → 0.6" in out
    assert "3 → 1 events: 0 gained, 2 lost" in out


async def test_an_unknown_camera_is_answered_with_the_known_ones(
    log: EventLog, valkey_url: str, tmp_path: Path
) -> None:
    await live(log, [detected("a")])
    got, _, err = await called(valkey_url, tmp_path, "--cameras", "attic", "--last", "1h")
    assert got == 1
    assert "no such camera; the log knows porch" in " ".join(err.split())


async def test_ctrl_c_leaves_a_run_that_goes_on(
    log: EventLog, valkey_url: str, tmp_path: Path
) -> None:
    many = [detected(f"p{n}", 20.0 * n, box("car", 0.55 + n % 40 / 100)) for n in range(30_000)]
    for start in range(0, len(many), 5000):
        await log.append_all([new(one) for one in many[start : start + 5000]])
    for partition in range(log.partitions):
        await log.client.xgroup_setid(f"hsi:{{{partition}}}:detections", "batch", id="$")
    options = ("--set", "BATCH_WINDOW_SECONDS=45", "--name", "stopped", "--json", *FROM)
    process = await started(valkey_url, tmp_path, *options)
    segments = tmp_path / "replays" / "stopped"
    while not list(segments.glob("changed-*.jsonl")):
        assert process.returncode is None
        await asyncio.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130, err
    assert b"--name stopped goes on from here" in err
    code, out, _ = await called(valkey_url, tmp_path, *options)
    assert code == 0
    resumed = msgspec.json.decode(out)
    # The log holds no batches here: whatever comes is gained, each of it once.
    assert resumed["pictures"] == len(many)
    gained = [change["after"] for change in resumed["changes"]]
    members = [picture for event in gained for picture in event["picture_ids"]]
    assert sorted(members) == sorted(one.picture_id for one in many)
