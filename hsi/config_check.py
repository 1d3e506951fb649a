"""`hsi config --check`: asks everything that the settings name whether it answers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Literal

from domain.errors import HsiError
from runtime.masking import Masker, mask_urls
from runtime.settings import Settings

Status = Literal["answers", "embedded", "off", "fails"]


@dataclass(frozen=True, slots=True)
class Probe:
    """What one service said."""

    service: str
    setting: str
    address: str
    status: Status
    message: str
    milliseconds: float | None = None


@dataclass(frozen=True, slots=True)
class _Service:
    name: str
    setting: str
    url: str | None
    ask: Callable[[], Awaitable[str]]
    unset: tuple[Status, str]
    """What it means that the setting is not given."""


def check(settings: Settings) -> list[Probe]:
    """Ask Redis, PostgreSQL, the detector, the language model, optional services, candidates."""
    return asyncio.run(_check(settings))


async def _check(settings: Settings) -> list[Probe]:
    mask = Masker(settings.secrets)
    return list(await asyncio.gather(*(_probe(each, mask) for each in _services(settings))))


async def _probe(service: _Service, mask: Masker) -> Probe:
    if service.url is None:
        return Probe(service.name, service.setting, "", *service.unset)
    began = time.perf_counter()
    status: Status = "answers"
    try:
        message = await service.ask()
    except HsiError as error:
        status, message = "fails", str(error)
    took = round((time.perf_counter() - began) * 1000, 1)
    address = mask(mask_urls(service.url))
    return Probe(service.name, service.setting, address, status, mask(message), took)


def _services(settings: Settings) -> list[_Service]:
    s = settings
    by_up: tuple[Status, str] = ("embedded", "`hsi up` starts one")
    rules: tuple[Status, str] = ("off", "EMBEDDED_LLM=off: the rules score alone")
    services = [
        _Service("redis", "REDIS_URL", s.redis_url, lambda: _redis(s), by_up),
        _Service("postgres", "DATABASE_URL", s.database_url, lambda: _postgres(s), by_up),
        _Service(
            "detector",
            "RTDETR_URL",
            s.rtdetr_url,
            lambda: _detector(s, s.rtdetr_url),
            _detector_unset(s),
        ),
        _Service(
            "language model",
            "NEMOTRON_URL",
            s.nemotron_url,
            lambda: _language_model(s, s.nemotron_url or ""),
            by_up if s.embedded_llm else rules,
        ),
    ]
    optional = (_optional(s, name) for name in ("florence", "clip", "enrichment"))
    return [*services, *optional, *_candidates(s)]


def _candidates(settings: Settings) -> list[_Service]:
    """Return the candidates on trial, where there are any."""
    s = settings
    model_url, prompt = s.candidate_nemotron_url or "", s.candidate_prompt
    asks: list[tuple[str, str, str | None, Callable[[], Awaitable[str]]]] = [
        (
            "candidate detector",
            "CANDIDATE_RTDETR_URL",
            s.candidate_rtdetr_url,
            lambda: _detector(s, s.candidate_rtdetr_url),
        ),
        (
            "candidate model",
            "CANDIDATE_NEMOTRON_URL",
            s.candidate_nemotron_url,
            lambda: _language_model(s, model_url),
        ),
        ("candidate prompt", "CANDIDATE_PROMPT", prompt, lambda: _candidate_prompt(prompt)),
    ]
    unset: tuple[Status, str] = ("off", "no trial")
    return [_Service(name, setting, url, ask, unset) for name, setting, url, ask in asks if url]


async def _candidate_prompt(named: str | None) -> str:
    from agents.trying_prompts import candidate_prompt

    prompt = candidate_prompt(named)
    return f"{prompt.version}, as its manifest pins it"


async def _redis(settings: Settings) -> str:
    from streams.connection import connect
    from streams.keeping import doubts

    secret = settings.redis_password
    client, cluster = await connect(
        settings.redis_url or "", password=secret.get_secret_value() if secret else None
    )
    try:
        server = await client.info("server")
        info = server if "redis_version" in server else next(iter(server.values()))
        doubted = await doubts(client)
    finally:
        await client.aclose()
    name, version = info.get("server_name", "redis"), info.get("valkey_version")
    kind = " cluster" if cluster else ""
    return "; ".join([f"{name}{kind} {version or info['redis_version']}", *doubted])


async def _postgres(settings: Settings) -> str:
    from projections.database import open_pool
    from projections.queries import Queries

    pool = await open_pool(settings.database_dsn or "", name="config-check", max_size=1)
    try:
        await Queries(pool).ping()
    finally:
        await pool.close()
    return "takes queries"


async def _detector(settings: Settings, url: str | None) -> str:
    from inference.detectors import DetectorOptions, open_detector

    options = DetectorOptions(
        models_dir=settings.models_dir,
        connect_timeout=settings.ai_connect_timeout,
        read_timeout=settings.rtdetr_read_timeout,
        health_timeout=settings.ai_health_timeout,
        ca_path=settings.ai_ca_path,
        repair=False,
    )
    detector = open_detector(url, options)
    try:
        identity = await detector.check()
    finally:
        await detector.close()
    return f"{identity.model} {identity.version} by {identity.engine}"


def _detector_unset(settings: Settings) -> tuple[Status, str]:
    from inference.weights import detector_in

    artefact = detector_in(settings.models_dir)
    if artefact is None:
        return "embedded", "its weights are fetched at the first start of `hsi up`"
    return "embedded", f"{artefact.title} in {settings.models_dir}"


async def _language_model(settings: Settings, url: str) -> str:
    from agents.asking import open_risk_model

    model = open_risk_model(settings, url)
    try:
        return await model.check()
    finally:
        await model.close()


def _optional(settings: Settings, name: str) -> _Service:
    url: Mapping[str, str] = settings.enrichment_urls

    async def ask() -> str:
        from agents.enriching import open_parts
        from inference.pictures import PictureStore

        store = PictureStore(settings.foscam_base_path, settings.state_dir / "frames")
        async with AsyncExitStack() as contexts:
            return (await open_parts(settings, store, contexts)[name].check()).line

    off: tuple[Status, str] = ("off", "optional; not configured")
    return _Service(name, f"{name.upper()}_URL", url.get(name), ask, off)
