"""All configuration: read once at the start, checked as a whole, frozen, and handed on as values.

Every variable keeps the name, default and range of the runtime configuration reference. Where
the reference gives no range the one below is ours. Relative paths count from the working
directory.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import (
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from runtime.layers import DEFAULT, Layers, read_layers
from runtime.masking import mask_urls, url_password
from runtime.settings_checks import (
    check_database_url,
    check_http_url,
    check_origins,
    check_redis_url,
    check_rtdetr_url,
    check_timezone,
    libpq_url,
    plain_http_warning,
    system_timezone,
)
from runtime.settings_report import SettingsError, problems
from runtime.settings_types import (
    EmbeddedModel,
    LogLevel,
    NemotronApi,
    Score,
    TextList,
    Unit,
    home,
    starts,
)

__all__ = ["NAMES", "PROJECT_ROOT", "Settings", "SettingsError", "load_settings"]

PROJECT_ROOT = Path(__file__).resolve().parent.parent
"""Holds migrations/, web/ and triton_models/ beside the rooms, in every way of installing."""

DEVELOPMENT_DATABASE_PASSWORD = "security_dev_password"  # noqa: S105 - the one to refuse


class Settings(BaseSettings):
    """The effective settings; build them with `load_settings` (in tests: `Settings(name=…)`)."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    production: bool = Field(
        default=False,
        json_schema_extra=starts("Application"),
        description="Refuse what is only fit for development: the known database password,"
        " the fall-back detector",
    )
    app_name: str = Field(default="Home Security Intelligence", description="Display name")
    app_version: str = Field(
        default="0.1.0", description="Version shown by health and `hsi version`"
    )
    debug: bool = Field(default=False, description="Show stack traces in errors")

    database_url: str | None = Field(
        default=None,
        json_schema_extra=starts("PostgreSQL"),
        description="postgresql://user:password@host:port/database (postgresql+asyncpg:// is"
        " accepted); unset: an embedded PostgreSQL",
    )
    redis_url: str | None = Field(
        default=None,
        json_schema_extra=starts("Redis"),
        description="redis://host:port/0, rediss:// or unix://; unset: an embedded Valkey",
    )
    redis_password: SecretStr | None = Field(
        default=None, description="Password for REDIS_URL, if it is not in the URL"
    )
    stream_partitions: int = Field(
        default=4, ge=1, le=64, description="Partitions of the log; fixed at the first start"
    )

    api_host: str = Field(
        default="0.0.0.0",  # noqa: S104 - the reference's default; `make run` says how to narrow it
        json_schema_extra=starts("API server"),
        description="Address to bind",
    )
    api_port: int = Field(
        default=8000,
        ge=0,
        le=65535,
        description="Port of REST and WebSocket; 0 takes any free one",
    )
    cors_origins: TextList = Field(
        default=("http://localhost:3000", "http://localhost:5173"),
        description="Origins that browsers may call from",
    )

    foscam_base_path: Path = Field(
        default=Path("/export/foscam"),
        json_schema_extra=starts("Camera folders"),
        description="Folder that holds one folder a camera",
    )
    file_watcher_polling: bool = Field(
        default=False,
        description="Poll instead of native events (network and Docker Desktop mounts)",
    )
    file_watcher_polling_interval: float = Field(
        default=1.0, ge=0.1, le=30, description="Seconds between two polls"
    )
    dedupe_ttl_seconds: int = Field(
        default=300,
        ge=60,
        le=3600,
        description="Seconds in which the same bytes count once a camera",
    )
    video_frame_interval_seconds: float = Field(
        default=2.0,
        ge=0.1,
        le=60,
        description="One picture is taken from a video every so many seconds",
    )
    video_max_frames: int = Field(
        default=30, ge=1, le=300, description="At most so many pictures from one video"
    )
    camera_timezone: str = Field(
        default_factory=system_timezone,
        description="IANA zone of the cameras' clocks, like Europe/Berlin; unset: this machine's"
        " zone, or UTC where it cannot be told",
    )

    rtdetr_url: str | None = Field(
        default=None,
        json_schema_extra=starts("Detector (RT-DETRv2)"),
        description="grpc://host:8001 is Triton, http://host:8090 a /detect service; unset: the"
        " embedded detector",
    )
    rtdetr_read_timeout: float = Field(
        default=60.0, ge=10, le=300, description="Seconds a detection may take"
    )
    detection_confidence_threshold: Unit = Field(
        default=0.5, description="Smallest score that is recorded as a detection"
    )
    ai_connect_timeout: float = Field(
        default=10.0, ge=1, le=60, description="Seconds to connect to a model's service"
    )
    ai_health_timeout: float = Field(
        default=5.0, ge=1, le=30, description="Seconds a model's health check may take"
    )
    model_hub_url: str = Field(
        default="https://huggingface.co",
        description="Model hub that `hsi models fetch` asks first",
    )
    hsi_models_dir: Path | None = Field(
        default=None,
        description="Folder for model files; unset: /var/cache/hsi/models for"
        " root, else ~/.cache/hsi/models",
    )

    nemotron_url: str | None = Field(
        default=None,
        json_schema_extra=starts("Language model (Nemotron through llama.cpp)"),
        description="http://host:8091 of a llama-server; unset: the embedded model",
    )
    nemotron_api: NemotronApi = Field(
        default="chat",
        description="chat uses the model's own template, completion Nemotron-Mini's",
    )
    nemotron_api_key: SecretStr | None = Field(default=None, description="API key of NEMOTRON_URL")
    nemotron_read_timeout: float = Field(
        default=120.0, ge=30, le=600, description="Seconds an answer may take"
    )
    embedded_llm: bool = Field(
        default=True,
        description="Run the embedded model when NEMOTRON_URL is unset; off: rules alone",
    )
    embedded_llm_model: EmbeddedModel = Field(
        default="qwen2.5-coder-1.5b", description="Which embedded model"
    )

    batch_window_seconds: int = Field(
        default=90,
        ge=1,
        le=3600,
        json_schema_extra=starts("Batches, fast path and risk"),
        description="Longest time from a batch's first picture to its last",
    )
    batch_idle_timeout_seconds: int = Field(
        default=30, ge=1, le=3600, description="A gap of more seconds closes the batch"
    )
    fast_path_confidence_threshold: Unit = Field(
        default=0.90, description="Score from which an object is assessed at once"
    )
    fast_path_object_types: TextList = Field(
        default=("person",), description="Objects that may be assessed at once"
    )
    severity_low_max: Score = Field(default=29, description="Highest score that is still low")
    severity_medium_max: Score = Field(
        default=59, description="Highest score that is still medium"
    )
    severity_high_max: Score = Field(default=84, description="Highest score that is still high")
    late_after_seconds: int = Field(
        default=300,
        ge=30,
        le=86_400,
        description="An event assessed so many seconds after its last picture is marked late",
    )

    gpu_poll_interval_seconds: float = Field(
        default=5.0,
        ge=1,
        le=60,
        json_schema_extra=starts("GPU monitoring"),
        description="Seconds between two readings",
    )
    gpu_stats_history_minutes: int = Field(
        default=60, ge=1, le=1440, description="Minutes of readings kept in memory"
    )

    retention_days: int = Field(
        default=30,
        ge=1,
        le=365,
        json_schema_extra=starts("Retention and archive"),
        description="Days that events, detections, pictures and GPU readings are kept",
    )
    archive_dir: Path | None = Field(
        default=None,
        description="Folder of the log's archive; unset: archive in HSI_STATE_DIR",
    )
    stream_keep_hours: int = Field(
        default=168,
        ge=1,
        le=8760,
        description="Hours that an archived entry stays in Redis all the same",
    )

    log_level: LogLevel = Field(
        default="INFO",
        json_schema_extra=starts("Logs"),
        description="Least level that is written",
    )
    log_file_path: Path = Field(
        default=Path("data/logs/security.log"),
        description="Rotating log file, one JSON line a record",
    )
    log_file_max_bytes: int = Field(
        default=10_485_760, ge=4096, le=2**40, description="Size from which the file is rotated"
    )
    log_file_backup_count: int = Field(
        default=7, ge=0, le=1000, description="Rotated files to keep"
    )

    hsi_state_dir: Path | None = Field(
        default=None,
        json_schema_extra=starts("Folders"),
        description="Where the embedded servers keep their data; unset: /var/lib/hsi for root,"
        " else ~/.local/state/hsi",
    )

    _sources: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values as arguments only: `load_settings` reads the layers and knows the places."""
        return (init_settings,)

    @classmethod
    def from_layers(cls, layers: Layers) -> "Settings":
        """Build the settings that the layers say, and remember where each value came from."""
        given = {n.lower(): f for n, f in layers.values.items() if n.lower() in cls.model_fields}
        settings = cls.model_validate({name: found.value for name, found in given.items()})
        settings._sources = MappingProxyType(
            {n: given[n].source if n in given else DEFAULT for n in cls.model_fields}
        )
        settings._warnings = (*layers.warnings, *settings._risks())
        return settings

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, mask_urls(value) if isinstance(value, str) else value

    @property
    def sources(self) -> Mapping[str, str]:
        """Return where each field's value came from: `default`, `FILE:LINE` or `environment`."""
        return self._sources

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what works but deserves a look: typos, unencrypted services."""
        return self._warnings

    @property
    def database_dsn(self) -> str | None:
        """Return DATABASE_URL as libpq takes it; None means the embedded server."""
        return libpq_url(self.database_url) if self.database_url else None

    @property
    def state_dir(self) -> Path:
        """Return the folder of the embedded servers' data."""
        return (
            self.hsi_state_dir or home("XDG_STATE_HOME", ".local/state", "/var/lib")
        ).absolute()

    @property
    def archive_folder(self) -> Path:
        """Return the folder of the log's archive."""
        return (self.archive_dir or self.state_dir / "archive").absolute()

    @property
    def models_dir(self) -> Path:
        """Return the folder of the model files; one for all copies of the product on a machine."""
        return (
            self.hsi_models_dir or home("XDG_CACHE_HOME", ".cache", "/var/cache") / "models"
        ).absolute()

    @property
    def secrets(self) -> frozenset[str]:
        """Return every secret text that must never be shown or logged."""
        secrets = [s.get_secret_value() for s in (self.redis_password, self.nemotron_api_key) if s]
        urls = (self.database_url, self.redis_url, self.rtdetr_url, self.nemotron_url)
        return frozenset([*secrets, *filter(None, (url_password(u) for u in urls if u))])

    def _risks(self) -> list[str]:
        named = {"RTDETR_URL": self.rtdetr_url, "NEMOTRON_URL": self.nemotron_url}
        return [w for n, url in named.items() if url and (w := plain_http_warning(n, url))]

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_origins(value)

    @field_validator("camera_timezone")
    @classmethod
    def _timezone(cls, value: str) -> str:
        return check_timezone(value)

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str | None) -> str | None:
        return value and check_redis_url(value)

    @field_validator("rtdetr_url")
    @classmethod
    def _detector(cls, value: str | None) -> str | None:
        return value and check_rtdetr_url(value)

    @field_validator("nemotron_url", "model_hub_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        return value and check_http_url(value)

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        check_database_url(value)
        if info.data.get("production") and url_password(value) == DEVELOPMENT_DATABASE_PASSWORD:
            raise ValueError("carries the published development password: choose a secret one")
        return value

    @field_validator("severity_medium_max", "severity_high_max")
    @classmethod
    def _rising(cls, value: int, info: ValidationInfo) -> int:
        below = (
            "severity_low_max"
            if info.field_name == "severity_medium_max"
            else "severity_medium_max"
        )
        floor = info.data.get(below)
        if floor is not None and value <= floor:
            raise ValueError(f"must be above {below.upper()}, which is {floor}")
        return value


NAMES = frozenset(name.upper() for name in Settings.model_fields)


def load_settings(
    env_file: Path | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Return the effective settings; raises SettingsError that names every problem at once."""
    layers = read_layers(NAMES, env_file, os.environ if environ is None else environ)
    try:
        settings = Settings.from_layers(layers)
    except ValidationError as error:
        raise SettingsError(
            [*layers.problems, *problems(error, Settings, layers.values)]
        ) from None
    if layers.problems:
        raise SettingsError(layers.problems)
    return settings
