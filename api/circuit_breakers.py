"""Routes of the circuit breakers: which stages wait for a service, and trying one again now.

The breaker of a stage is its gate, in the process that runs the stage. A reset is an event which
that process hears; the answer waits for its word.
"""

import asyncio
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec
from aiohttp import web

from api.access import actor_of
from api.commands import command_id
from api.health import STAGE_NEEDS, check_health, learn_states
from api.problems import ProblemError
from api.routing import Routes
from api.schemas import HealthAnswer, StageBacklog
from api.services import SERVICES, ApiServices, answer
from domain.events import SYSTEM, BreakerReset, BreakerResetRequested, BreakerTried
from streams.envelope import NewEvent

routes = Routes("system")


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


class BreakerResetDone(msgspec.Struct, frozen=True, kw_only=True):
    """A breaker was reset by the process that holds it."""

    success: bool
    """False: the service was tried and is still away; waits begin anew."""
    message: str
    tried: BreakerTried
    """What came of the try; `pending`: no answer within 5 s."""
    process: str
    """Which consumer of the stage answered first."""
    circuit_breaker: CircuitBreaker


@routes.get("/api/system/circuit-breakers", CircuitBreakersAnswer)
async def circuit_breakers(request: web.Request) -> web.Response:
    """Answer which stages let work through.

    A stage tries its service by itself and goes on when that answers.
    """
    services = request.app[SERVICES]
    found = _breakers(services, await check_health(services))
    opened = sum(each.state == "open" for each in found)
    return answer(
        CircuitBreakersAnswer(circuit_breakers=found, total_count=len(found), open_count=opened)
    )


def _breakers(services: ApiServices, health: HealthAnswer) -> list[CircuitBreaker]:
    return [
        _breaker(services, stage, service)
        for stage in health.stages
        if (service := STAGE_NEEDS.get(stage.stage)) is not None
    ]


def _breaker(services: ApiServices, stage: StageBacklog, service: str) -> CircuitBreaker:
    row = services.states.row(service)
    state: Literal["closed", "open", "unknown"] = "unknown"
    if stage.gate is not None:
        state = "closed" if stage.gate == "open" else "open"
    return CircuitBreaker(
        name=stage.stage,
        service=service,
        state=state,
        message="nobody has reported on it yet" if row is None else row.message,
        since=None if row is None else row.changed_at,
        waiting=stage.pending + stage.processing,
    )


_SAID: Final[dict[BreakerTried, str]] = {
    "passed": "{name} was reset: {service} answers, work goes on",
    "failed": "{name} was reset and tried at once: {service} is still away; waits begin anew",
    "pending": "{name} was reset: {service} is tried, without an answer yet",
    "was_closed": "{name} lets work through: there was nothing to reset",
}


@routes.post(
    "/api/system/circuit-breakers/{name}/reset",
    BreakerResetDone,
    role="admin",
    problems=("circuit_breaker_not_found", "stage_not_heard_of", "stage_silent"),
)
async def reset_circuit_breaker(request: web.Request) -> web.StreamResponse:
    """Let a stage that waits for its service try it now, and begin its waits anew.

    The process that holds the breaker does it; the answer waits until that says what came of it.
    """
    services = request.app[SERVICES]
    name = request.match_info["name"]
    await learn_states(services)
    service = _service_of(services, name)
    event = BreakerResetRequested(
        camera_id=SYSTEM, stage=name, actor=actor_of(request), requested_at=datetime.now(UTC)
    )
    new_id, _ = command_id(request)
    with services.breakers.answer_to(new_id, name) as answered:
        await services.log.append(NewEvent(id=new_id, event=event, correlation_id=new_id))
        word = await _word(answered, services.config.breaker_wait_seconds, name)
    found = _breakers(services, await check_health(services))
    return answer(
        BreakerResetDone(
            success=word.tried != "failed",
            message=_SAID[word.tried].format(name=name, service=service),
            tried=word.tried,
            process=word.process,
            circuit_breaker=next(each for each in found if each.name == name),
        )
    )


def _service_of(services: ApiServices, name: str) -> str:
    """Return what a stage waits for; raises ProblemError for a stage that nobody can reset."""
    service = STAGE_NEEDS.get(name)
    if service is None:
        raise ProblemError(
            "circuit_breaker_not_found",
            f"there is no circuit breaker {name[:80]!r}; there are {', '.join(STAGE_NEEDS)}",
        )
    if services.states.gate(service, name) is None:
        raise ProblemError(
            "stage_not_heard_of",
            f"no process has told of the stage {name} yet: is its role running?",
        )
    return service


async def _word(answered: asyncio.Future[BreakerReset], seconds: float, name: str) -> BreakerReset:
    try:
        async with asyncio.timeout(seconds):
            return await answered
    except TimeoutError as error:
        raise ProblemError(
            "stage_silent",
            f"no process of the stage {name} answered within {seconds:g} s: does its role run?"
            " GET /api/system/services tells",
        ) from error
