"""Routes about the installation as a whole: levels of risk and gates."""

from datetime import datetime
from typing import Final, Literal

import msgspec
from aiohttp import web

from api.health import STAGE_NEEDS, check_health
from api.routing import Routes
from api.services import SERVICES, answer
from domain.events import Level

routes = Routes("system")


# --- severity -------------------------------------------------------------------------------

_LEVELS: Final[dict[Level, tuple[str, str]]] = {
    "critical": ("#7f1d1d", "Look at once"),
    "high": ("#dc2626", "Look soon"),
    "medium": ("#d97706", "Worth a look today"),
    "low": ("#16a34a", "Nothing out of the ordinary"),
}
"""Level → colour and meaning, the most urgent first."""


class SeverityDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """One level of risk and the scores it covers."""

    severity: Level
    label: str
    description: str
    color: str
    priority: int
    """0 is the most urgent."""
    min_score: int
    max_score: int


class SeverityThresholds(msgspec.Struct, frozen=True, kw_only=True):
    """The highest score of each level but the last."""

    low_max: int
    medium_max: int
    high_max: int


class SeverityAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/system/severity."""

    definitions: list[SeverityDefinition]
    thresholds: SeverityThresholds


@routes.get("/api/system/severity", SeverityAnswer)
async def severity(request: web.Request) -> web.Response:
    """Answer which scores make which level."""
    bands = request.app[SERVICES].config.bands
    highest = {"low": bands.low_max, "medium": bands.medium_max, "high": bands.high_max}
    lowest = {"medium": bands.low_max, "high": bands.medium_max, "critical": bands.high_max}
    return answer(
        SeverityAnswer(
            definitions=[
                SeverityDefinition(
                    severity=level,
                    label=level.capitalize(),
                    description=meaning,
                    color=color,
                    priority=priority,
                    min_score=lowest.get(level, -1) + 1,
                    max_score=highest.get(level, 100),
                )
                for priority, (level, (color, meaning)) in enumerate(_LEVELS.items())
            ],
            thresholds=SeverityThresholds(
                low_max=bands.low_max, medium_max=bands.medium_max, high_max=bands.high_max
            ),
        )
    )


# --- gates -----------------------------------------------------------------------------------


class CircuitBreaker(msgspec.Struct, frozen=True, kw_only=True):
    """The gate of a stage: open while the service that the stage needs is away."""

    name: str
    """The stage."""
    service: str
    state: Literal["closed", "open", "unknown"]
    """As breakers are read: closed lets work through, open holds it back."""
    message: str
    since: datetime | None
    waiting: int
    """Entries that wait behind it."""


class CircuitBreakersAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/system/circuit-breakers."""

    circuit_breakers: list[CircuitBreaker]
    total_count: int
    open_count: int


@routes.get("/api/system/circuit-breakers", CircuitBreakersAnswer)
async def circuit_breakers(request: web.Request) -> web.Response:
    """Answer which stages let work through.

    A stage tries its service by itself and goes on when that answers: nothing is to be reset.
    """
    services = request.app[SERVICES]
    health = await check_health(services)
    found = []
    for stage in health.stages:
        if (service := STAGE_NEEDS.get(stage.stage)) is None:
            continue
        row = services.states.row(service)
        state: Literal["closed", "open", "unknown"] = "unknown"
        if stage.gate is not None:
            state = "closed" if stage.gate == "open" else "open"
        found.append(
            CircuitBreaker(
                name=stage.stage,
                service=service,
                state=state,
                message="nobody has reported on it yet" if row is None else row.message,
                since=None if row is None else row.changed_at,
                waiting=stage.pending + stage.processing,
            )
        )
    opened = sum(each.state == "open" for each in found)
    return answer(
        CircuitBreakersAnswer(circuit_breakers=found, total_count=len(found), open_count=opened)
    )
