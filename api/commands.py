"""A command becomes an event; its answer waits until the read model shows it.

With an `Idempotency-Key` header the event's id follows from the request, so sending a request
again (say, after a lost answer) has no second effect.
"""

from http import HTTPStatus
from uuid import uuid4

from aiohttp import web

from api.idempotency import key_of
from api.problems import ProblemError
from api.schemas import Recorded
from api.services import SERVICES, ApiServices, answer
from domain.errors import TransientError
from domain.events import Event
from domain.ids import follow_up_id
from streams.envelope import START, Envelope, NewEvent, Position

WAIT_SECONDS = 5.0
_READ_RUN = 500


def command_id(request: web.Request) -> tuple[str, bool]:
    """Return the id of the event that this request appends, and whether the client chose it."""
    given = key_of(request)
    if given is None:
        return f"cmd_{uuid4().hex}", False
    return follow_up_id(f"{request.method} {request.path} {given}", "command"), True


async def record(
    request: web.Request, event: Event, projection: str, *, event_id: str | None = None
) -> bool:
    """Append `event` and wait for `projection`; False when that does not show it in time.

    With an `event_id` what was appended under that id before counts, whoever asked for it.
    """
    services = request.app[SERVICES]
    new_id, chosen = command_id(request) if event_id is None else (event_id, False)
    new = NewEvent(id=new_id, event=event, correlation_id=new_id)
    position = await services.log.append(new)
    if chosen:
        await _check_same(services, event, position)
    return await _visible(services, event, position, projection)


async def _check_same(services: ApiServices, event: Event, position: Position) -> None:
    """Refuse a key that stands for another event than this one."""
    partition = services.log.partition_of(event.camera_id)
    before = Position(position.ms, position.seq - 1)
    if position.seq == 0:
        before = Position(position.ms - 1, 2**64 - 2)
    recorded = await services.log.read(event.STREAM, partition, before, 1)
    if recorded and recorded[0].position == position and recorded[0].event != event:
        raise _reused()


def _reused() -> ProblemError:
    return ProblemError(
        "idempotency_key_reused",
        "this Idempotency-Key was used for a request with another body; take a new one",
    )


async def recorded_before(request: web.Request, event: Event) -> Envelope | None:
    """Return what an earlier request with this request's key has appended, if there was one."""
    new_id, chosen = command_id(request)
    if not chosen:
        return None
    log = request.app[SERVICES].log
    partition = log.partition_of(event.camera_id)
    after = START
    while run := await log.read(event.STREAM, partition, after, _READ_RUN):
        for envelope in run:
            if envelope.id == new_id:
                if envelope.event != event:
                    raise _reused()
                return envelope
        after = run[-1].position
    return None


async def _visible(
    services: ApiServices, event: Event, position: Position, projection: str
) -> bool:
    partition = services.log.partition_of(event.camera_id)
    try:
        return await services.queries.wait_for(
            projection, event.STREAM, partition, position, WAIT_SECONDS
        )
    except TransientError:
        # The event stands in the log: the command is done, only its view is late.
        return False


def recorded_answer(location: str) -> web.Response:
    """Return 202: the command is in the log, its effect will show at `location`."""
    body = Recorded(
        status="recorded",
        message=f"recorded, but not shown within {WAIT_SECONDS:g} s; ask {location} again",
        location=location,
    )
    return answer(body, status=HTTPStatus.ACCEPTED, headers={"Location": location})
