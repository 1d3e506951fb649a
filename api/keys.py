"""Routes of named keys: listed, made, revoked."""

from datetime import UTC, datetime
from http import HTTPStatus
from uuid import uuid4

from aiohttp import web

from api.access import actor_of
from api.access_keys import MOST_KEYS, Key, digest_of, new_key
from api.access_schemas import KeyAnswer, KeyCreate, KeysAnswer, NewKeyAnswer
from api.idempotency import NOT_KEPT
from api.parse import path_id
from api.problems import ProblemError
from api.routing import Routes
from api.services import SERVICES, ApiServices, answer
from domain.events import SYSTEM, ApiKeyCreated, ApiKeyRevoked, Event
from streams.envelope import NewEvent

routes = Routes("access")


@routes.get("/api/keys", KeysAnswer, role="admin")
async def list_keys(request: web.Request) -> web.Response:
    """Answer the keys that count; a key itself is never told again."""
    keys = [_key_answer(key) for key in request.app[SERVICES].keys.all()]
    return answer(KeysAnswer(keys=keys, count=len(keys)))


@routes.post(
    "/api/keys", {201: NewKeyAnswer}, role="admin", problems=["key_exists", "too_many_keys"]
)
async def create_key(request: web.Request, body: KeyCreate) -> web.Response:
    """Make a key; it counts at once here, and within moments on other processes of the API."""
    services = request.app[SERVICES]
    known = services.keys.all()
    if any(key.name == body.name for key in known):
        raise ProblemError("key_exists", f"{body.name!r} is the name of a key: revoke it first")
    if len(known) >= MOST_KEYS:
        raise ProblemError("too_many_keys", f"there are {MOST_KEYS} keys: revoke some first")
    key_id, text = new_key()
    made = ApiKeyCreated(
        camera_id=SYSTEM,
        key_id=key_id,
        name=body.name,
        role=body.role,
        sha256=digest_of(text).hex(),
        cameras=None if body.cameras is None else tuple(sorted(set(body.cameras))),
        actor=actor_of(request),
        created_at=datetime.now(UTC),
    )
    await _append(services, made)
    response = answer(
        NewKeyAnswer(
            id=key_id,
            name=made.name,
            role=made.role,
            cameras=None if made.cameras is None else list(made.cameras),
            created_by=made.actor,
            created_at=made.created_at,
            key=text,
        ),
        status=HTTPStatus.CREATED,
        headers={"Location": f"/api/keys/{key_id}"},
    )
    response[NOT_KEPT] = True
    return response


@routes.get("/api/keys/{id}", KeyAnswer, role="admin", problems=["key_not_found"])
async def get_key(request: web.Request) -> web.Response:
    """Answer one key that counts."""
    return answer(_key_answer(_key(request)))


@routes.delete(
    "/api/keys/{id}", {204: None}, role="admin", problems=["key_not_found", "key_is_a_setting"]
)
async def revoke_key(request: web.Request) -> web.Response:
    """Revoke a key; its sessions end with it."""
    key = _key(request)
    if key.created_by is None:
        raise ProblemError(
            "key_is_a_setting", f"{key.name} stands in API_KEYS: take it out there and restart"
        )
    event = ApiKeyRevoked(
        camera_id=SYSTEM, key_id=key.id, actor=actor_of(request), revoked_at=datetime.now(UTC)
    )
    await _append(request.app[SERVICES], event)
    return web.Response(status=HTTPStatus.NO_CONTENT)


def _key(request: web.Request) -> Key:
    wanted = path_id(request, "key_not_found")
    key = request.app[SERVICES].keys.get(wanted)
    if key is None:
        raise ProblemError("key_not_found", f"there is no key {wanted!r} that counts")
    return key


async def _append(services: ApiServices, event: Event) -> None:
    """Append what became of a key, and let it count here before the log is read back."""
    new_id = f"cmd_{uuid4().hex}"
    await services.log.append(NewEvent(id=new_id, event=event, correlation_id=new_id))
    services.keys.fold(event)


def _key_answer(key: Key) -> KeyAnswer:
    return KeyAnswer(
        id=key.id,
        name=key.name,
        role=key.role,
        cameras=None if key.cameras is None else sorted(key.cameras),
        created_by=key.created_by,
        created_at=key.created_at,
    )
