"""How the installation is, by one documented rule.

- `unhealthy` (503): PostgreSQL or Redis does not answer, or Redis takes no writes (a full disk);
  nothing can be shown or taken in.
- `degraded` (200): a model is away or unheard of, a role was stopped or has failed too often, the
  live feed cannot read the log, or a read model is more than LAG_LIMIT_SECONDS behind. Pictures
  are taken in and wait.
- `healthy` (200): none of these.
"""

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal, TypeVar

from api.rates import clears_in
from api.schemas import HealthAnswer, ProjectionLag, ServiceHealth, StageBacklog
from api.services import ApiConfig, ApiServices
from domain.enrichment import GROUP_OF
from domain.errors import TransientError
from domain.events import ServiceStatus
from projections.rows import ServiceStateRow
from streams.envelope import START, Position
from streams.log import GroupBacklog
from streams.names import STREAMS

CHECK_SECONDS = 3.0
"""A service that does not answer so long counts as not answering."""
LAG_LIMIT_SECONDS = 30.0
LOOK_SECONDS = 5.0

STAGE_NEEDS: dict[str, str] = {
    "detect": "detector",
    "refine_first": "risk_model",
    "refine": "risk_model",
    **{group: service for service, group in GROUP_OF.items()},
}
"""Stage → the service without which its gate closes."""

Status = Literal["healthy", "degraded", "unhealthy"]
_OF_MODELS: dict[ServiceStatus, Literal["healthy", "unhealthy", "waiting"]] = {
    "healthy": "healthy",
    "unhealthy": "unhealthy",
    "waiting": "waiting",
}
"""Words about a service that a stage depends on; the other ones are of what `hsi up` runs."""
Ends = dict[tuple[str, int], Position]
T = TypeVar("T")

_OFF = ServiceHealth(status="off", message="switched off: events are scored by the rules alone")
_UNHEARD = ServiceHealth(status="unknown", message="no agent has reported on it yet")


async def check_health(services: ApiServices) -> HealthAnswer:
    """Ask every service once, at the same time."""
    database, (redis, log) = await asyncio.gather(
        _check_database(services), _check_redis(services)
    )
    backlog, ends = log
    checks = {
        "database": database,
        "redis": redis,
        **known_checks(services),
    }
    now = datetime.now(UTC)
    lags = await _lags(services, ends) if database.status == "healthy" else []
    return HealthAnswer(
        status=_overall(checks, lags),
        services=checks,
        stages=[stage_backlog(services, group, now) for group in backlog],
        projections=lags,
        app_name=services.config.app_name,
        version=services.config.app_version,
        uptime_seconds=services.uptime_seconds,
        timestamp=now,
    )


async def learn_states(services: ApiServices) -> None:
    """Take what the read model knows of services: at the start the log's tail has told nothing."""
    with suppress(TransientError):
        services.states.learn(await services.queries.service_states())


def known_checks(services: ApiServices) -> dict[str, ServiceHealth]:
    """Return what is known without asking anybody: the log's tail told it."""
    return {
        "ai": _ai(services.states.rows(), services.config),
        "live_feed": _live_feed(services),
        **_processes(services),
    }


async def check_stores(services: ApiServices) -> dict[str, ServiceHealth]:
    """Ask only what the API cannot do without."""
    database, redis = await asyncio.gather(
        _check_database(services), _answers(services.log.newest("system", 0), "Redis")
    )
    return {"database": database, "redis": redis[0]}


def _overall(checks: dict[str, ServiceHealth], lags: list[ProjectionLag]) -> Status:
    if any(checks[name].status == "unhealthy" for name in ("database", "redis")):
        return "unhealthy"
    late = any(lag.lag_seconds > LAG_LIMIT_SECONDS for lag in lags)
    return "healthy" if not late and all(_fine(check) for check in checks.values()) else "degraded"


def _fine(check: ServiceHealth) -> bool:
    return check.status in ("healthy", "off")


async def _answers(call: Awaitable[T], name: str) -> tuple[ServiceHealth, T | None]:
    """Return how a service is by whether it answers in time, and what it answered."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            found = await call
    except TransientError as error:
        return ServiceHealth(status="unhealthy", message=str(error)), None
    except TimeoutError:
        text = f"{name} did not answer within {CHECK_SECONDS:g} s"
        return ServiceHealth(status="unhealthy", message=text), None
    return ServiceHealth(status="healthy", message=f"{name} answers"), found


async def _check_database(services: ApiServices) -> ServiceHealth:
    health, states = await _answers(services.queries.service_states(), "PostgreSQL")
    services.states.learn(states or [])
    return health


async def _check_redis(
    services: ApiServices,
) -> tuple[ServiceHealth, tuple[list[GroupBacklog], Ends]]:
    health, found = await _answers(_ask_log(services), "Redis")
    return health, found or ([], {})


async def _ask_log(services: ApiServices) -> tuple[list[GroupBacklog], Ends]:
    await services.log.check_writable()
    backlog = await services.log.backlog()
    services.rates.see(time.monotonic(), backlog)
    keys = [(stream, p) for stream in STREAMS for p in range(services.log.partitions)]
    newest = await asyncio.gather(*(services.log.newest(*key) for key in keys))
    return backlog, dict(zip(keys, newest, strict=True))


def _ai(states: list[ServiceStateRow], config: ApiConfig) -> ServiceHealth:
    known = {
        row.service: ServiceHealth(status=status, message=row.message, since=row.changed_at)
        for row in states
        if (status := _OF_MODELS.get(row.status)) is not None
    }
    details = {
        "detector": known.get("detector", _UNHEARD),
        "risk_model": known.get("risk_model", _UNHEARD) if config.risk_model_expected else _OFF,
        **{name: known.get(name, _UNHEARD) for name in sorted(config.enrichment_services)},
    }
    away = [name for name, check in details.items() if not _fine(check)]
    # A service may answer again before its stage has tried it.
    pausing = [
        f"{row.service} answers, but {', '.join(row.paused_stages)} still pauses"
        for row in states
        if row.paused_stages and row.service in details and row.service not in away
    ]
    if not away and not pausing:
        return ServiceHealth(status="healthy", message="all models answer", details=details)
    told = "; ".join([f"{name}: {details[name].message}" for name in away] + pausing)
    return ServiceHealth(status="degraded", message=told, details=details)


def _live_feed(services: ApiServices) -> ServiceHealth:
    if (error := services.broadcaster.error) is not None:
        return ServiceHealth(status="degraded", message=f"waits for the log: {error}")
    return ServiceHealth(status="healthy", message="follows the log")


def _processes(services: ApiServices) -> dict[str, ServiceHealth]:
    """Return whether everything runs that `hsi up` should run; nothing where none has told."""
    if not services.supervision.known.services:
        return {}
    if troubles := services.supervision.troubles():
        return {"processes": ServiceHealth(status="degraded", message="; ".join(troubles))}
    return {"processes": ServiceHealth(status="healthy", message="every role runs")}


def stage_backlog(services: ApiServices, group: GroupBacklog, now: datetime) -> StageBacklog:
    """Return what a stage still has to do, whether it pauses, and when it will be done."""
    needs = STAGE_NEEDS.get(group.group)
    closed = services.states.gate(needs, group.group) if needs else None
    rate = services.rates.of(group.group)
    seconds = clears_in(group.left, rate, paused=closed is True)
    return StageBacklog(
        stage=group.group,
        pending=group.lag,
        processing=group.pending,
        oldest_seconds=None
        if group.oldest_ms is None
        else round(max(0.0, now.timestamp() - group.oldest_ms / 1000), 3),
        gate=None if closed is None else "closed" if closed else "open",
        waits_for=needs if closed else None,
        handled_per_second=_rounded(rate.handled_per_second),
        clears_in_seconds=_rounded(seconds),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


async def watch_rates(services: ApiServices) -> None:
    """Look at the backlog every few seconds, for ever: rates are measured, never guessed."""
    while True:
        with suppress(TransientError):
            services.rates.see(time.monotonic(), await services.log.backlog())
        await asyncio.sleep(LOOK_SECONDS)


async def _lags(services: ApiServices, ends: Ends) -> list[ProjectionLag]:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            names = await services.queries.projections()
            found = [(name, await services.queries.checkpoint(name)) for name in names]
    except (TransientError, TimeoutError):
        return []
    return [
        _lag(name, {key: ends.get(key, START) for key in checkpoint}, dict(checkpoint))
        for name, checkpoint in found
    ]


def _lag(name: str, ends: Ends, checkpoint: Ends) -> ProjectionLag:
    late = [key for key, end in ends.items() if end > checkpoint[key]]
    # By Redis' own clock: how much log time lies between the read model and the log's end.
    span = max((ends[key].ms - checkpoint[key].ms for key in late), default=0)
    return ProjectionLag(
        projection=name,
        lag_seconds=span / 1000,
        behind=[f"{stream}/{partition}" for stream, partition in late],
    )
