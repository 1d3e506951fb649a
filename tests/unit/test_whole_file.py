"""Whole or not: pictures and videos cut at any place, and what nobody should decode."""

import io
import struct
from pathlib import Path

import cv2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.watching import jpeg, mp4, png

from inference.images import probe
from inference.pictures import OpenFile
from inference.video import BrokenVideoError, Clip
from inference.whole_file import MAX_SCANS, Finding, Still, Unfit, Video, check

PICTURE = jpeg(1, (320, 240), taken="2024:01:01 12:00:00")


def found(data: bytes, tmp_path: Path, *, settled: bool = False) -> Finding:
    path = tmp_path / "file"
    path.write_bytes(data)
    status = path.stat()
    with path.open("rb") as stream:
        return check(OpenFile(stream, status.st_size, status.st_mtime_ns), settled=settled)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def with_thumbnail(picture: bytes) -> bytes:
    """Add an EXIF block with a whole JPEG inside, as cameras do."""
    with Image.open(io.BytesIO(picture)) as image:
        thumbnail = saved(image.resize((80, 60)), "JPEG")
    block = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + thumbnail
    return picture[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + picture[2:]


def variants() -> dict[str, bytes]:
    with Image.open(io.BytesIO(PICTURE)) as image:
        return {
            "jpeg": PICTURE,
            "progressive": saved(image, "JPEG", progressive=True),
            "with a thumbnail": with_thumbnail(PICTURE),
            "png": saved(image, "PNG"),
        }


VARIANTS = variants()


@pytest.mark.parametrize("kind", VARIANTS)
def test_a_whole_picture_is_whole_at_once(kind: str, tmp_path: Path) -> None:
    still = found(VARIANTS[kind], tmp_path)
    assert isinstance(still, Still), still
    assert (still.width, still.height, still.size_bytes) == (320, 240, len(VARIANTS[kind]))


@pytest.mark.parametrize("kind", VARIANTS)
def test_a_cut_picture_is_not_whole_wherever_it_is_cut(kind: str, tmp_path: Path) -> None:
    data = VARIANTS[kind]
    for cut in [*range(1, len(data), len(data) // 60), len(data) - 2, len(data) - 1]:
        assert isinstance(found(data[:cut], tmp_path), Unfit), cut
        # A file that was given its full size in advance is zeros where the upload stands.
        assert isinstance(found(data[:cut].ljust(len(data), b"\0"), tmp_path), Unfit), cut


@pytest.mark.parametrize("kind", VARIANTS)
def test_what_cameras_add_behind_the_end_does_no_harm(kind: str, tmp_path: Path) -> None:
    assert isinstance(found(VARIANTS[kind] + b"\0maker's notes\xff\xda" * 9, tmp_path), Still)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_png_mode_is_a_picture(mode: str, tmp_path: Path) -> None:
    assert isinstance(found(png(mode=mode), tmp_path), Still)


def test_cmyk_and_animated_pictures_are_pictures(tmp_path: Path) -> None:
    assert isinstance(found(saved(Image.new("CMYK", (64, 48)), "JPEG"), tmp_path), Still)
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    animated = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert isinstance(found(animated, tmp_path), Still)


def test_the_capture_time_comes_along(tmp_path: Path) -> None:
    still = found(PICTURE, tmp_path)
    assert isinstance(still, Still)
    assert still.exif is not None
    assert still.exif.local.isoformat() == "2024-01-01T12:00:00"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_sides_are_those_of_the_upright_picture(
    kind: str, orientation: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.new("RGB", (64, 32)) as image:
        data = saved(image, kind, exif=exif)
    still = found(data, tmp_path)
    assert isinstance(still, Still)
    header = probe(data, "turned")
    assert (still.width, still.height) == (header.width, header.height)
    assert (still.width > still.height) is (orientation < 5)


def test_a_damaged_exif_block_is_no_damage_to_the_picture(tmp_path: Path) -> None:
    at = PICTURE.index(b"2024:01:01")
    for noise in (b"\xff" * 10, b"\0" * 10):
        still = found(PICTURE[:at] + noise + PICTURE[at + 10 :], tmp_path)
        assert isinstance(still, Still)
        assert still.exif is None
    at = PICTURE.index(b"Exif\0\0") + 6
    for cut in range(0, 40, 3):
        damaged = PICTURE[: at + cut] + b"\xee\xff\x7f" + PICTURE[at + cut + 3 :]
        assert isinstance(found(damaged, tmp_path), Still), cut


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_hundred_megapixels_are_refused_before_they_are_decoded(
    kind: str, tmp_path: Path
) -> None:
    huge = saved(Image.new("1" if kind == "PNG" else "L", (10_001, 10_000)), kind)
    unfit = found(huge, tmp_path)
    assert unfit == Unfit("too_large", "10001 x 10000 are 100 megapixels; a picture may have 50")


def test_endless_scans_are_refused(tmp_path: Path) -> None:
    data = VARIANTS["progressive"]
    at = data.rindex(b"\xff\xda")
    scan = data[at:-2]
    unfit = found(data[:-2] + scan * (MAX_SCANS + 1) + b"\xff\xd9", tmp_path)
    assert isinstance(unfit, Unfit)
    assert unfit.reason == "unsupported"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello", "unsupported"),
        (b"\0" * 100, "unsupported"),
        (b"GIF89a" + b"\0" * 50, "unsupported"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "unsupported"),
        (b"#EXTM3U\nhttp://127.0.0.1/", "unsupported"),
        (PICTURE[:100] + PICTURE[400:], "broken"),
    ],
)
def test_what_it_is_instead(data: bytes, reason: str, tmp_path: Path) -> None:
    unfit = found(data, tmp_path)
    assert isinstance(unfit, Unfit), unfit
    assert unfit.reason == reason, unfit


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(VARIANTS)), st.integers(0, 2**32), st.binary(min_size=1, max_size=9))
def test_no_damage_breaks_the_check(
    tmp_path_factory: pytest.TempPathFactory, kind: str, at: int, noise: bytes
) -> None:
    data = VARIANTS[kind]
    at %= len(data)
    damaged = data[:at] + noise + data[at + len(noise) :]
    assert isinstance(found(damaged, tmp_path_factory.getbasetemp()), Still | Unfit)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return mp4(tmp_path_factory.mktemp("video") / "v.mp4", seconds=7)


def test_a_whole_video_is_whole_at_once(video: bytes, tmp_path: Path) -> None:
    assert isinstance(found(video, tmp_path), Video)


def test_a_cut_video_is_not_whole_wherever_it_is_cut(video: bytes, tmp_path: Path) -> None:
    for cut in [*range(12, len(video), len(video) // 50), len(video) - 1]:
        assert isinstance(found(video[:cut], tmp_path, settled=True), Unfit), cut


def test_a_fragmented_video_has_to_be_left_alone_first(video: bytes, tmp_path: Path) -> None:
    fragmented = video + struct.pack(">I4s", 8, b"moof")
    assert isinstance(found(fragmented, tmp_path), Unfit)
    assert isinstance(found(fragmented, tmp_path, settled=True), Video)


@pytest.mark.parametrize(
    "box", [b"\0\0\0\x07free", b"\0\0\0\x01free\0", b"\0\0\0\x01free" + b"\xff" * 8]
)
def test_boxes_that_lie_are_a_cut_video(box: bytes, video: bytes, tmp_path: Path) -> None:
    assert isinstance(found(video + box, tmp_path, settled=True), Unfit)


def test_frames_come_every_two_seconds(video: bytes, tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(video)
    with Clip(str(tmp_path / "v.mp4")) as clip:
        assert clip.facts.duration_seconds == 7.0
        frames = list(clip.frames(2.0, 30))
    assert [(frame.number, frame.offset_seconds) for frame in frames] == [
        (1, 0.0),
        (2, 2.0),
        (3, 4.0),
        (4, 6.0),
    ]
    assert {(frame.width, frame.height) for frame in frames} == {(160, 120)}


def test_a_long_video_is_looked_at_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(mp4(tmp_path / "made.mp4", seconds=60))
    with Clip(str(tmp_path / "v.mp4")) as clip:
        offsets = [frame.offset_seconds for frame in clip.frames(2.0, 10)]
    assert offsets == [6.0 * number for number in range(10)]


def test_a_video_without_pictures_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x08moov")
    with pytest.raises(BrokenVideoError):
        Clip(str(path))


class LyingCapture:
    """A video that OpenCV opens and whose numbers no calendar can hold."""

    def __init__(self, count: float, offset: float) -> None:
        self.answers = {
            cv2.CAP_PROP_FRAME_WIDTH: 160.0,
            cv2.CAP_PROP_FRAME_HEIGHT: 120.0,
            cv2.CAP_PROP_FPS: 0.001,
            cv2.CAP_PROP_FRAME_COUNT: count,
            cv2.CAP_PROP_POS_MSEC: offset,
        }

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def get(self, which: int) -> float:
        return self.answers[which]

    def grab(self) -> bool:
        return True

    def release(self) -> None:
        pass


def test_a_video_of_a_million_years_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.video.cv2.VideoCapture", lambda *_: LyingCapture(1e18, 0))
    with pytest.raises(BrokenVideoError, match="at most 86400 s"):
        Clip("x.mp4")


def test_a_frame_of_a_million_years_ahead_ends_the_video(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.video.cv2.VideoCapture", lambda *_: LyingCapture(1, 1e18))
    assert list(Clip("x.mp4").frames(2.0, 30)) == []
