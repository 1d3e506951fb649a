"""`hsi config`: sources shown, secrets hidden, and `.env.example` equal to the schema."""

import json
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from hsi.config import config, env_example
from runtime.masking import MASK
from runtime.settings import NAMES, PROJECT_ROOT, Settings, load_settings


def run(*arguments: str, **environ: str) -> Result:
    app = Typer()
    app.command()(config)
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", **environ})


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_committed_example_is_what_the_schema_says() -> None:
    committed = (PROJECT_ROOT / ".env.example").read_text(encoding="utf-8")
    assert committed == env_example(), "run: .venv/bin/hsi config --example > .env.example"
    assert run("--example").stdout == committed


def test_the_example_names_every_setting_once() -> None:
    lines = [line.lstrip("#") for line in env_example().splitlines() if "=" in line]
    names = [line.partition("=")[0] for line in lines]
    assert sorted(NAMES | {"HSI_RUNTIME_ENV_PATH"}) == sorted(n for n in names if n.isupper())


def test_the_example_uncommented_changes_nothing(tmp_path: Path) -> None:
    lines = [line.removeprefix("#") for line in env_example().splitlines()]
    given = [line for line in lines if "=" in line and line.partition("=")[0].isupper()]
    (tmp_path / ".env").write_text("\n".join(given))
    settings = load_settings(environ={})
    assert settings.model_dump() == Settings().model_dump()
    assert settings.sources["batch_window_seconds"].startswith(".env:")


def test_the_table_shows_values_and_layers(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_PORT=8123\nBATCH_WINDOWS_SECONDS=3\n")
    result = run(LOG_LEVEL="warning")
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line}
    assert result.exit_code == 0
    assert rows["API_PORT"] == ["8123", ".env:1"]
    assert rows["LOG_LEVEL"] == ["WARNING", "environment"]
    assert rows["BATCH_WINDOW_SECONDS"] == ["90", "default"]
    assert "is BATCH_WINDOW_SECONDS meant?" in result.stdout


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_secrets_are_masked(arguments: tuple[str, ...]) -> None:
    result = run(
        *arguments,
        REDIS_PASSWORD="tiger",
        NEMOTRON_API_KEY="tiger",
        DATABASE_URL="postgresql://me:tiger@db/x",
        REDIS_URL="redis://:tiger@cache/0",
    )
    assert result.exit_code == 0
    assert "tiger" not in result.stdout
    assert MASK in result.stdout
    assert f"postgresql://me:{MASK}@db/x" in result.stdout


def test_json_has_typed_values() -> None:
    answer = json.loads(run("--json", FAST_PATH_OBJECT_TYPES='["person", "dog"]').stdout)
    settings = answer["settings"]
    assert set(settings) == NAMES
    assert settings["FAST_PATH_OBJECT_TYPES"] == {
        "value": ["person", "dog"],
        "source": "environment",
    }
    assert settings["BATCH_WINDOW_SECONDS"] == {"value": 90, "source": "default"}
    assert settings["REDIS_PASSWORD"]["value"] is None
