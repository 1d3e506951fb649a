"""Route of the cameras' days: how much each sent, and whether it was silent longer than usual."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec
from aiohttp import web

from api.analytics import DaysQuery, days_of
from api.routing import Routes
from api.services import SERVICES, answer
from domain.silence import (
    HABIT_DAYS,
    LEAST_SILENCE,
    Span,
    longest_by_day,
    overdue,
    usual_silence,
)
from projections.event_queries import Days
from projections.rows import CameraRow
from projections.silence_queries import PictureDay, SilenceRow

routes = Routes("analytics")


class CameraDay(msgspec.Struct, frozen=True, kw_only=True):
    """One day of a camera."""

    date: date
    pictures: int
    first_at: datetime | None
    last_at: datetime | None
    usual_silence_seconds: float | None
    """The median of its longest silences of the 28 days before; null: fewer than 7 have any."""
    overdue_seconds: float | None
    """How long it had then been silent for more than twice of that; null: nobody can tell."""
    uptime: float | None
    """The share of the day in which it was not overdue; null: nobody can tell."""


class CameraUptime(msgspec.Struct, frozen=True, kw_only=True):
    """The days of one camera, from its registration on."""

    camera_id: str
    name: str
    last_seen_at: datetime | None
    uptime: float | None
    """Over the days of which it can be told."""
    days: list[CameraDay]


class CameraUptimes(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/analytics/camera-uptime."""

    cameras: list[CameraUptime]
    time_zone: str


@routes.get("/api/analytics/camera-uptime", CameraUptimes)
async def camera_uptime(request: web.Request, query: DaysQuery) -> web.Response:
    """Answer how much each camera sent a day, and how long it was silent for longer than usual.

    A quiet camera is not down: what counts is its own habit. Where that is not known yet, or
    where a day is not over, nothing is guessed.
    """
    days = days_of(request, query)
    queries, now = request.app[SERVICES].queries, datetime.now(UTC)
    learnt = Days(days.start - timedelta(days=2 * HABIT_DAYS), min(days.end, now), days.zone)
    by_day: dict[str, list[PictureDay]] = defaultdict(list)
    for day in await queries.pictures_by_day(learnt):
        by_day[day.camera_id].append(day)
    silences: dict[str, list[SilenceRow]] = defaultdict(list)
    for row in await queries.silences(learnt.start, learnt.end, LEAST_SILENCE):
        silences[row.camera_id].append(row)
    found = [
        _uptime(camera, by_day[camera.id], silences[camera.id], days, now)
        for camera in await queries.cameras()
    ]
    return answer(CameraUptimes(cameras=found, time_zone=days.zone))


def _uptime(
    camera: CameraRow,
    sent: Sequence[PictureDay],
    silences: Sequence[SilenceRow],
    days: Days,
    now: datetime,
) -> CameraUptime:
    zone = ZoneInfo(days.zone)
    by_date = {row.day.astimezone(zone).date(): row for row in sent}
    ended = (
        (row.until.astimezone(zone).date(), row.until - row.since)
        for row in silences
        if row.until is not None
    )
    longest = longest_by_day(by_date, ended)
    missing = [
        span
        for row in silences
        if (usual := usual_silence(row.since.astimezone(zone).date(), longest)) is not None
        and (span := overdue(Span(row.since, row.until or now), usual)) is not None
    ]
    found = []
    known = late = timedelta(0)
    for day, span in _spans(camera, days, now):
        usual = usual_silence(day, longest)
        away = sum((each.within(span) for each in missing), timedelta(0))
        told = usual is not None or bool(away)
        if told:
            known, late = known + (span.until - span.since), late + away
        row_of_day = by_date.get(day)
        found.append(
            CameraDay(
                date=day,
                pictures=row_of_day.pictures if row_of_day else 0,
                first_at=row_of_day.first_at if row_of_day else None,
                last_at=row_of_day.last_at if row_of_day else None,
                usual_silence_seconds=usual.total_seconds() if usual else None,
                overdue_seconds=away.total_seconds() if told else None,
                uptime=_share(away, span.until - span.since) if told else None,
            )
        )
    return CameraUptime(
        camera_id=camera.id,
        name=camera.name,
        last_seen_at=camera.last_seen_at,
        uptime=_share(late, known) if known else None,
        days=found,
    )


def _share(late: timedelta, known: timedelta) -> float:
    return round(1 - late / known, 4)


def _spans(camera: CameraRow, days: Days, now: datetime) -> Iterator[tuple[date, Span]]:
    """Give the days on which a camera was registered, each as far as it has gone."""
    zone = ZoneInfo(days.zone)
    begin, end = max(days.start, camera.created_at), min(days.end, now)
    day = begin.astimezone(zone).date()
    while (midnight := datetime.combine(day, time.min, zone).astimezone(UTC)) < end:
        following = day + timedelta(days=1)
        until = min(datetime.combine(following, time.min, zone).astimezone(UTC), end)
        if (since := max(midnight, begin)) < until:
            yield day, Span(since, until)
        day = following
