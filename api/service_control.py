"""Routes of the services: how each is, and control of those that `hsi up` runs.

A request becomes an event that the supervisor carries out; the answer waits for its word.
"""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web

from api.access import actor_of
from api.commands import command_id
from api.health import check_health
from api.problems import ProblemError
from api.routing import Routes
from api.schemas import HealthAnswer, ServiceHealth
from api.services import SERVICES, ApiServices, answer
from domain.events import SYSTEM, ServiceAction, ServiceControlRequested
from streams.envelope import NewEvent
from streams.supervised import Word

routes = Routes("system")

Category = Literal["infrastructure", "ai", "monitoring"]

_NAMES: Final = {
    "database": "PostgreSQL",
    "redis": "Redis",
    "detector": "Object detector",
    "risk_model": "Language model",
    "florence": "Florence-2",
    "clip": "CLIP",
    "enrichment": "Enrichment",
    "live_feed": "Live feed",
    "watch": "Camera folders",
    "detect": "Detection",
    "batch": "Batching",
    "assess": "Assessment by rules",
    "refine": "Assessment by the language model",
    "enrich": "Optional services",
    "scene": "Scene changes",
    "notify": "Notifications",
    "trial": "Trials of candidates",
    "monitor": "GPU readings",
    "project": "Read models",
    "retention": "Retention",
    "api": "API",
    "llm": "Embedded language model",
    "demo": "Demo camera",
}
_CATEGORIES: Final[dict[str, Category]] = {
    **dict.fromkeys(("detect", "assess", "refine", "enrich", "trial", "llm"), "ai"),
    "monitor": "monitoring",
}
_NOT_OURS: Final = {
    "supervisor": "the supervisor itself would be gone: end or start `hsi up` where it runs",
    "database": "PostgreSQL holds the read models: it is started and stopped where it runs,"
    " or with `hsi up`, whose embedded one comes back by itself",
    "redis": "Redis holds the log, through which these requests come: it is started and stopped"
    " where it runs, or with `hsi up`, whose embedded one comes back by itself",
    "live_feed": "the live feed is a part of the API",
}
_NOT_SUPERVISED: Final = "no `hsi up` runs it: it is started and stopped where it runs"
_WANTED: Final[dict[ServiceAction, frozenset[str]]] = {
    "restart": frozenset({"running"}),
    "start": frozenset({"running"}),
    "stop": frozenset({"stopped", "disabled"}),
    "enable": frozenset({"running"}),
    "disable": frozenset({"disabled"}),
}
"""Action → states in which what was asked for is so."""

_PROBLEMS: Final = (
    "service_not_found",
    "service_not_supervised",
    "service_disabled",
    "service_failed",
    "service_action_failed",
    "supervisor_silent",
)


class ServicesQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/system/services."""

    category: Category | None = None


class ServiceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A service that the installation uses, as it was last heard of."""

    name: str
    display_name: str
    category: Category
    status: Literal[
        "healthy",
        "degraded",
        "unhealthy",
        "waiting",
        "unknown",
        "off",
        "starting",
        "running",
        "stopped",
        "disabled",
        "failed",
    ]
    """The last five are of services that `hsi up` runs."""
    enabled: bool
    message: str
    since: datetime | None
    paused_stages: list[str]
    """Stages that wait because of it."""
    controllable: bool = False
    """Whether it can be restarted, started, stopped, enabled and disabled here."""
    process: str | None = None
    """The process that it runs in; services that share one are restarted together."""
    failure_count: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How often it ended unasked, on end."""
    restart_count: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Since `hsi up` began, asked for or not."""
    last_restart_at: datetime | None = None
    uptime_seconds: float | None = None
    """Null: it does not run, or nobody here knows since when."""


class ServicesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/system/services."""

    services: list[ServiceAnswer]
    by_category: dict[Category, int]
    count: int


class ServiceDone(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of a service is done."""

    success: bool
    message: str
    service: ServiceAnswer


@routes.get("/api/system/services", ServicesAnswer)
async def services_list(request: web.Request, query: ServicesQuery) -> web.Response:
    """Answer every service that this installation uses, and how it is."""
    services = request.app[SERVICES]
    health = await check_health(services)
    return answer(services_answer(services, health, query.category))


def services_answer(
    services: ApiServices, health: HealthAnswer, category: Category | None = None
) -> ServicesAnswer:
    """Return every service, or those of a category."""
    found = [*_used(services, health), *_supervised(services)]
    found = [each for each in found if category in (None, each.category)]
    counts: dict[Category, int] = defaultdict(int)
    for each in found:
        counts[each.category] += 1
    return ServicesAnswer(services=found, by_category=dict(counts), count=len(found))


def _used(services: ApiServices, health: HealthAnswer) -> list[ServiceAnswer]:
    kinds: list[tuple[str, Category, ServiceHealth]] = [
        ("database", "infrastructure", health.services["database"]),
        ("redis", "infrastructure", health.services["redis"]),
        *((name, "ai", check) for name, check in (health.services["ai"].details or {}).items()),
        ("live_feed", "monitoring", health.services["live_feed"]),
    ]
    return [_service(services, *kind) for kind in kinds]


def _service(
    services: ApiServices, name: str, category: Category, check: ServiceHealth
) -> ServiceAnswer:
    row = services.states.row(name)
    return ServiceAnswer(
        name=name,
        display_name=_NAMES.get(name, name),
        category=category,
        status=check.status,
        enabled=check.status != "off",
        message=check.message,
        since=check.since,
        paused_stages=[] if row is None else list(row.paused_stages or []),
    )


def _supervised(services: ApiServices) -> list[ServiceAnswer]:
    words = services.supervision.known.services
    return [_of_word(name, word) for name, word in words.items()]


def _of_word(name: str, word: Word) -> ServiceAnswer:
    facts = word.facts
    up = None
    if facts.started_at is not None:
        up = max(0.0, round((datetime.now(UTC) - facts.started_at).total_seconds(), 3))
    return ServiceAnswer(
        name=name,
        display_name=_NAMES.get(name, name),
        category=_CATEGORIES.get(name, "infrastructure"),
        status=word.status,
        enabled=facts.enabled,
        message=word.message,
        since=word.changed_at,
        paused_stages=[],
        controllable=not facts.fixed,
        process=facts.process,
        failure_count=facts.failure_count,
        restart_count=facts.restart_count,
        last_restart_at=facts.last_restart_at,
        uptime_seconds=up,
    )


# --- control --------------------------------------------------------------------------------


@routes.post("/api/system/services/{name}/restart", ServiceDone, role="admin", problems=_PROBLEMS)
async def restart_service(request: web.Request) -> web.StreamResponse:
    """Drain a service's process and start it again.

    Services that share the process are restarted with it; what they had in hand is not lost.
    """
    return await _ask(request, "restart")


@routes.post("/api/system/services/{name}/start", ServiceDone, role="admin", problems=_PROBLEMS)
async def start_service(request: web.Request) -> web.StreamResponse:
    """Start a service that was stopped; a disabled or failed one has to be enabled."""
    return await _ask(request, "start")


@routes.post("/api/system/services/{name}/stop", ServiceDone, role="admin", problems=_PROBLEMS)
async def stop_service(request: web.Request) -> web.StreamResponse:
    """Drain and stop a service until somebody starts it, or until the next `hsi up`.

    Its work waits in the log meanwhile.
    """
    return await _ask(request, "stop")


@routes.post("/api/system/services/{name}/enable", ServiceDone, role="admin", problems=_PROBLEMS)
async def enable_service(request: web.Request) -> web.StreamResponse:
    """Start a service that is disabled, or that failed too often, and count its failures anew."""
    return await _ask(request, "enable")


@routes.post("/api/system/services/{name}/disable", ServiceDone, role="admin", problems=_PROBLEMS)
async def disable_service(request: web.Request) -> web.StreamResponse:
    """Drain and stop a service until somebody enables it; the next `hsi up` starts it neither."""
    return await _ask(request, "disable")


async def _ask(request: web.Request, action: ServiceAction) -> web.StreamResponse:
    services = request.app[SERVICES]
    name = request.match_info["name"]
    _check(services, name, action)
    event = ServiceControlRequested(
        camera_id=SYSTEM,
        service=name,
        action=action,
        actor=actor_of(request),
        requested_at=datetime.now(UTC),
    )
    new_id, _ = command_id(request)
    with services.supervision.answer_to(new_id, name) as answered:
        await services.log.append(NewEvent(id=new_id, event=event, correlation_id=new_id))
        word = await _word(answered, services.config.service_wait_seconds, name, action)
    if word.status not in _WANTED[action]:
        raise ProblemError(
            "service_action_failed",
            f"{name} is {word.status} after the {action}: {word.message}",
        )
    return answer(
        ServiceDone(success=True, message=f"{name} is {word.status}", service=_of_word(name, word))
    )


async def _word(
    answered: asyncio.Future[Word], seconds: float, name: str, action: ServiceAction
) -> Word:
    try:
        async with asyncio.timeout(seconds):
            return await answered
    except TimeoutError as error:
        raise ProblemError(
            "supervisor_silent",
            f"the supervisor did not say within {seconds:g} s what came of the {action} of {name}:"
            " is `hsi up` running? GET /api/system/services tells how it goes on",
        ) from error


def _check(services: ApiServices, name: str, action: ServiceAction) -> None:
    """Raise ProblemError for what cannot be done."""
    word = services.supervision.word(name)
    if word is None:
        if name not in _NAMES and name not in _NOT_OURS:
            raise ProblemError("service_not_found", f"there is no service {name!r}")
        why = _NOT_OURS.get(name, _NOT_SUPERVISED)
        raise ProblemError("service_not_supervised", f"{name} cannot be controlled: {why}")
    if word.facts.fixed:
        raise ProblemError(
            "service_not_supervised", f"{name} cannot be controlled: {word.facts.fixed}"
        )
    if not word.facts.enabled and action in ("restart", "start", "stop"):
        raise ProblemError(
            "service_disabled", f"{name} was disabled by {word.facts.by}: enable it first"
        )
    if word.status == "failed" and action in ("restart", "start"):
        raise ProblemError("service_failed", f"{name} has failed ({word.message}): enable it")
