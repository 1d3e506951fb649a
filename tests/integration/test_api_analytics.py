"""Trends by the days of a time zone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.serving import Served, served, story

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
