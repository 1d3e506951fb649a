"""Routes of the settings that take effect at once: what counts now, and changing it."""

from typing import Annotated, ClassVar, Final, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from api.access import actor_of
from api.commands import command_id
from api.problems import ProblemError
from api.routing import Routes
from api.services import SERVICES, answer
from domain.events import SettingValue
from runtime.hot import HOT
from runtime.settings import NAMES, Settings
from runtime.settings_report import SettingsError
from streams.configuration import Change, change_settings
from streams.live_settings import LiveSettings

routes = Routes("system")

HotName = Literal[
    "retention_days",
    "batch_window_seconds",
    "batch_idle_timeout_seconds",
    "detection_confidence_threshold",
    "fast_path_confidence_threshold",
    "fast_path_object_types",
    "gpu_poll_interval_seconds",
    "log_level",
    "candidate_percent",
    "candidate_prompt_percent",
]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
_Days = Annotated[int, Meta(ge=1, le=365)]
_BatchSeconds = Annotated[int, Meta(ge=1, le=3600)]
_Unit = Annotated[float, Meta(ge=0, le=1)]
_Percent = Annotated[int, Meta(ge=0, le=100)]
_PollSeconds = Annotated[float, Meta(ge=1, le=60)]
_Label = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Labels = Annotated[tuple[_Label, ...], Meta(max_length=100)]

_NEEDS_RESTART: Final = tuple(sorted(name.lower() for name in NAMES - {n.upper() for n in HOT}))


class ConfigAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in effect that can be changed while everything runs."""

    app_name: str
    version: str
    retention_days: int
    batch_window_seconds: int
    batch_idle_timeout_seconds: int
    detection_confidence_threshold: float
    fast_path_confidence_threshold: float
    fast_path_object_types: tuple[str, ...]
    gpu_poll_interval_seconds: float
    log_level: Level
    candidate_percent: int
    candidate_prompt_percent: int
    changed: dict[str, str]
    """Setting that was changed here → who did; the others are as the server's files say."""
    restart_needed: tuple[str, ...]
    """Settings that count after a restart only."""


class ConfigChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PATCH /api/system/config; what is left out stays."""

    SCHEMA_ALSO: ClassVar = {"minProperties": 1}
    retention_days: _Days | UnsetType = UNSET
    batch_window_seconds: _BatchSeconds | UnsetType = UNSET
    batch_idle_timeout_seconds: _BatchSeconds | UnsetType = UNSET
    detection_confidence_threshold: _Unit | UnsetType = UNSET
    fast_path_confidence_threshold: _Unit | UnsetType = UNSET
    fast_path_object_types: _Labels | UnsetType = UNSET
    gpu_poll_interval_seconds: _PollSeconds | UnsetType = UNSET
    log_level: Level | UnsetType = UNSET
    candidate_percent: _Percent | UnsetType = UNSET
    candidate_prompt_percent: _Percent | UnsetType = UNSET
    reset: Annotated[tuple[HotName, ...], Meta(max_length=len(HOT))] | UnsetType = UNSET
    """Settings that go back to what the server's files say."""

    def __post_init__(self) -> None:
        if all(getattr(self, name) is UNSET for name in self.__struct_fields__):
            raise ValueError("give at least one setting")

    @staticmethod
    def unknown_field(name: str) -> ProblemError | None:
        """Return the problem with a setting that cannot be changed here, None for no setting."""
        if name.upper() not in NAMES:
            return None
        return ProblemError(
            "restart_needed",
            f"{name.upper()} counts after a restart only: set it in .env, data/runtime.env or the"
            " environment, and restart",
        )


@routes.get("/api/system/config", ConfigAnswer)
async def get_config(request: web.Request) -> web.Response:
    """Answer the settings in effect that can be changed, and the names of the others."""
    return answer(_config(request.app[SERVICES].live))


@routes.patch(
    "/api/system/config",
    ConfigAnswer,
    role="admin",
    problems=["invalid_body", "restart_needed"],
)
async def change_config(request: web.Request, body: ConfigChange) -> web.Response:
    """Change settings in every running process; each change is an event with who, old and new."""
    services = request.app[SERVICES]
    live = services.live
    command, _ = command_id(request)
    if changes := _changes(live, body):
        live.learn(
            await change_settings(services.log, changes, actor=actor_of(request), command=command)
        )
    return answer(_config(live))


def _changes(live: LiveSettings, body: ConfigChange) -> list[Change]:
    given = {name: value for name in HOT if (value := getattr(body, name)) is not UNSET}
    resets = set(() if body.reset is UNSET else body.reset)
    if both := sorted(resets & set(given)):
        raise ProblemError("invalid_body", f"{both[0]} is both given and reset")
    try:
        new = live.current.changed(given, "the request")
    except SettingsError as error:
        raise ProblemError("invalid_body", "; ".join(error.problems)) from error
    changes = [
        Change(name, old, value)
        for name in given
        if (value := _value(new, name)) != (old := _value(live.current, name))
    ]
    if back := sorted(resets & set(live.changed.values)):
        own = live.beneath()
        changes += [
            Change(name, _value(live.current, name), _value(own, name), reset=True)
            for name in back
        ]
    return changes


def _value(settings: Settings, name: str) -> SettingValue:
    value: SettingValue = getattr(settings, name)
    return value


def _config(live: LiveSettings) -> ConfigAnswer:
    current = live.current
    return ConfigAnswer(
        app_name=current.app_name,
        version=current.app_version,
        retention_days=current.retention_days,
        batch_window_seconds=current.batch_window_seconds,
        batch_idle_timeout_seconds=current.batch_idle_timeout_seconds,
        detection_confidence_threshold=current.detection_confidence_threshold,
        fast_path_confidence_threshold=current.fast_path_confidence_threshold,
        fast_path_object_types=current.fast_path_object_types,
        gpu_poll_interval_seconds=current.gpu_poll_interval_seconds,
        log_level=current.log_level,
        candidate_percent=current.candidate_percent,
        candidate_prompt_percent=current.candidate_prompt_percent,
        changed=dict(live.changed.actors),
        restart_needed=_NEEDS_RESTART,
    )
