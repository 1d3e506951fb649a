"""Route about the levels of risk: which scores make which."""

from typing import Final

import msgspec
from aiohttp import web

from api.routing import Routes
from api.services import SERVICES, answer
from domain.events import Level

routes = Routes("system")

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
