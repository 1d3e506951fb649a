"""Settings: the four layers, every range at its edges, and messages that name what is wrong."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runtime.settings import NAMES, Settings, SettingsError, load_settings

SCHEMA: Mapping[str, Any] = Settings.model_json_schema()["properties"]
BOUNDED = sorted(name for name, field in SCHEMA.items() if "minimum" in field)
RISING = ("severity_low_max", "severity_medium_max", "severity_high_max")


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(environ: Mapping[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ=environ)
    return str(caught.value)


# --- the reference's names, defaults and ranges ----------------------------------------------

REFERENCE = {
    "APP_NAME": ("Home Security Intelligence", None),
    "APP_VERSION": ("0.1.0", None),
    "DEBUG": (False, None),
    "API_HOST": ("0.0.0.0", None),
    "API_PORT": (8000, None),
    "CORS_ORIGINS": (("http://localhost:3000", "http://localhost:5173"), None),
    "FOSCAM_BASE_PATH": (Path("/export/foscam"), None),
    "FILE_WATCHER_POLLING": (False, None),
    "FILE_WATCHER_POLLING_INTERVAL": (1.0, (0.1, 30)),
    "AI_CONNECT_TIMEOUT": (10.0, (1, 60)),
    "AI_HEALTH_TIMEOUT": (5.0, (1, 30)),
    "RTDETR_READ_TIMEOUT": (60.0, (10, 300)),
    "NEMOTRON_READ_TIMEOUT": (120.0, (30, 600)),
    "DETECTION_CONFIDENCE_THRESHOLD": (0.5, (0, 1)),
    "FAST_PATH_CONFIDENCE_THRESHOLD": (0.9, (0, 1)),
    "FAST_PATH_OBJECT_TYPES": (("person",), None),
    "BATCH_WINDOW_SECONDS": (90, (1, 3600)),
    "BATCH_IDLE_TIMEOUT_SECONDS": (30, (1, 3600)),
    "GPU_POLL_INTERVAL_SECONDS": (5.0, (1, 60)),
    "GPU_STATS_HISTORY_MINUTES": (60, (1, 1440)),
    "DEDUPE_TTL_SECONDS": (300, (60, 3600)),
    "LOG_LEVEL": ("INFO", None),
    "LOG_FILE_PATH": (Path("data/logs/security.log"), None),
    "LOG_FILE_MAX_BYTES": (10_485_760, None),
    "LOG_FILE_BACKUP_COUNT": (7, None),
}


@pytest.mark.parametrize("name", sorted(REFERENCE))
def test_names_defaults_and_ranges_are_those_of_the_reference(name: str) -> None:
    default, limits = REFERENCE[name]
    assert getattr(load_settings(environ={}), name.lower()) == default
    if limits:
        field = SCHEMA[name.lower()]
        assert (field["minimum"], field["maximum"]) == limits


# --- C-1: loading order ----------------------------------------------------------------------


def test_the_last_layer_wins_and_each_falls_back_to_the_one_below(tmp_path: Path) -> None:
    env, runtime = tmp_path / ".env", tmp_path / "data" / "runtime.env"
    runtime.parent.mkdir()
    env.write_text("# mine\nBATCH_WINDOW_SECONDS=10\n")
    runtime.write_text("\n\nBATCH_WINDOW_SECONDS=20\n")
    environ = {"BATCH_WINDOW_SECONDS": "30"}

    def value_and_source() -> tuple[int, str]:
        settings = load_settings(environ=environ)
        return settings.batch_window_seconds, settings.sources["batch_window_seconds"]

    assert value_and_source() == (30, "environment")
    environ.clear()
    assert value_and_source() == (20, "data/runtime.env:3")
    runtime.unlink()
    assert value_and_source() == (10, ".env:2")
    env.unlink()
    assert value_and_source() == (90, "default")


@pytest.mark.parametrize("where", ["environment", ".env"])
def test_the_runtime_file_can_be_named(tmp_path: Path, where: str) -> None:
    named = tmp_path / "elsewhere.env"
    named.write_text("API_PORT=9000")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "runtime.env").write_text("API_PORT=9001")
    if where == ".env":
        (tmp_path / ".env").write_text(f"HSI_RUNTIME_ENV_PATH={named}")
    environ = {"HSI_RUNTIME_ENV_PATH": str(named)} if where == "environment" else {}
    settings = load_settings(environ=environ)
    assert (settings.api_port, settings.sources["api_port"]) == (9000, f"{named}:1")


def test_a_named_runtime_file_that_is_missing_is_warned_about(tmp_path: Path) -> None:
    missing = tmp_path / "no.env"
    (warning,) = load_settings(environ={"HSI_RUNTIME_ENV_PATH": str(missing)}).warnings
    assert str(missing) in warning


def test_an_empty_value_counts_as_not_given(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_PORT=9000\nREDIS_URL=\n")
    settings = load_settings(environ={"API_PORT": "", "REDIS_URL": ""})
    assert (settings.api_port, settings.redis_url) == (9000, None)


def test_every_field_has_a_source() -> None:
    assert set(load_settings(environ={}).sources) == set(Settings.model_fields)


def test_settings_are_frozen() -> None:
    settings = load_settings(environ={})
    with pytest.raises(ValueError, match="frozen"):
        settings.api_port = 1


def test_arguments_alone_make_settings_for_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_WINDOW_SECONDS", "7")
    assert Settings().batch_window_seconds == 90


# --- C-2: ranges -----------------------------------------------------------------------------


def edges(name: str) -> tuple[list[str], list[str]]:
    """Return what must be accepted and what must be refused."""
    field = SCHEMA[name]
    low, high = field["minimum"], field["maximum"]
    if field["type"] == "integer":
        return [str(low), str(high)], [str(low - 1), str(high + 1), f"{low}.5"]
    below, above = math.nextafter(low, -math.inf), math.nextafter(high, math.inf)
    return [str(low), str(high)], [repr(below), repr(above), "nan", "inf"]


@pytest.mark.parametrize("name", [n for n in BOUNDED if n not in RISING])
def test_the_ends_of_a_range_are_accepted(name: str) -> None:
    for value in edges(name)[0]:
        assert getattr(load_settings(environ={name.upper(): value}), name) == float(value)


@pytest.mark.parametrize("name", BOUNDED)
def test_beyond_a_range_the_start_is_refused(name: str) -> None:
    for value in (*edges(name)[1], "many"):
        message = refused({name.upper(): value})
        assert f"{name.upper()}={value} (from environment)" in message
        assert f"{SCHEMA[name]['minimum']:g} to " in message


def test_severities_may_use_the_whole_range() -> None:
    limits = {"SEVERITY_LOW_MAX": "0", "SEVERITY_MEDIUM_MAX": "1", "SEVERITY_HIGH_MAX": "100"}
    assert load_settings(environ=limits).severity_high_max == 100


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"SEVERITY_LOW_MAX": "59"}, "SEVERITY_MEDIUM_MAX"),
        ({"SEVERITY_LOW_MAX": "60"}, "SEVERITY_MEDIUM_MAX"),
        ({"SEVERITY_MEDIUM_MAX": "84"}, "SEVERITY_HIGH_MAX"),
        ({"SEVERITY_HIGH_MAX": "59"}, "SEVERITY_HIGH_MAX"),
    ],
)
def test_severities_must_rise_strictly(given: dict[str, str], named: str) -> None:
    assert f"{named}=" in refused(given)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("DEBUG", "perhaps", "true or false"),
        ("LOG_LEVEL", "LOUD", "one of DEBUG, INFO"),
        ("EMBEDDED_LLM_MODEL", "gpt", "qwen2.5-coder-1.5b"),
        ("NEMOTRON_API", "soap", "one of chat, completion"),
        ("CORS_ORIGINS", "http://localhost", "JSON list"),
        ("CORS_ORIGINS", '["localhost:3000"]', "not an origin"),
        ("CORS_ORIGINS", '["http://localhost/path"]', "not an origin"),
        ("FAST_PATH_OBJECT_TYPES", '{"person": 1}', "JSON list"),
        ("FAST_PATH_OBJECT_TYPES", "[1]", "JSON list"),
        ("CAMERA_TIMEZONE", "Middle/Earth", "IANA"),
        ("CAMERA_TIMEZONE", "../../etc/passwd", "IANA"),
        ("DATABASE_URL", "sqlite:///hsi.db", "SQLite is not supported"),
        ("DATABASE_URL", "mysql://h/d", "must begin with postgresql://"),
        ("DATABASE_URL", "postgresql://host", "names no database"),
        ("REDIS_URL", "localhost:6379", "must begin with redis://"),
        ("REDIS_URL", "unix://", "names no server"),
        ("RTDETR_URL", "ftp://host", "grpc://"),
        ("RTDETR_URL", "grpc://host:123456", "Port out of range"),
        ("NEMOTRON_URL", "http://", "names no host"),
    ],
)
def test_what_a_range_cannot_say_is_checked_too(name: str, value: str, says: str) -> None:
    message = refused({name: value})
    assert f"{name}={value} (from environment)" in message
    assert says in message


def test_all_problems_are_named_at_once_with_their_places(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_PORT=-1\nthis is no setting\nBATCH_WINDOW_SECONDS=0\n")
    message = refused({"LOG_LEVEL": "LOUD", "SEVERITY_LOW_MAX": "101"})
    for part in (
        ".env:2: is not NAME=value",
        "API_PORT=-1 (from .env:1): must be a whole number from 0 to 65535",
        "BATCH_WINDOW_SECONDS=0 (from .env:3): must be a whole number from 1 to 3600",
        "LOG_LEVEL=LOUD (from environment)",
        "SEVERITY_LOW_MAX=101 (from environment)",
    ):
        assert part in message


def test_files_that_cannot_be_used_are_problems(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings(tmp_path / "missing.env", environ={})
    (tmp_path / ".env").write_bytes(b"APP_NAME=caf\xe9\n")
    assert "is not UTF-8 text" in refused({})
    (tmp_path / ".env").unlink()
    (tmp_path / ".env").mkdir()
    assert ".env: cannot be read" in refused({})


def test_windows_editors_are_understood(tmp_path: Path) -> None:
    text = "\ufeffAPP_NAME='My House'\r\nexport API_PORT=81 # note\r\n"
    (tmp_path / ".env").write_bytes(text.encode())
    settings = load_settings(environ={})
    assert (settings.app_name, settings.api_port) == ("My House", 81)


# --- warnings --------------------------------------------------------------------------------


def test_a_likely_typo_is_warned_about_and_strangers_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BATCH_WINDOWS_SECONDS=5\nPOSTGRES_USER=me\napi_port=3\n")
    warnings = load_settings(environ={"HSI_STATEDIR": "x", "HSI_READY_FILE": "y"}).warnings
    assert len(warnings) == 3
    assert "is BATCH_WINDOW_SECONDS meant?" in warnings[0]
    assert "is API_PORT meant?" in warnings[1]
    assert "HSI_STATEDIR" in warnings[2]


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://192.0.2.7:8090", True),
        ("grpc://triton.example.org:8001", True),
        ("https://triton.example.org", False),
        ("http://127.0.0.1:8090", False),
        ("http://ai-detector:8090", False),
        ("http://host.docker.internal:8090", False),
    ],
)
def test_unencrypted_services_on_other_networks_are_warned_about(url: str, warned: bool) -> None:
    assert bool(load_settings(environ={"RTDETR_URL": url}).warnings) is warned


# --- secrets and URLs ------------------------------------------------------------------------


def test_secrets_are_never_shown() -> None:
    given = {
        "REDIS_PASSWORD": "tiger-1",
        "NEMOTRON_API_KEY": "tiger-2",
        "DATABASE_URL": "postgresql://me:tiger%2D3@db/x",
        "REDIS_URL": "redis://:tiger-4@cache/0",
    }
    settings = load_settings(environ=given)
    assert settings.secrets == {"tiger-1", "tiger-2", "tiger-3", "tiger-4"}
    assert "tiger" not in repr(settings) + str(settings)
    assert "tiger" not in refused({"DATABASE_URL": "mysql://me:tiger-3@db/x"})


def test_production_refuses_the_published_database_password() -> None:
    url = "postgresql+asyncpg://security:security_dev_password@localhost:5432/security"
    assert load_settings(environ={"DATABASE_URL": url}).database_url == url
    message = refused({"DATABASE_URL": url, "PRODUCTION": "true"})
    assert "development password" in message
    assert "security_dev_password" not in message


@pytest.mark.parametrize(
    ("given", "dsn"),
    [
        ("postgresql+asyncpg://u:p%40@h:1/d", "postgresql://u:p%40@h:1/d"),
        ("postgres://u@h/d?ssl=require", "postgresql://u@h/d?sslmode=require"),
        ("postgresql://u@/d?host=/run/pg", "postgresql://u@/d?host=%2Frun%2Fpg"),
    ],
)
def test_database_urls_of_other_drivers_are_normalised(given: str, dsn: str) -> None:
    assert load_settings(environ={"DATABASE_URL": given}).database_dsn == dsn


def test_unset_services_mean_embedded_ones() -> None:
    settings = load_settings(environ={})
    assert settings.database_dsn is None
    assert settings.redis_url is None
    assert settings.rtdetr_url is None
    assert settings.nemotron_url is None


def test_folders_can_be_moved(tmp_path: Path) -> None:
    environ = {"HSI_STATE_DIR": "state", "HSI_MODELS_DIR": str(tmp_path / "m")}
    settings = load_settings(environ=environ)
    assert settings.state_dir == tmp_path / "state"
    assert settings.models_dir == tmp_path / "m"


def test_the_documented_names_are_all_there() -> None:
    assert set(REFERENCE) < NAMES
