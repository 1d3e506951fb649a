"""Secrets as files: `NAME_FILE`, the folder of secrets, and what is wrong with a file."""

from pathlib import Path

import pytest

from runtime.settings import SettingsError, load_settings


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def secret(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def password(**environ: str) -> str | None:
    value = load_settings(environ=environ).redis_password
    return value.get_secret_value() if value else None


def test_a_file_is_read_without_its_line_break(tmp_path: Path) -> None:
    path = secret(tmp_path / "redis", "tiger word \r\n")
    settings = load_settings(environ={"REDIS_PASSWORD_FILE": str(path)})
    assert settings.redis_password is not None
    assert settings.redis_password.get_secret_value() == "tiger word "
    assert settings.sources["redis_password"] == f"environment: {path}"
    assert settings.secrets == {"tiger word "}
    assert settings.warnings == ()


def test_in_a_layer_the_file_wins_and_a_later_layer_wins_over_both(tmp_path: Path) -> None:
    path = secret(tmp_path / "redis", "from file")
    assert password(REDIS_PASSWORD="plain", REDIS_PASSWORD_FILE=str(path)) == "from file"
    (tmp_path / ".env").write_text(f"REDIS_PASSWORD_FILE={path}\n")
    assert password() == "from file"
    assert password(REDIS_PASSWORD="later") == "later"


@pytest.mark.parametrize("name", ["redis_password", "REDIS_PASSWORD"])
def test_the_folder_of_secrets_wins_over_every_layer(tmp_path: Path, name: str) -> None:
    secret(tmp_path / "run" / name, "from folder\n", 0o444)
    folder = str(tmp_path / "run")
    assert password(HSI_SECRETS_DIR=folder, REDIS_PASSWORD="plain") == "from folder"
    assert load_settings(environ={"HSI_SECRETS_DIR": folder}).warnings == ()


def test_the_password_of_postgresql_completes_the_url(tmp_path: Path) -> None:
    path = secret(tmp_path / "pg", "p@ss/word")
    environ = {
        "POSTGRES_PASSWORD_FILE": str(path),
        "DATABASE_URL": "postgresql+asyncpg://security@postgres:5432/security",
    }
    dsn = "postgresql://security:p%40ss%2Fword@postgres:5432/security"
    assert load_settings(environ=environ).database_dsn == dsn
    own = "postgresql://me:mine@h/d"
    assert load_settings(environ={**environ, "DATABASE_URL": own}).database_dsn == own


def test_a_whole_url_may_stand_in_a_file(tmp_path: Path) -> None:
    path = secret(tmp_path / "url", "redis://:tiger@cache:6379/0\n")
    settings = load_settings(environ={"REDIS_URL_FILE": str(path)})
    assert settings.redis_url == "redis://:tiger@cache:6379/0"
    assert settings.secrets == {"tiger"}


def test_a_secret_that_everybody_may_read_is_warned_about(tmp_path: Path) -> None:
    path = secret(tmp_path / "redis", "tiger", 0o644)
    (warning,) = load_settings(environ={"REDIS_PASSWORD_FILE": str(path)}).warnings
    assert "chmod 600" in warning
    assert "tiger" not in warning


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "cannot be read"), (b"", "is empty"), (b"\n", "is empty"), (b"\xff\xfe", "not UTF-8")],
)
def test_a_file_that_cannot_be_used_is_a_problem(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    path = tmp_path / "redis"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=says) as caught:
        load_settings(environ={"REDIS_PASSWORD_FILE": str(path)})
    assert "REDIS_PASSWORD" in str(caught.value)


def test_only_secrets_may_stand_in_files(tmp_path: Path) -> None:
    path = secret(tmp_path / "port", "8123")
    assert load_settings(environ={"API_PORT_FILE": str(path)}).api_port == 8000


def test_production_refuses_the_published_password() -> None:
    environ = {"PRODUCTION": "true", "POSTGRES_PASSWORD": "security_dev_password"}
    with pytest.raises(SettingsError, match="published development password"):
        load_settings(environ=environ)
