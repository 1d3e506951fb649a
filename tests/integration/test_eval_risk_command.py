"""`hsi models eval-risk` against servers that answer well, badly, or obey every attack."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from support.llama import KEY, FakeLlama, fake_llama, free_port, smollm2_gguf
from typer.testing import CliRunner, Result

from domain.errors import HsiError
from hsi import language_model
from hsi.language_model import EmbeddedModel
from hsi.models import app
from hsi.scenarios import load_attacks, load_scenes
from inference.weights import SMOLLM2

VERSION, SCENES = load_scenes()
TARGET, ATTACKS = load_attacks()
QUICK = [attack.name for attack in ATTACKS if attack.quick]


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but those a test gives."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HSI_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("COLUMNS", "140")


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeLlama]:
    async with fake_llama() as server:
        monkeypatch.setenv("NEMOTRON_URL", server.url)
        monkeypatch.setenv("NEMOTRON_API_KEY", KEY)
        yield server


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["eval-risk", *arguments])


async def asked(*arguments: str) -> Result:
    return await asyncio.to_thread(run, *arguments)


def document(result: Result) -> Any:
    return json.loads(result.stdout)


async def sensible(request: web.Request) -> web.StreamResponse:
    """Answer the rules' score and name the camera."""
    question = (await request.json())["messages"][-1]["content"]
    found = re.search(r"Rule score: (\d+)", question)
    assert found is not None
    reply = {"risk_score": int(found[1]), "summary": "Somebody was there.", "reasoning": "Facts."}
    choice = {"message": {"content": json.dumps(reply)}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1600, "completion_tokens": 50}
    return web.json_response({"choices": [choice], "usage": usage, "model": "sensible.gguf"})


def test_the_rules_alone_need_no_model() -> None:
    result = run("--rules")
    assert result.exit_code == 0
    assert "rules alone, scenes-1" in result.stdout
    for scene in SCENES:
        assert scene.name in result.stdout
    assert "model alone" not in result.stdout
    assert len(document(run("--rules", "--json"))["attack_rows"]) == sum(
        attack.reaches_the_model for attack in ATTACKS
    )


async def test_a_good_model_passes(fake: FakeLlama) -> None:
    fake.respond = sensible
    result = await asked()
    assert result.exit_code == 0, result.output
    assert "tiny.gguf, prompt risk-v1, scenes-1" in result.stdout
    questions = len(SCENES) + len(QUICK)
    assert f"JSON valid: {questions} of {questions} replies" in result.stdout
    told = document(await asked("--json"))
    assert set(told["worth"]) == {"rules alone", "model alone", "in force"}
    assert told["worth"]["in force"] == told["worth"]["rules alone"]
    assert [row["name"] for row in told["attack_rows"]] == QUICK
    assert (told["below_floor"], told["obeyed"]) == ([], [])
    assert told["totals"]["tokens_in"] == 1600 * questions


async def test_an_obedient_model_fails_and_still_gets_below_no_floor(fake: FakeLlama) -> None:
    fake.reply = '{"risk_score": 0, "summary": "Fine.", "reasoning": "I was told so."}'
    result = await asked("--json", "--min-in-band", "0.7")
    assert result.exit_code == 1
    assert "not good enough: " in result.stderr
    told = document(result)
    assert told["worth"]["model alone"]["spearman"] == 0
    assert told["below_floor"] == []
    # It says 0 with and without an attack, so that no attack counts as obeyed.
    assert told["obeyed"] == []
    for row in told["scene_rows"]:
        assert row["score"] == max(row["floor"], row["rule_score"] - 20)


async def test_a_model_that_obeys_attacks_is_told_of(fake: FakeLlama) -> None:
    async def gullible(request: web.Request) -> web.StreamResponse | None:
        camera = (await request.json())["messages"][-1]["content"].splitlines()[0]
        return None if "0" in camera else await sensible(request)

    fake.reply = '{"risk_score": 0, "summary": "Fine.", "reasoning": "I was told so."}'
    fake.respond = gullible  # type: ignore[assignment]  # None lets the fake answer itself
    told = document(await asked("--json", "--all-attacks"))
    assert {"polite-order", "owner-says"} <= set(told["obeyed"])
    assert told["below_floor"] == []
    assert len(told["attack_rows"]) >= 30
    assert min(row["score"] for row in told["attack_rows"]) == 70


async def test_replies_that_cannot_be_used_leave_the_rules(fake: FakeLlama) -> None:
    fake.reply = "The risk is low."
    told = document(await asked("--json"))
    assert told["totals"]["json_valid"] == 0
    assert told["totals"]["replies"] == 3 * (len(SCENES) + len(QUICK))
    assert told["worth"]["in force"] == told["worth"]["rules alone"]


async def test_the_limits_decide_the_exit_code(fake: FakeLlama) -> None:
    fake.respond = sensible
    result = await asked("--min-spearman", "1")
    assert result.exit_code == 1
    assert re.search(r"not good enough: Spearman 0\.\d+ is below 1", result.stderr)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("EMBEDDED_LLM", "off", "no language model is configured"),
        ("EMBEDDED_LLM", "on", "hsi models fetch risk"),
        ("NEMOTRON_URL", "http://127.0.0.1:9", "does not answer"),
    ],
)
def test_no_model_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    result = run()
    assert result.exit_code == 1
    assert isinstance(result.exception, HsiError)
    assert words in str(result.exception)


@pytest.mark.slow
def test_the_embedded_model_runs_for_the_time_of_the_evaluation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = EmbeddedModel(SMOLLM2, smollm2_gguf(), free_port(), KEY)
    monkeypatch.setattr(language_model, "choose", lambda _: chosen)
    command = sys.modules["hsi.models.eval_risk"]
    monkeypatch.setattr(command, "load_scenes", lambda: (VERSION, (TARGET,)))
    monkeypatch.setattr(command, "load_attacks", lambda: (TARGET, ()))
    result = run("--json")
    told = document(result)
    assert told["model"] == "smollm2-135m"
    assert told["totals"]["json_valid"] == 1
    assert told["totals"]["tokens_cached"] > 1000  # the prompt was read ahead
