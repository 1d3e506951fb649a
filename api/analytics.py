"""Routes of trends: what was seen and how risky it was, day by day."""

from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from typing import Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from aiohttp import web
from msgspec import Meta

from api.problems import ProblemError
from api.routing import Routes
from api.services import SERVICES, answer
from domain.events import Level
from projections.event_queries import Days

MOST_DAYS: Final = 366

routes = Routes("analytics")


class DaysQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A span of days."""

    start_date: datetime
    end_date: datetime
    time_zone: (
        Annotated[
            str,
            Meta(
                max_length=64,
                description="Whose days are counted, like Europe/Berlin; else CAMERA_TIMEZONE's.",
            ),
        ]
        | None
    ) = None


class RiskDayAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The events of one day."""

    date: date
    events: int
    by_risk_level: dict[Level, int]
    mean_score: float
    highest_score: int


class RiskHistory(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/analytics/risk-history: days with an event, oldest first."""

    days: list[RiskDayAnswer]
    time_zone: str


class DetectionDayAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The detections of one day."""

    date: date
    detections: int
    by_object_type: dict[str, int]


class DetectionTrends(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/analytics/detection-trends: days with a detection, oldest first."""

    days: list[DetectionDayAnswer]
    time_zone: str


class ObjectShare(msgspec.Struct, frozen=True, kw_only=True):
    """How much of what was seen is of one kind."""

    object_type: str
    detections: int
    share: float


class ObjectDistribution(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/analytics/object-distribution, the most frequent kind first."""

    objects: list[ObjectShare]
    total_detections: int


@routes.get("/api/analytics/risk-history", RiskHistory)
async def risk_history(request: web.Request, query: DaysQuery) -> web.Response:
    """Answer how many events of which level each day had."""
    days = days_of(request, query)
    levels: dict[date, Counter[Level]] = defaultdict(Counter)
    points: Counter[date] = Counter()
    highest: dict[date, int] = {}
    for row in await request.app[SERVICES].queries.risk_by_day(days):
        day = _date(row.day, days)
        levels[day][row.risk_level] += row.events
        points[day] += row.points
        highest[day] = max(row.highest_score, highest.get(day, 0))
    found = [
        RiskDayAnswer(
            date=day,
            events=counts.total(),
            by_risk_level=dict(counts),
            mean_score=round(points[day] / counts.total(), 2),
            highest_score=highest[day],
        )
        for day, counts in levels.items()
    ]
    return answer(RiskHistory(days=found, time_zone=days.zone))


@routes.get("/api/analytics/detection-trends", DetectionTrends)
async def detection_trends(request: web.Request, query: DaysQuery) -> web.Response:
    """Answer how many objects of which kind each day had."""
    days = days_of(request, query)
    labels: dict[date, Counter[str]] = defaultdict(Counter)
    for row in await request.app[SERVICES].queries.detections_by_day(days):
        labels[_date(row.day, days)][row.label] += row.detections
    found = [
        DetectionDayAnswer(date=day, detections=counts.total(), by_object_type=dict(counts))
        for day, counts in labels.items()
    ]
    return answer(DetectionTrends(days=found, time_zone=days.zone))


@routes.get("/api/analytics/object-distribution", ObjectDistribution)
async def object_distribution(request: web.Request, query: DaysQuery) -> web.Response:
    """Answer what share of the detections each kind of object has."""
    counts: Counter[str] = Counter()
    for row in await request.app[SERVICES].queries.detections_by_day(days_of(request, query)):
        counts[row.label] += row.detections
    total = counts.total()
    found = [
        ObjectShare(object_type=label, detections=number, share=round(number / total, 4))
        for label, number in counts.most_common()
    ]
    return answer(ObjectDistribution(objects=found, total_detections=total))


def days_of(request: web.Request, query: DaysQuery) -> Days:
    """Return the days that are asked for; raises ProblemError for too many or an unknown zone."""
    if query.end_date - query.start_date > timedelta(days=MOST_DAYS):
        raise ProblemError(
            "invalid_parameter", f"start_date to end_date is more than {MOST_DAYS} days"
        )
    zone = query.time_zone or request.app[SERVICES].config.time_zone
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ProblemError(
            "invalid_parameter",
            f"time_zone={zone[:80]!r} is not known: give one like Europe/Berlin",
        ) from error
    return Days(query.start_date, query.end_date, zone)


def _date(day: datetime, days: Days) -> date:
    return day.astimezone(ZoneInfo(days.zone)).date()
