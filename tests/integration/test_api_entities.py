"""The entities over the API: filters, pages, history, and names that keep leading somewhere."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.enrichments import embedded, look, names
from support.serving import Served, served


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path) as running:
        await running.register("porch", "yard")
        yield running


async def test_entities_are_filtered_and_paged(api: Served) -> None:
    await api.append(*[embedded("porch", n, look(90.0 * (n % 2))) for n in range(4)])
    await api.append(embedded("yard", 9, look(0)), embedded("yard", 10, look(0), kind="vehicle"))
    every = (await api.json("/api/entities"))["entities"]
    assert [(e["kind"], e["sightings"]) for e in every] == [
        ("vehicle", 1),
        ("person", 3),
        ("person", 2),
    ]
    assert await _paged(api) == every

    async def count(query: str) -> int:
        return int((await api.json(f"/api/entities?{query}"))["count"])

    assert await count("kind=vehicle") == 1
    assert await count("camera_id=yard") == 2
    assert await count("min_cameras=2") == 1
    assert await count("min_sightings=3") == 1
    assert await count("end_date=2026-03-01T12:05:00Z") == 2
    assert await count("start_date=2026-03-01T12:10:00Z") == 1
    entity = every[1]["id"]
    url = f"/api/entities/{entity}/history"
    seen = (await api.json(url))["sightings"]
    assert [each["camera_id"] for each in seen] == ["yard", "porch", "porch"]
    first = await api.json(f"{url}?limit=2")
    rest = await api.json(f"{url}?limit=2&cursor={first['next_cursor']}")
    assert [*first["sightings"], *rest["sightings"]] == seen
    assert rest["next_cursor"] is None
    assert (await api.json(f"{url}?camera_id=yard"))["count"] == 1
    assert (await api.json(f"{url}?end_date=2026-03-01T12:01:00Z"))["count"] == 1
    await api.problem("/api/entities/sight_none", "entity_not_found", status=404)
    await api.problem("/api/entities?cursor=x", "invalid_cursor", status=400)
    await api.problem(f"{url}?cursor=x", "invalid_cursor", status=400)
    await api.problem("/api/entities?kind=animal", "invalid_parameter", status=400)


async def _paged(api: Served) -> list[Any]:
    page = await api.json("/api/entities?limit=1")
    found = page["entities"]
    while page["next_cursor"] is not None:
        page = await api.json(f"/api/entities?limit=1&cursor={page['next_cursor']}")
        found += page["entities"]
    return list(found)


async def test_an_earlier_sighting_that_comes_late_begins_the_entity(api: Served) -> None:
    await api.append(embedded("porch", 5, look(0)), embedded("yard", 9, look(10)))
    (before,) = (await api.json("/api/entities"))["entities"]
    await api.append(embedded("yard", 1, look(1)))
    (after,) = (await api.json("/api/entities"))["entities"]
    assert after["sightings"] == 3
    assert after["id"] != before["id"]
    # The old name still leads there.
    assert await api.json(f"/api/entities/{before['id']}") == after
    assert names("yard", 1)[2] in {
        each["event_id"] for each in (await api.json(after["links"]["history"]))["sightings"]
    }
