"""Routes of the models: which one does what, where it runs, and what it last said to be."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import msgspec
from aiohttp import web

from api.health import known_checks, learn_states
from api.problems import ProblemError
from api.routing import Routes
from api.schemas import ServiceHealth
from api.services import SERVICES, ApiServices, answer
from inference.trust import login_of
from inference.weights import CATALOGUE, read_manifest

routes = Routes("system")

ModelTask = Literal[
    "object_detection", "risk_assessment", "captions", "re_identification", "attributes"
]


@dataclass(frozen=True, slots=True)
class _Kind:
    title: str
    task: ModelTask


_MODELS: Final = {
    "detector": _Kind("Object detector", "object_detection"),
    "risk_model": _Kind("Language model", "risk_assessment"),
    "florence": _Kind("Florence-2", "captions"),
    "clip": _Kind("CLIP", "re_identification"),
    "enrichment": _Kind("Enrichment", "attributes"),
}
"""Service → what it is for, in the order in which they are listed."""

_OFF: Final = ServiceHealth(status="off", message="not configured: nothing asks for it")


class ModelAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One model that the installation uses, or could; null is what nobody has told."""

    name: str
    """The service: detector, risk_model, florence, clip, enrichment."""
    display_name: str
    task: ModelTask
    where: Literal["embedded", "service", "none"]
    """embedded: in a process of `hsi up`; service: at `url`; none: not configured."""
    url: str | None
    model: str | None
    """What it called itself when it last answered a check, like the three that follow."""
    version: str | None
    engine: str | None
    fallback: bool | None
    """True: the weaker detector that stands in where no model hub can be reached."""
    loaded: bool | None
    """Whether it answered the last check; null: no process has told yet, or it is off."""
    status: Literal["healthy", "degraded", "unhealthy", "waiting", "unknown", "off"]
    message: str
    since: datetime | None
    sha256: str | None
    """Of the model's file, for an embedded one that came with a manifest."""


class ModelsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/system/models."""

    models: list[ModelAnswer]
    count: int


@routes.get("/api/system/models", ModelsAnswer)
async def list_models(request: web.Request) -> web.Response:
    """Answer which model does what, where it runs, and whether it answers."""
    services = request.app[SERVICES]
    await learn_states(services)
    found = [await _model(services, name) for name in _MODELS]
    return answer(ModelsAnswer(models=found, count=len(found)))


@routes.get("/api/system/models/{name}", ModelAnswer, problems=["model_not_found"])
async def get_model(request: web.Request) -> web.Response:
    """Answer one model."""
    name = request.match_info["name"]
    if name not in _MODELS:
        raise ProblemError(
            "model_not_found",
            f"there is no model {name[:80]!r}; there are {', '.join(_MODELS)}",
        )
    await learn_states(request.app[SERVICES])
    return answer(await _model(request.app[SERVICES], name))


async def _model(services: ApiServices, name: str) -> ModelAnswer:
    check = (known_checks(services)["ai"].details or {}).get(name, _OFF)
    row = services.states.row(name)
    facts = None if row is None else row.model
    where = _where(services, name, check)
    sha256 = None if facts is None else facts.sha256
    if where == "embedded" and name == "risk_model":
        sha256 = await asyncio.to_thread(_embedded_sha256, services)
    return ModelAnswer(
        name=name,
        display_name=_MODELS[name].title,
        task=_MODELS[name].task,
        where=where,
        url=_shown(services.config.model_urls.get(name)) if where == "service" else None,
        model=None if facts is None else facts.model,
        version=None if facts is None else facts.version,
        engine=None if facts is None else facts.engine,
        fallback=None if facts is None else facts.fallback,
        loaded=None if check.status in ("off", "unknown") else check.status == "healthy",
        status=check.status,
        message=check.message,
        since=check.since,
        sha256=sha256,
    )


def _where(
    services: ApiServices, name: str, check: ServiceHealth
) -> Literal["embedded", "service", "none"]:
    if check.status == "off":
        return "none"
    # The supervisor names its own language model to all processes by a URL, like any other.
    own = services.supervision.word("llm") if name == "risk_model" else None
    if (own is not None and not own.facts.fixed) or name not in services.config.model_urls:
        return "embedded"
    return "service"


def _embedded_sha256(services: ApiServices) -> str | None:
    artefact = CATALOGUE.get(services.config.embedded_llm_model)
    if artefact is None or services.config.models_dir is None:
        return None
    manifest = read_manifest(artefact, services.config.models_dir)
    return None if manifest is None else manifest.sha256


def _shown(url: str | None) -> str | None:
    """Return a URL without a login."""
    return None if url is None else login_of(url)[0]
