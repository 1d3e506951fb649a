"""Trends by the days of a time zone."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from support.histories import image
from support.serving import BEGIN, Served, served, story

from domain.events import CameraRegistered, Event

DAYS = "start_date=2025-12-30&end_date=2025-12-31"


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path) as running:
        # Stories begin on 30 December at 12:00 UTC; 720 minutes later is the next day.
        first = story("front", 0, score=20, level="low")
        second = story("front", 1, score=90, level="critical")
        third = story("front", 720, score=40)
        await running.append(*first.events, *second.events, *third.events)
        yield running


async def test_each_day_has_its_levels(api: Served) -> None:
    said = await api.json(f"/api/analytics/risk-history?{DAYS}")
    assert said == {
        "days": [
            {
                "date": "2025-12-30",
                "events": 2,
                "by_risk_level": {"critical": 1, "low": 1},
                "mean_score": 55.0,
                "highest_score": 90,
            },
            {
                "date": "2025-12-31",
                "events": 1,
                "by_risk_level": {"medium": 1},
                "mean_score": 40.0,
                "highest_score": 40,
            },
        ],
        "time_zone": "UTC",
    }


async def test_a_day_is_that_of_the_time_zone(api: Served) -> None:
    path = f"/api/analytics/detection-trends?{DAYS}"
    utc = await api.json(path)
    assert [(day["date"], day["detections"]) for day in utc["days"]] == [
        ("2025-12-30", 2),
        ("2025-12-31", 1),
    ]
    west = await api.json(f"{path}&time_zone=America/New_York")
    assert [(day["date"], day["by_object_type"]) for day in west["days"]] == [
        ("2025-12-30", {"person": 3})
    ]
    for zone in ("Nowhere", "..%2f..%2fetc%2fpasswd", "%00", "", "UTC%20", "x" * 64):
        path = f"/api/analytics/detection-trends?{DAYS}&time_zone={zone}"
        if zone:
            await api.problem(path, "invalid_parameter", status=400)


async def test_a_day_of_23_hours_and_one_of_25_are_whole_days(api: Served) -> None:
    """Berlin's clocks change on 29 March and 25 October 2026."""
    for first, last, after in (
        ("2026-03-28T23:30", "2026-03-29T21:30", "2026-03-29T22:30"),
        ("2026-10-24T22:30", "2026-10-25T22:30", "2026-10-25T23:30"),
    ):
        times = [datetime.fromisoformat(each).replace(tzinfo=UTC) for each in (first, last, after)]
        minutes = [(each - BEGIN) // timedelta(minutes=1) for each in times]
        await api.append(*(event for each in minutes for event in story("yard", each).events))
        span = f"start_date={first}Z&end_date={after}:59Z&time_zone=Europe/Berlin"
        said = await api.json(f"/api/analytics/risk-history?{span}")
        days = [(day["date"], day["events"]) for day in said["days"]]
        day = times[1].date()
        assert days == [(str(day), 2), (str(day + timedelta(days=1)), 1)]


async def test_shares_add_up_to_everything_that_was_seen(api: Served) -> None:
    said = await api.json(f"/api/analytics/object-distribution?{DAYS}")
    assert said["objects"] == [{"object_type": "person", "detections": 3, "share": 1.0}]
    nothing = "start_date=2020-01-01&end_date=2020-01-02"
    said = await api.json(f"/api/analytics/object-distribution?{nothing}")
    assert said == {"objects": [], "total_detections": 0}
    path = "/api/analytics/object-distribution"
    await api.problem(path, "invalid_parameter", status=400)
    long = f"{path}?start_date=2020-01-01&end_date=2022-01-01"
    await api.problem(long, "invalid_parameter", status=400)


def _quiet_nights(days: int) -> list[Event]:
    """Return pictures at 7 and at 19 o'clock of each day: silences of twelve hours."""
    first = datetime(2026, 1, 1, tzinfo=UTC)
    moments = [first + timedelta(days=day, hours=hour) for day in range(days) for hour in (7, 19)]
    return [
        msgspec.structs.replace(image(number, "yard"), captured_at=moment)
        for number, moment in enumerate(moments)
    ]


async def test_a_quiet_camera_is_up_and_a_silent_one_overdue(api: Served) -> None:
    registered = CameraRegistered(camera_id="yard", name="Yard", folder="yard", source="api")
    await api.append(registered, *_quiet_nights(12))
    await _created(api, "2026-01-01")
    asked = "start_date=2026-01-05&end_date=2026-01-18&time_zone=UTC"
    said = await api.json(f"/api/analytics/camera-uptime?{asked}")
    (camera,) = said["cameras"]
    assert (camera["camera_id"], camera["name"], said["time_zone"]) == ("yard", "Yard", "UTC")
    days = {day["date"]: day for day in camera["days"]}
    assert len(days) == 14
    # A week is needed to know the habit; then nights are no outages.
    early, quiet = days["2026-01-05"], days["2026-01-10"]
    assert (early["pictures"], early["uptime"], early["usual_silence_seconds"]) == (2, None, None)
    assert (quiet["uptime"], quiet["overdue_seconds"]) == (1.0, 0)
    assert quiet["usual_silence_seconds"] == 12 * 3600
    # The last picture came on the 12th at 19:00: it was overdue from the 13th at 19:00 on.
    assert (days["2026-01-12"]["uptime"], days["2026-01-12"]["pictures"]) == (1.0, 2)
    assert days["2026-01-13"]["overdue_seconds"] == 5 * 3600
    assert days["2026-01-13"]["uptime"] == round(19 / 24, 4)
    assert (days["2026-01-15"]["uptime"], days["2026-01-15"]["pictures"]) == (0.0, 0)
    assert days["2026-01-15"]["last_at"] is None
    assert camera["uptime"] is not None


async def _created(api: Served, day: str) -> None:
    """Let the camera have been registered on a day; the log says now."""
    async with api.services.queries._pool.connection() as connection:
        await connection.execute("UPDATE cameras SET created_at = %s WHERE id = 'yard'", [day])
