"""Settings about encryption to other services: own authorities, and plain HTTP in production."""

from pathlib import Path

import pytest
from redis.connection import SSLConnection, parse_url

from runtime.settings import SettingsError, load_settings


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


PLAIN = {"RTDETR_URL": "http://gpu.example.org:8090"}


def test_production_refuses_pictures_in_clear_text() -> None:
    with pytest.raises(SettingsError, match=r"RTDETR_URL: .*ALLOW_PLAIN_HTTP_AI=true"):
        load_settings(environ={"PRODUCTION": "true", **PLAIN})
    allowed = load_settings(environ={"PRODUCTION": "true", "ALLOW_PLAIN_HTTP_AI": "true", **PLAIN})
    assert any("not encrypted" in line for line in allowed.warnings)
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
