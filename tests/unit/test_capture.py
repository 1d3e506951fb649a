"""When a picture was taken: EXIF, names as cameras write them, the file's time, the arrival."""

import io
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from domain.capture import NAME_PATTERNS, CaptureTime, Clues, capture_time
from domain.exif import ExifTime, exif_time

NOON = datetime(2024, 1, 1, 12, 0, 0, tzinfo=UTC)
NOW = datetime(2024, 6, 1, tzinfo=UTC)
MODIFIED = datetime(2024, 5, 31, 23, 0, tzinfo=UTC)


def local(*parts: int) -> datetime:
    return datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001 - EXIF knows no zone


def captured(path: str, *, exif: ExifTime | None = None, zone: str = "UTC") -> CaptureTime:
    return capture_time(Clues(path, MODIFIED, exif), zone=ZoneInfo(zone), now=NOW)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MDAlarm_20240101-120000.jpg", NOON),
        ("HMDAlarm_20240101-120000.jpg", NOON),
        ("Schedule_20240101-120000.jpg", NOON),
        ("20240101120000.jpg", NOON),
        ("Front_00_20240101120000.jpg", NOON),
        ("RLC-410-5MP_01_20240101120000.jpg", NOON),
        (
            "192.168.1.64_01_20240101120000123_MOTION_DETECTION.jpg",
            NOON + timedelta(milliseconds=123),
        ),
        ("ch01_20240101120000_20240101120030.mp4", NOON),
        ("2024-01-01_12-00-00.jpg", NOON),
        ("2024-01-01 12.00.00.png", NOON),
        ("2024-01-01T12:00:00.jpg", NOON),
        ("2024-01-01-12-00-00-042.jpg", NOON + timedelta(milliseconds=42)),
        ("2024_01_01_12_00_00.jpg", NOON),
        ("20240101_12h00m00s.jpg", NOON),
        ("RingVideo_20240101_120000.mp4", NOON),
        ("snap/20240101/Snap_20240101-120000.jpg", NOON),
        ("image24-01-01_12-00-00-50.jpg", NOON + timedelta(milliseconds=500)),
        ("2024-01-01/001/jpg/12/00/00[M][0@0][0].jpg", NOON),
        ("2024-01-01/pic_001/12.00.00[M][0@0][0].jpg", NOON),
        ("2024-01-01/001/dav/12/12.00.00-12.00.30[M][0@0][0].mp4", NOON),
        ("20240101/120000.jpg", NOON),
        ("sub\n\udcffdir/MDAlarm_20240101-120000.jpg", NOON),
    ],
)
def test_names_of_cameras_tell_the_time(name: str, expected: datetime) -> None:
    assert captured(f"Front/{name}") == CaptureTime(expected, "name")


@pytest.mark.parametrize(
    "name",
    [
        "image.jpg",
        "IMG_1234567890.jpg",
        "MDAlarm_20240231-120000.jpg",
        "MDAlarm_20240101-250000.jpg",
        "120240101120000.jpg",
        "20240101/img123456.jpg",
        "MDAlarm_19990101-120000.jpg",
        "MDAlarm_20250101-120000.jpg",
        "٢٠٢٤٠١٠١-١٢٠٠٠٠.jpg",
    ],
)
def test_what_is_no_plausible_time_falls_through_to_the_files_own(name: str) -> None:
    assert captured(f"Front/{name}") == CaptureTime(MODIFIED, "mtime")


def test_every_pattern_reads_its_own_example() -> None:
    for pattern in NAME_PATTERNS:
        assert captured(f"Front/{pattern.example}").source == "name", pattern.made_by


def test_names_and_exif_without_offset_are_in_the_cameras_time_zone() -> None:
    # An hour that the clocks skip and one that they show twice are moments all the same.
    skipped = captured("Front/MDAlarm_20230326-023000.jpg", zone="Europe/Berlin")
    assert (skipped.at, skipped.source) == (datetime(2023, 3, 26, 1, 30, tzinfo=UTC), "name")
    twice = captured("Front/MDAlarm_20231029-023000.jpg", zone="Europe/Berlin")
    assert twice.at == datetime(2023, 10, 29, 0, 30, tzinfo=UTC)
    in_berlin = captured("Front/MDAlarm_20240101-120000.jpg", zone="Europe/Berlin")
    assert in_berlin.at == NOON - timedelta(hours=1)
    exif = ExifTime(local(2024, 1, 1, 12), None)
    assert captured("Front/x.jpg", exif=exif, zone="Europe/Berlin").at == in_berlin.at
    assert captured("Front/20240101T120000Z.jpg", zone="Europe/Berlin").at == NOON


def test_exif_wins_with_its_own_offset() -> None:
    exif = ExifTime(local(2024, 1, 2, 12), timezone(timedelta(hours=2)))
    found = captured("Front/MDAlarm_20240101-120000.jpg", exif=exif, zone="Europe/Berlin")
    assert found == CaptureTime(datetime(2024, 1, 2, 10, tzinfo=UTC), "exif")


@pytest.mark.parametrize("year", [1970, 1999, 2030, 9999])
def test_an_implausible_exif_makes_room_for_the_name(year: int) -> None:
    exif = ExifTime(local(year, 1, 1), None)
    assert captured("Front/MDAlarm_20240101-120000.jpg", exif=exif) == CaptureTime(NOON, "name")


def test_a_file_from_nowhere_in_time_was_taken_when_it_arrived() -> None:
    clues = Clues("Front/x.jpg", datetime(1970, 1, 1, tzinfo=UTC))
    assert capture_time(clues, zone=UTC, now=NOW) == CaptureTime(NOW, "arrival")


def exif_block(*, order: str = "<", **texts: str) -> bytes:
    tags = {"original": 0x9003, "fraction": 0x9291, "offset": 0x9011, "general": 0x9010}
    exif = Image.Exif()
    exif.endian = order
    for name, text in texts.items():
        exif.get_ifd(0x8769)[tags[name]] = text
    return exif.tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_read_in_both_byte_orders(order: str) -> None:
    block = exif_block(order=order, original="2024:01:01 12:00:00", fraction="25", offset="-05:30")
    expected = local(2024, 1, 1, 12, 0, 0, 250_000)
    assert exif_time(block) == ExifTime(expected, timezone(-timedelta(hours=5, minutes=30)))


def test_the_general_offset_counts_where_the_original_has_none() -> None:
    found = exif_time(exif_block(original="2024:01:01 12:00:00", general="+01:00"))
    assert found is not None
    assert found.zone == timezone(timedelta(hours=1))


@pytest.mark.parametrize("offset", ["", "+1:00", "Z", "+99:99", "+01:00 "])
def test_an_unreadable_offset_is_none(offset: str) -> None:
    found = exif_time(exif_block(original="2024:01:01 12:00:00", offset=offset))
    assert found is not None
    assert found.zone in {None, timezone(timedelta(hours=1))}


@pytest.mark.parametrize(
    "text", ["", "2024:13:01 12:00:00", "0000:00:00 00:00:00", "now", "x" * 64]
)
def test_an_unreadable_time_is_none(text: str) -> None:
    assert exif_time(exif_block(original=text)) is None


@given(st.binary(max_size=200))
def test_no_block_can_break_the_reader(block: bytes) -> None:
    for head in (b"", b"Exif\0\0II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        exif_time(head + block)


@given(st.integers(0, 60), st.binary(min_size=1, max_size=4))
def test_no_damage_to_a_real_block_can_break_the_reader(at: int, noise: bytes) -> None:
    block = exif_block(original="2024:01:01 12:00:00", fraction="25", offset="-05:30")
    exif_time(block[:at] + noise + block[at + len(noise) :])
    exif_time(block[:at])


@given(
    st.text(
        st.characters(codec="utf-8") | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)
    ),
    st.datetimes(),
    st.datetimes(),
)
def test_any_path_and_any_clock_give_a_plausible_time(
    path: str, exif: datetime, modified: datetime
) -> None:
    clues = Clues(path, modified.replace(tzinfo=UTC), ExifTime(exif, None))
    found = capture_time(clues, zone=ZoneInfo("Pacific/Auckland"), now=NOW)
    assert datetime(2000, 1, 1, tzinfo=UTC) <= found.at <= NOW + timedelta(days=1)
    assert found.at.tzinfo is UTC


def test_pillow_writes_what_we_read() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2024:01:01 12:00:00"
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG", exif=exif)
    with Image.open(io.BytesIO(out.getvalue())) as image:
        assert exif_time(image.info["exif"]) == ExifTime(local(2024, 1, 1, 12), None)
