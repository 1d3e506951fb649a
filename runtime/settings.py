"""All configuration: read once at the start, checked as a whole, frozen, and handed on as values.

Every variable keeps the name, default and range of the runtime configuration reference. Where
the reference gives no range the one below is ours. Relative paths count from the working
directory.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from runtime.layers import DEFAULT, Found, Layers, read_layers
from runtime.masking import mask_urls, url_password
from runtime.sections.access import AccessControl, RateLimits
from runtime.sections.application import Application, Storage
from runtime.sections.cameras import CameraFolders
from runtime.sections.enrichment import EnrichmentServices
from runtime.sections.inference import DetectorService, GpuMonitoring, LanguageModel
from runtime.sections.notifications import Notifications
from runtime.sections.risk import Risk
from runtime.sections.scenes import SceneChanges
from runtime.sections.serving import ApiServer, LiveMessages
from runtime.sections.telemetry import Telemetry
from runtime.sections.tls import Tls
from runtime.sections.trials import Trials
from runtime.sections.upkeep import Folders, Logs, Retention
from runtime.settings_checks import libpq_url, plain_http_warning, verifying, with_password
from runtime.settings_report import SettingsError, problems, shown_value
from runtime.settings_types import home
from runtime.tls import tls_warnings

__all__ = ["NAMES", "PROJECT_ROOT", "Settings", "SettingsError", "load_settings"]

PROJECT_ROOT = Path(__file__).resolve().parent.parent
"""Holds migrations/, web/ and triton_models/ beside the rooms, in every way of installing."""


# pydantic lists the fields of the last base first: read from the bottom to the top.
class Settings(
    Folders,
    Telemetry,
    Logs,
    Retention,
    GpuMonitoring,
    Notifications,
    Risk,
    EnrichmentServices,
    Trials,
    LanguageModel,
    DetectorService,
    SceneChanges,
    CameraFolders,
    RateLimits,
    AccessControl,
    Tls,
    LiveMessages,
    ApiServer,
    Storage,
    Application,
    BaseSettings,
):
    """The effective settings; build them with `load_settings` (in tests: `Settings(name=…)`)."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    _sources: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _warnings: tuple[str, ...] = PrivateAttr(default=())
    _layers: Layers | None = PrivateAttr(default=None)
    _read_again: "Callable[[], Settings] | None" = PrivateAttr(default=None)

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
        settings._layers = layers
        return settings

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, mask_urls(value) if isinstance(value, str) else value

    @property
    def sources(self) -> Mapping[str, str]:
        """Return where each field's value came from: `default`, `FILE:LINE` or `environment`."""
        return self._sources

    def changed(self, values: Mapping[str, object], source: str) -> "Settings":
        """Return these settings with others on top; raises SettingsError for what cannot be used.

        Keys are field names; `source` is where the values come from.
        """
        known = {name: value for name, value in values.items() if name in type(self).model_fields}
        try:
            settings = type(self).model_validate({**dict(self), **known})
        except ValidationError as error:
            found = {n.upper(): Found(shown_value(v), source) for n, v in known.items()}
            raise SettingsError(problems(error, type(self), found)) from None
        settings._sources = MappingProxyType({**self._sources, **dict.fromkeys(known, source)})
        settings._warnings = self._warnings
        settings._layers, settings._read_again = self._layers, self._read_again
        return settings

    def again(self) -> "Settings":
        """Return what the layers say now; raises SettingsError for what cannot be used.

        Settings that were built from arguments stay as they are.
        """
        return self if self._read_again is None else self._read_again()

    @property
    def runtime_file(self) -> Path | None:
        """Return where `data/runtime.env` is, or would be; None: no layers were read."""
        return None if self._layers is None else self._layers.runtime_file

    @property
    def runtime_lines(self) -> Mapping[str, Found]:
        """Return what `data/runtime.env` says by variable, also where the environment wins."""
        return {} if self._layers is None else self._layers.runtime_lines

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what works but deserves a look: typos, unencrypted services."""
        return self._warnings

    @property
    def database_dsn(self) -> str | None:
        """Return DATABASE_URL as libpq takes it; None means the embedded server."""
        if not self.database_url:
            return None
        url = verifying(libpq_url(self.database_url), self.database_ca_path)
        secret = self.postgres_password
        return with_password(url, secret.get_secret_value()) if secret else url

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
    def clips_folder(self) -> Path:
        """Return the folder of the clips that are made of events' pictures."""
        return (self.state_dir / "clips").absolute()

    @property
    def models_dir(self) -> Path:
        """Return the folder of the model files; one for all copies of the product on a machine."""
        return (
            self.hsi_models_dir or home("XDG_CACHE_HOME", ".cache", "/var/cache") / "models"
        ).absolute()

    @property
    def enrichment_urls(self) -> Mapping[str, str]:
        """Return the optional services that are configured: florence, clip, enrichment."""
        named = {
            "florence": self.florence_url,
            "clip": self.clip_url,
            "enrichment": self.enrichment_url,
        }
        return {service: url for service, url in named.items() if url}

    @property
    def trial_groups(self) -> tuple[str, ...]:
        """Return the consumer groups of the candidates on trial."""
        detector = ("trial_detector",) if self.candidate_rtdetr_url else ()
        asking = self.candidate_prompt or self.candidate_nemotron_url
        return (*detector, *(("trial_prompt",) if asking else ()))

    @property
    def secrets(self) -> frozenset[str]:
        """Return every secret text that must never be shown or logged."""
        secrets = [value.get_secret_value() for _, value in self if isinstance(value, SecretStr)]
        secrets += [*self.configured_keys, *self.webhook_secrets]
        stores = (self.database_url, self.redis_url)
        detectors = (self.rtdetr_url, self.candidate_rtdetr_url)
        models = (self.nemotron_url, self.candidate_nemotron_url)
        urls = (*stores, *detectors, *models, *self.enrichment_urls.values())
        return frozenset([*secrets, *filter(None, (url_password(u) for u in urls if u))])

    def _risks(self) -> list[str]:
        named = {"RTDETR_URL": self.rtdetr_url, "NEMOTRON_URL": self.nemotron_url}
        named["CANDIDATE_RTDETR_URL"] = self.candidate_rtdetr_url
        named["CANDIDATE_NEMOTRON_URL"] = self.candidate_nemotron_url
        named |= {f"{service.upper()}_URL": url for service, url in self.enrichment_urls.items()}
        plain = [w for n, url in named.items() if url and (w := plain_http_warning(n, url))]
        if plain and self.production and not self.allow_plain_http_ai:
            allow = "; PRODUCTION=true refuses that unless ALLOW_PLAIN_HTTP_AI=true"
            raise SettingsError([line + allow for line in plain])
        return [*plain, *tls_warnings(self)]


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
    settings._read_again = partial(load_settings, env_file, environ)
    return settings
