"""State as of a time equals a fresh fold of what was recorded until then."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from psycopg import AsyncConnection
from pydantic import SecretStr
from support.histories import news, registered
from support.logs import opened
from support.serving import Served, served

from agents.applied import applied, tell_settings, told_positions
from domain.cameras import CameraState, evolve
from domain.events import (
    SYSTEM,
    CameraRemoved,
    CameraUpdated,
    Event,
    ServiceStateChanged,
    SettingsApplied,
)
from projections.cameras import Cameras
from projections.rows import CameraRow
from runtime.settings import Settings
from streams.envelope import START, Envelope
from streams.history import History
from streams.replay import settings_told

MOMENTS = 30


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(valkey_url, database_url, tmp_path) as running:
        yield running


def _history(random: Random) -> list[Event]:
    """Make up what people did to cameras, and starts with other settings."""
    return [random.choice(_MAKERS)(random) for _ in range(60)]


def _camera(random: Random) -> Event:
    name = random.choice(["front", "garden", "garage"])
    choices: list[Event] = [
        registered(name, api=False),
        registered(name, name=f"Named {random.randrange(9)}"),
        CameraUpdated(camera_id=name, name=f"Renamed {random.randrange(9)}"),
        CameraUpdated(camera_id=name, enabled=random.random() < 0.5),
        CameraUpdated(camera_id=name, entry_point=random.random() < 0.5, confirmed=True),
        CameraUpdated(camera_id=name, when_unavailable=random.choice(["hold", "notify"])),
        CameraRemoved(camera_id=name),
    ]
    return random.choice(choices)


def _start(random: Random) -> Event:
    settings = Settings(
        detection_confidence_threshold=random.choice([0.3, 0.5, 0.7]),
        severity_low_max=random.choice([20, 29]),
    )
    return applied(settings, datetime(2026, 3, 1, random.randrange(24), tzinfo=UTC))


def _service(random: Random) -> Event:
    return ServiceStateChanged(
        camera_id=SYSTEM,
        service=random.choice(["detector", "risk_model"]),
        status=random.choice(["healthy", "unhealthy"]),
        message=f"model {random.randrange(9)}",
        changed_at=datetime(2026, 3, 1, tzinfo=UTC),
    )


_MAKERS = (_camera, _camera, _camera, _start, _service)


@pytest.mark.parametrize("seed", [1, 2])
async def test_any_moment_equals_a_fresh_fold(api: Served, database_url: str, seed: int) -> None:
    random = Random(seed)
    for new in news(_history(random)):
        await api.log.append(new)
        await asyncio.sleep(random.choice([0, 0.001]))  # so that entries have different times
    await api.project()
    envelopes = [
        envelope
        for stream in ("cameras", "system")
        for partition in range(api.log.partitions)
        for envelope in await api.log.read(stream, partition, START, 1000)
    ]
    first = min(envelope.recorded_at for envelope in envelopes)
    last = max(envelope.recorded_at for envelope in envelopes)
    for number in range(MOMENTS):
        at = first + (last - first) * random.uniform(-0.1, 1.0)
        if number % 3 == 0:
            at = random.choice(envelopes).recorded_at
        known = [envelope for envelope in envelopes if envelope.recorded_at <= at]
        await _is_as_folded(api, at, known)
        if number % 10 == 0:
            await _is_as_projected(database_url, api, at, known)


async def _asked(api: Served, at: datetime, what: str) -> Any:
    return await api.json("/api/system/as-of", params={"at": at.isoformat(), "what": what})


async def _is_as_folded(api: Served, at: datetime, known: Sequence[Envelope]) -> None:
    cameras: dict[str, CameraState] = {}
    settings: SettingsApplied | None = None
    services: dict[str, str] = {}
    for envelope in known:
        cameras = evolve(cameras, envelope.event, envelope.recorded_at)
        match envelope.event:
            case SettingsApplied() as event:
                settings = event
            case ServiceStateChanged() as event:
                services[event.service] = event.message
            case _:
                continue
    found = await _asked(api, at, "cameras")
    assert {c["id"]: c["name"] for c in found["cameras"]} == {
        c.id: c.name for c in cameras.values()
    }
    in_force = await _asked(api, at, "settings")
    assert {s["service"]: s["message"] for s in in_force["services"]} == services
    rules = await _asked(api, at, "rules")
    assert rules["entry_points"] == sorted(
        (c.id for c in cameras.values() if c.entry_point and c.removed_at is None),
        key=lambda camera_id: (cameras[camera_id].name, camera_id),
    )
    if settings is None:
        assert (in_force["settings"], rules["rules_version"]) == (None, None)
        return
    told = in_force["settings"]
    assert told["detection_confidence_threshold"] == settings.detection_confidence_threshold
    assert told["applied_at"] == settings.applied_at.isoformat().replace("+00:00", "Z")
    assert rules["levels"]["low"] == f"0–{settings.severity_low_max}"


async def _is_as_projected(
    database_url: str, api: Served, at: datetime, known: Sequence[Envelope]
) -> None:
    """The read model of the cameras, filled with the same events alone, says the same."""
    connection: AsyncConnection[Any]
    async with await AsyncConnection.connect(database_url) as connection:
        await connection.execute("DELETE FROM cameras")
        events = [envelope for envelope in known if envelope.stream == "cameras"]
        await Cameras().apply(connection, events)
        await connection.commit()
    rows = await api.services.queries.cameras(include_removed=True)
    states = (await _asked(api, at, "cameras"))["cameras"]
    assert sorted(states, key=lambda s: s["id"]) == sorted(
        (_as_told(row) for row in rows), key=lambda s: s["id"]
    )


def _as_told(row: CameraRow) -> dict[str, Any]:
    moments = {"created_at": row.created_at, "removed_at": row.removed_at}
    return {
        "id": row.id,
        "name": row.name,
        "folder": row.folder,
        "source": row.source,
        "enabled": row.enabled,
        "entry_point": row.entry_point,
        "when_unavailable": row.when_unavailable,
        "scene_change_threshold": row.scene_change_threshold,
        "confirmed": row.confirmed,
        **{
            name: at and at.astimezone(UTC).isoformat().replace("+00:00", "Z")
            for name, at in moments.items()
        },
    }


async def test_settings_are_told_when_they_change(valkey_url: str) -> None:
    usual, other = Settings(), Settings(detection_confidence_threshold=0.7)
    async with opened(valkey_url) as log, opened(valkey_url) as beside:
        # Several processes start at once.
        await asyncio.gather(*(tell_settings(each, usual) for each in (log, beside, log)))
        assert await tell_settings(log, usual) is False
        assert await tell_settings(log, other) is True
        assert await tell_settings(beside, usual) is True
        # A replay finds them by their positions, without going through the readings between.
        positions = await told_positions(log)
        assert positions is not None
        assert len(positions) == 3
        end = datetime.now(UTC) + timedelta(hours=1)
        history = History(log)
        found = (await settings_told(history, log, end, positions)).items()
        assert found == (await settings_told(history, log, end)).items()
        assert len(found) == 3
        # What was told last was not readable, as after a newer version.
        await log.store_snapshot("settings", log.partition_of(SYSTEM), b"?")
        told = [
            envelope.event
            for envelope in await log.read("system", 0, START, 100)
            if isinstance(envelope.event, SettingsApplied)
        ]
    thresholds = [event.detection_confidence_threshold for event in told]
    assert thresholds == [0.5, 0.7, 0.5]
    assert told[0].rules_version == "rules-1"
    assert (told[0].detector, told[0].risk_model) == ("embedded", "none")


@pytest.mark.parametrize(
    ("url", "kind"), [("grpc://gpu:8001", "triton"), ("http://gpu:8090", "http")]
)
def test_no_address_and_no_secret_is_told(url: str, kind: str) -> None:
    settings = Settings(
        rtdetr_url=url, nemotron_url="http://llm:8091", nemotron_api_key=SecretStr("hidden")
    )
    event = applied(settings, datetime(2026, 3, 1, tzinfo=UTC))
    assert (event.detector, event.risk_model) == (kind, "llama-server")
    assert not any(word in repr(event) for word in ("hidden", "gpu:", "llm:"))


async def test_what_cannot_be_asked(api: Served) -> None:
    path = "/api/system/as-of"
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    wrong = ({"at": later, "what": "rules"}, {"at": "noon", "what": "rules"}, {"what": "rules"})
    for params in wrong:
        await api.problem(path, "invalid_parameter", status=400, params=params)
    now = datetime.now(UTC).isoformat()
    params = {"at": now, "what": "weather"}
    await api.problem(path, "invalid_parameter", status=400, params=params)
