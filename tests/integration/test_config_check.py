"""`hsi config --check`: what answers, what is embedded, what fails, and the exit code."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from hsi.config import config


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def checked(**environ: str) -> tuple[int, dict[str, Any], str]:
    app = Typer()
    app.command()(config)
    places = {"HSI_MODELS_DIR": "models", "COLUMNS": "200"}
    done = CliRunner().invoke(app, ["--check", "--json"], env={**places, **environ})
    rows = {row["service"]: row for row in json.loads(done.stdout)["probes"]}
    return done.exit_code, rows, done.stdout


def test_without_urls_everything_is_embedded_or_off() -> None:
    code, rows, _ = checked(EMBEDDED_LLM="off")
    assert code == 0
    assert {name: row["status"] for name, row in rows.items()} == {
        "redis": "embedded",
        "postgres": "embedded",
        "detector": "embedded",
        "language model": "off",
        "florence": "off",
        "clip": "off",
        "enrichment": "off",
    }


def test_servers_that_run_answer(valkey_url: str, database_url: str) -> None:
    code, rows, _ = checked(REDIS_URL=valkey_url, DATABASE_URL=database_url)
    assert code == 0, rows
    assert (rows["redis"]["status"], rows["postgres"]["status"]) == ("answers", "answers")
    assert rows["redis"]["milliseconds"] > 0


def test_what_does_not_answer_fails_and_no_password_is_shown() -> None:
    code, rows, text = checked(
        REDIS_URL="redis://:tiger@127.0.0.1:1/0",
        DATABASE_URL="postgresql://me:tiger@127.0.0.1:1/none",
        RTDETR_URL="http://127.0.0.1:1",
        NEMOTRON_URL="http://127.0.0.1:1",
        CLIP_URL="http://127.0.0.1:1",
        AI_CONNECT_TIMEOUT="1",
    )
    assert code == 1
    failed = {name for name, row in rows.items() if row["status"] == "fails"}
    assert failed == {"redis", "postgres", "detector", "language model", "clip"}
    assert all(rows[name]["message"] for name in failed)
    assert "tiger" not in text


def test_candidates_on_trial_are_asked_too() -> None:
    code, rows, text = checked(
        CANDIDATE_RTDETR_URL="http://me:tiger@127.0.0.1:1",
        CANDIDATE_NEMOTRON_URL="http://127.0.0.1:1",
        CANDIDATE_PROMPT="risk-v1",
        AI_CONNECT_TIMEOUT="1",
    )
    assert code == 1
    assert "tiger" not in text
    assert rows["candidate detector"]["status"] == rows["candidate model"]["status"] == "fails"
    assert rows["candidate prompt"]["message"] == "risk-v1, as its manifest pins it"
    _, rows, _ = checked(CANDIDATE_PROMPT="risk-v0")
    assert "there is no prompt 'risk-v0'" in rows["candidate prompt"]["message"]
