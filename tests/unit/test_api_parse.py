"""Reading requests: what is allowed comes in typed, what is not is named with what would be."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from api.cameras import folder_below
from api.parse import parse_query
from api.problems import ProblemError
from api.schemas import DetectionsQuery, EventsQuery, GpuHistoryQuery


def query(text: str) -> EventsQuery:
    return parse_query(make_mocked_request("GET", f"/api/events?{text}"), EventsQuery)


def test_everything_typed() -> None:
    wanted = query(
        "camera_id=front_door&risk_level=high&min_score=60&reviewed=false&object_type=person"
        "&start_date=2025-12-30T09:45:00Z&end_date=2025-12-31&limit=7&is_fast_path=true"
    )
    assert wanted == EventsQuery(
        camera_id="front_door",
        risk_level="high",
        min_score=60,
        reviewed=False,
        object_type="person",
        start_date=datetime(2025, 12, 30, 9, 45, tzinfo=UTC),
        end_date=datetime(2026, 1, 1, tzinfo=UTC),
        limit=7,
        is_fast_path=True,
    )


@pytest.mark.parametrize(
    "text",
    [
        "2025-12-30T09:45:00Z",
        "2025-12-30T09:45:00",
        "2025-12-30%2009:45:00",
        "2025-12-30T11:45:00+02:00",
        "2025-12-30T11:45:00%2B02:00",
    ],
)
def test_ways_to_write_a_moment(text: str) -> None:
    wanted = query(f"start_date={text}")
    assert wanted.start_date == datetime(2025, 12, 30, 9, 45, tzinfo=UTC)


def test_a_day_begins_at_midnight_and_ends_after_its_last_moment() -> None:
    wanted = query("start_date=2025-12-30&end_date=2025-12-30")
    assert wanted.start_date == datetime(2025, 12, 30, tzinfo=UTC)
    assert wanted.end_date == datetime(2025, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "code", "parts"),
    [
        ("limit=0", "invalid_parameter", ["limit='0'", "from 1 to 1000"]),
        ("limit=1001", "invalid_parameter", ["limit", "from 1 to 1000"]),
        ("limit=many", "invalid_parameter", ["limit='many'", "whole number"]),
        ("limit=5&limit=6", "invalid_parameter", ["limit", "more than once"]),
        ("risk_level=urgent", "invalid_parameter", ["risk_level", "critical", "low"]),
        ("reviewed=perhaps", "invalid_parameter", ["reviewed", "true or false"]),
        ("start_date=yesterday", "invalid_parameter", ["start_date", "2025-12-30"]),
        ("start_date=0001-01-01", "invalid_parameter", ["start_date", "1970"]),
        ("end_date=9999-12-31", "invalid_parameter", ["end_date", "2999"]),
        ("object_type=a%00b", "invalid_parameter", ["object_type", "control characters"]),
        ("camera_id=", "invalid_parameter", ["camera_id", "from 1 to 128"]),
        ("offset=10", "unknown_parameter", ["offset", "cursor", "limit"]),
    ],
)
def test_what_is_not_allowed_is_named(text: str, code: str, parts: list[str]) -> None:
    with pytest.raises(ProblemError) as caught:
        query(text)
    assert caught.value.code == code
    for part in parts:
        assert part in caught.value.detail


def test_limits_differ_by_route() -> None:
    request = make_mocked_request("GET", "/?limit=5000")
    assert parse_query(request, GpuHistoryQuery).limit == 5000
    with pytest.raises(ProblemError):
        parse_query(make_mocked_request("GET", "/?min_confidence=1.5"), DetectionsQuery)


@pytest.mark.parametrize("wanted", ["front_door", "Front Door", "Tür", "front_door/", "./front"])
def test_folders_below_the_base(tmp_path: Path, wanted: str) -> None:
    assert folder_below(tmp_path, wanted) == wanted.removeprefix("./").rstrip("/")
    assert folder_below(tmp_path, f"{tmp_path}/{wanted}") == wanted.removeprefix("./").rstrip("/")


@pytest.mark.parametrize(
    "wanted",
    [
        "..",
        ".",
        "/",
        "../other",
        "a/b",
        "a/../b",
        "/etc",
        "front/..",
        ".hidden",
        "x" * 256,
        "link",
    ],
)
def test_folders_elsewhere_are_refused(tmp_path: Path, wanted: str) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(ProblemError) as caught:
        folder_below(tmp_path, wanted)
    assert caught.value.code == "folder_outside"
