"""The demo cameras: real pictures, new bytes each time, the time they were taken in each."""

import io
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from domain.capture import Clues, capture_time
from domain.exif import exif_time
from domain.paths import is_passing
from hsi.demo import FOLDERS, PICTURES, VISITS, Pace, play, upload

TAKEN = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)


def test_the_pictures_are_there_small_and_attributed() -> None:
    assert {visit.partition("-")[0] for visit in VISITS} == set(FOLDERS)
    for visit in VISITS:
        assert list(PICTURES.glob(f"{visit}-*.jpg"))
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < 3_000_000
    attribution = (PICTURES / "ATTRIBUTION.md").read_text()
    for path in PICTURES.glob("*.jpg"):
        assert path.name in attribution or f"{path.name[:7]}*.jpg" in attribution


def test_an_uploaded_picture_says_when_it_was_taken(tmp_path: Path) -> None:
    path = upload(PICTURES / "yard-1-01.jpg", tmp_path / "Demo Yard", TAKEN)
    assert path.name == "MDAlarm_20260102-030405-678.jpg"
    with Image.open(path) as image:
        exif = exif_time(image.info["exif"])
    clues = Clues(f"Demo Yard/{path.name}", TAKEN, exif)
    found = capture_time(clues, zone=UTC, now=TAKEN)
    assert (found.at, found.source) == (TAKEN, "exif")
    assert capture_time(Clues(clues.path, TAKEN), zone=UTC, now=TAKEN).at == TAKEN


def test_each_upload_is_new_bytes_and_the_same_picture(tmp_path: Path) -> None:
    source = PICTURES / "porch-1-01.jpg"
    first = upload(source, tmp_path, TAKEN).read_bytes()
    second = upload(source, tmp_path, TAKEN + timedelta(seconds=1)).read_bytes()
    assert sha256(first).digest() != sha256(second).digest()
    with Image.open(source) as before, Image.open(io.BytesIO(first)) as after:
        assert np.array_equal(np.asarray(before), np.asarray(after))


def a_moment(_: float) -> None:
    """Let the clock move on by the millisecond that two names differ by."""
    time.sleep(0.002)


def test_visits_follow_one_another_with_pauses(tmp_path: Path) -> None:
    said: list[str] = []
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        a_moment(seconds)

    play(tmp_path, Pace(1.5, 45.0, visits=2), said.append, sleep)
    assert len(list((tmp_path / "Demo Yard").glob("*.jpg"))) == 8
    assert len(list((tmp_path / "Demo Porch").glob("*.jpg"))) == 2
    assert slept == [1.5] * 7 + [45.0, 1.5]
    assert not any(is_passing(path.name) for path in tmp_path.rglob("*"))
    assert len(said) == 11


def test_the_demo_ends_by_itself_and_deletes_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    play(tmp_path, Pace(0, 0, most_megabytes=1), said.append, a_moment)
    assert "end here" in said[-1]
    assert 1_000_000 < sum(path.stat().st_size for path in tmp_path.rglob("*.jpg")) < 2_000_000
