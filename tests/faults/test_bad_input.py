"""Bad files and bad names through the whole pipeline, as real processes: each gets its ledger
state with a reason, and nothing else stops."""

import asyncio
import io
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.installation import Installation, installed
from support.instant_detector import InstantDetector, instant_detector
from support.ledger import file_ids, file_of
from support.watching import drop, eventually, jpeg, png

ASSESSED = ("assessed", "")
ANY_END = ("", "")
"""A picture damaged in its middle may decode or not."""
REJECTED = {
    "truncated": "the picture ends before its end marker",
    "empty": "the file has 0 bytes",
    "too_large": "megapixels; a picture may have",
    "unsupported": "",
    "no_camera": "cameras upload into a folder of theirs",
    "outside": "",
}
NAMES = (
    b"new\nline.jpg",
    b"tab\tbell\x07escape\x1b[31m.jpg",
    b"\xff\xfe not utf-8.jpg",
    b"a..b.jpg",
    b"%2e%2e%2fpasswd.jpg",
    b"back\\slash\\x41.jpg",
    b"$(touch x);`id`'\".jpg",
    b"l" * 251 + b".jpg",
    "\u00fc".encode() * 125 + b".jpg",
    "r\u202egpj.jpg".encode(),
)
FOLDERS = (b"Caf\xe9\n", b"c..", b"f" * 255, "\u8b66\u5099".encode())


@dataclass
class Pipeline:
    """The installation and the detector it asks."""

    installation: Installation
    detector: InstantDetector

    async def reaches(self, path: Path | bytes | list[str], state: str, reason: str) -> Any:
        """Return what the API says of a file once it is in this state for this reason."""
        wanted = path if isinstance(path, list) else file_ids(self.installation, path)
        file: Any = None

        async def there() -> bool:
            nonlocal file
            file = await file_of(self.installation, wanted)
            return (file["state"], file["reason"]) == (state, reason)

        try:
            await eventually(there, seconds=30)
        except TimeoutError:
            pytest.fail(f"{path!r} is {file}, not {state} ({reason})")
        return file

    async def still_works(self, seed: int) -> None:
        """A good picture of another camera goes through, and no process was started again."""
        path = self.installation.drop("Good", f"{seed}.jpg", jpeg(seed))
        await self.reaches(path, *ASSESSED)
        assert "starting it again" not in self.installation.said()


@pytest.fixture
async def pipeline(state_folder: Path) -> AsyncIterator[Pipeline]:
    async with instant_detector() as detector:
        settings = {"RTDETR_URL": detector.url, "BATCH_IDLE_TIMEOUT_SECONDS": "1"}
        with installed(state_folder, **settings) as installation:
            await asyncio.to_thread(installation.start)
            yield Pipeline(installation, detector)
            assert await asyncio.to_thread(installation.stop) == 0


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def contents() -> dict[str, tuple[bytes, tuple[str, str]]]:
    """Return file name → content and the state it must reach."""
    red, blue = Image.new("RGB", (64, 48), "red"), Image.new("RGB", (64, 48), "blue")
    two = {"save_all": True, "append_images": [blue]}
    return {
        "truncated.jpg": (jpeg(1)[:-99], ("rejected", "truncated")),
        "empty.jpg": (b"", ("rejected", "empty")),
        "huge.png": (png((10_000, 10_000), "1"), ("rejected", "too_large")),
        "animated.png": (saved(red, "PNG", **two), ASSESSED),
        "animated.jpg": (saved(blue, "GIF", **two), ("rejected", "unsupported")),
        "cmyk.jpg": (saved(red.convert("CMYK"), "JPEG"), ASSESSED),
        "deep.png": (saved(Image.new("I;16", (64, 48), 40_000), "PNG"), ASSESSED),
        "jpeg.png": (jpeg(2), ASSESSED),
        "suffix.tiff": (jpeg(3), ("rejected", "unsupported")),
        "page.jpg": (b"<html>no picture</html>", ("rejected", "unsupported")),
        "noise.mp4": (os.urandom(5_000), ("rejected", "unsupported")),
        "damaged.jpg": (jpeg(4)[:300] + bytes(500) + jpeg(4)[-200:], ANY_END),
    }


async def test_nothing_bad_goes_unsaid_or_stops_anything(pipeline: Pipeline) -> None:
    await _every_file_gets_its_state_and_its_reason(pipeline)
    await _folders_that_disappear_are_told_and_waited_for(pipeline)


async def _every_file_gets_its_state_and_its_reason(pipeline: Pipeline) -> None:
    installation = pipeline.installation
    expected: dict[bytes, tuple[str, str]] = {}
    for name, (content, state) in contents().items():
        odd = installation.drop("Odd", name, content)
        if state != ANY_END:
            expected[os.fsencode(odd)] = state
    base = os.fsencode(installation.cameras)
    hostile = [os.path.join(base, b"Names", bad) for bad in NAMES]
    hostile += [os.path.join(base, bad, b"a.jpg") for bad in FOLDERS]
    for number, raw in enumerate(hostile):
        expected[raw] = ASSESSED
        drop(raw, jpeg(100 + number))
    expected[os.path.join(base, b"stray.jpg")] = ("rejected", "no_camera")
    drop(os.path.join(base, b"stray.jpg"), jpeg(300))
    link = installation.cameras / "Odd" / "link.jpg"
    link.symlink_to("/etc/hostname")
    expected[os.fsencode(link)] = ("rejected", "outside")

    for path, (outcome, reason) in expected.items():
        file = await pipeline.reaches(path, outcome, reason)
        if outcome == "rejected":
            assert REJECTED[reason] in file["rejected_detail"]
            assert file["rejected_detail"]
    await _all_have_ended(pipeline, len(expected) + 1)
    await pipeline.still_works(1)
    assert installation.get("/api/system/health")["status"] == "healthy"
    cameras = installation.get("/api/cameras")["cameras"]
    assert {camera["status"] for camera in cameras} == {"unregistered"}


async def _all_have_ended(pipeline: Pipeline, count: int) -> None:
    """Every file is in a last state: none is unknown, pending or parked."""

    async def ended() -> bool:
        counted = await asyncio.to_thread(pipeline.installation.get, "/api/system/stats")
        ended = {*counted["files"]} <= {"assessed", "rejected", "filtered"}
        return ended and counted["total_files"] == count

    await eventually(ended, seconds=30)


async def _folders_that_disappear_are_told_and_waited_for(pipeline: Pipeline) -> None:
    installation, detector = pipeline.installation, pipeline.detector
    await pipeline.still_works(401)
    detector.away = True
    waiting = file_ids(installation, installation.drop("Shed", "gone.jpg", jpeg(402)))
    await pipeline.reaches(waiting, "pending", "detect")
    shutil.rmtree(installation.cameras / "Shed")
    detector.away = False
    file = await pipeline.reaches(waiting, "parked", "VanishedError")
    assert "Shed/gone.jpg" in file["pictures"][0]["parked_error"]
    await pipeline.still_works(402)

    elsewhere = installation.folder / "unmounted"
    installation.cameras.rename(elsewhere)
    log = Path(installation.settings["LOG_FILE_PATH"])
    await eventually(lambda: "(FOSCAM_BASE_PATH) is away" in log.read_text())
    (elsewhere / "Good" / "meanwhile.jpg").write_bytes(jpeg(403))
    assert installation.get("/api/system/health")["services"]["redis"]["status"] == "healthy"
    elsewhere.rename(installation.cameras)
    await pipeline.reaches(installation.cameras / "Good" / "meanwhile.jpg", *ASSESSED)
    await pipeline.still_works(404)
