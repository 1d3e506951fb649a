"""Settings about encryption to other services: own authorities, and plain HTTP in production."""

from pathlib import Path

import pytest
from redis.connection import SSLConnection, parse_url

from runtime.settings import SettingsError, load_settings


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


AI_URLS = (
    "RTDETR_URL",
    "NEMOTRON_URL",
    "FLORENCE_URL",
    "CLIP_URL",
    "ENRICHMENT_URL",
    "CANDIDATE_RTDETR_URL",
    "CANDIDATE_NEMOTRON_URL",
)


@pytest.mark.parametrize("name", AI_URLS)
def test_production_refuses_pictures_in_clear_text(name: str) -> None:
    plain = {name: "http://gpu.example.org:8090"}
    with pytest.raises(SettingsError, match=rf"\b{name}: .*ALLOW_PLAIN_HTTP_AI=true"):
        load_settings(environ={"PRODUCTION": "true", **plain})
    for environ in (plain, {"PRODUCTION": "true", "ALLOW_PLAIN_HTTP_AI": "true", **plain}):
        (warning,) = load_settings(environ=environ).warnings
        assert "not encrypted" in warning


def test_what_is_near_or_encrypted_is_not_warned_about() -> None:
    near = {"RTDETR_URL": "http://localhost:8090", "NEMOTRON_URL": "http://ai-llm:8091"}
    assert not load_settings(environ={"PRODUCTION": "true", **near}).warnings


def test_redis_is_checked_by_the_given_authority() -> None:
    settings = load_settings(
        environ={"REDIS_URL": "rediss://redis.example.org:6380/1", "REDIS_CA_PATH": "/etc/ca.pem"}
    )
    assert settings.redis_url is not None
    options = parse_url(settings.redis_url)  # type: ignore[no-untyped-call]  # the driver's
    assert (options["ssl_ca_certs"], options["db"]) == ("/etc/ca.pem", 1)
    assert options["connection_class"] is SSLConnection
    with pytest.raises(SettingsError, match="REDIS_CA_PATH"):
        load_settings(environ={"REDIS_URL": "redis://localhost", "REDIS_CA_PATH": "/etc/ca.pem"})


def test_postgresql_is_checked_by_the_given_authority() -> None:
    url = "postgresql://me:secret@db.example.org/hsi"
    settings = load_settings(environ={"DATABASE_URL": url, "DATABASE_CA_PATH": "/etc/ca.pem"})
    assert settings.database_dsn == f"{url}?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem"


@pytest.mark.parametrize("name", ["NEMOTRON_URL", "CANDIDATE_NEMOTRON_URL"])
def test_a_language_model_takes_a_login_or_a_key(name: str) -> None:
    environ = {name: "http://house:zebra@localhost:8091"}
    assert not load_settings(environ=environ).warnings
    with pytest.raises(SettingsError, match="a server takes one of them") as caught:
        load_settings(environ={**environ, "NEMOTRON_API_KEY": "tiger"})
    assert "zebra" not in str(caught.value)
    assert "tiger" not in str(caught.value)


def test_triton_takes_no_login() -> None:
    with pytest.raises(SettingsError, match="carries a login, which Triton does not take"):
        load_settings(environ={"RTDETR_URL": "grpc://house:zebra@localhost:8001"})
