"""What the handlers work with: opened collaborators and plain values, under one app key."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from aiohttp import web

from api.access_keys import KeyRing
from api.breaker_words import BreakerWords
from api.broadcast import Broadcaster
from api.clip_maker import ClipMaker
from api.gpu_history import GpuHistory
from api.limits_config import RateLimitConfig
from api.rates import Rates
from api.states import ServiceStates
from api.supervision import Supervision
from api.thumbnails import PictureRenderer
from domain.lateness import LATE_AFTER_SECONDS
from domain.risk import Bands
from projections.queries import Queries
from projections.retention import Retention
from runtime.settings import Settings
from streams.live_settings import LiveSettings
from streams.log import EventLog


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiConfig:
    """Values from the settings that the API needs."""

    app_name: str
    app_version: str
    base_folder: Path
    debug: bool = False
    cors_origins: tuple[str, ...] = ()
    gpu_poll_interval_seconds: float = 5.0
    gpu_stats_history_minutes: int = 60
    late_after_seconds: float = LATE_AFTER_SECONDS
    archive_dir: Path | None = None
    """Where the archive of the log lies; None reads the log alone."""
    risk_model_expected: bool = True
    """False when events are scored by the rules alone on purpose."""
    enrichment_services: frozenset[str] = frozenset()
    """Optional services that are configured: florence, clip, enrichment."""
    bands: Bands = field(default_factory=Bands)
    """Which scores make which level."""
    frames_dir: Path | None = None
    """Where frames taken out of videos lie."""
    time_zone: str = "UTC"
    """Whose days are counted, unless a client asks for another's."""
    api_key_enabled: bool = False
    strict_transport: bool = False
    """Whether the port shows a certificate that browsers can hold us to."""
    rate_limits: RateLimitConfig | None = None
    """None: nobody calls too often."""
    service_wait_seconds: float = 45.0
    """How long a request to start or stop a service waits for the supervisor's word."""
    breaker_wait_seconds: float = 10.0
    """How long a request to reset a breaker waits for a word of its stage."""
    model_urls: Mapping[str, str] = field(default_factory=dict)
    """Model's service → its URL, for those that are no part of `hsi up`."""
    models_dir: Path | None = None
    """Where model files lie; None: not on this machine."""
    embedded_llm_model: str = ""
    """Which language model `hsi up` runs where it runs one."""
    trusted_proxies: tuple[str, ...] = ()
    traces: bool = False
    """Whether traces are sent somewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServices:
    """Everything a handler may use; opened and closed by the composition root."""

    config: ApiConfig
    log: EventLog
    queries: Queries
    pictures: PictureRenderer
    broadcaster: Broadcaster
    gpu: GpuHistory
    retention: Retention
    clips: ClipMaker
    states: ServiceStates = field(default_factory=ServiceStates)
    """Hears the log's tail, so that it knows how services are while PostgreSQL is away."""
    supervision: Supervision = field(default_factory=Supervision)
    """Hears the log's tail, too."""
    breakers: BreakerWords = field(default_factory=BreakerWords)
    """Hears the log's tail, too."""
    live: LiveSettings = field(default_factory=lambda: LiveSettings(Settings()))
    """The settings that may change while everything runs; hears the log's tail, too."""
    keys: KeyRing = field(default_factory=KeyRing)
    """Hears the log's tail, too: keys count while PostgreSQL is away."""
    rates: Rates = field(default_factory=Rates)
    started: float = field(default_factory=time.monotonic)
    folder_locks: dict[str, asyncio.Lock] = field(
        default_factory=lambda: defaultdict(asyncio.Lock)
    )
    """One a camera id: two requests must not register the same folder at once."""

    @property
    def uptime_seconds(self) -> float:
        """Return how long this process has been serving."""
        return round(time.monotonic() - self.started, 3)


SERVICES = web.AppKey("services", ApiServices)

_encoder = msgspec.json.Encoder()


def answer(
    body: msgspec.Struct, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Return `body` as JSON."""
    return web.Response(
        body=_encoder.encode(body),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )
