"""`hsi replay` with other weights of the rules, and with another prompt."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.llama import GOOD_REPLY, KEY, fake_llama
from support.logs import NOON, POLICY, box, detected, new, opened, quick
from support.prompt_trials import OWN_WORDS, answer_own_prompt, own_prompt
from support.whatif import (
    FROM,
    assessments,
    called,
    close_all,
    history,
    live,
    order,
    replayed,
    said,
)

from domain.errors import HsiError
from domain.events import RiskAssessed
from domain.risk import MODEL_MOVE
from domain.rule_weights import RULES
from hsi.whatif.folder import RunFolder
from hsi.whatif.make import Order, make
from hsi.whatif.rules import example, read_rules
from hsi.whatif.wishes import chosen_prompt, pinned
from streams.log import EventLog

pytestmark = pytest.mark.usefixtures("quick")
__all__ = ["quick"]

HOUR = 3600.0


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[EventLog]:
    async with opened(valkey_url, partitions=2) as log:
        yield log


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the log's clock close batches after a tenth of a second."""
    monkeypatch.setattr("domain.batching.GRACE", timedelta(milliseconds=100) - POLICY.idle)


def with_rules(ordered: Order, folder: Path, text: str) -> Order:
    path = folder / "weights.toml"
    path.write_text(text)
    rules = read_rules(path)
    asked = msgspec.structs.replace(ordered.asked, rules=rules.version)
    return replace(ordered, asked=asked, rules=rules)


def with_prompt(ordered: Order, named: str) -> Order:
    prompt = chosen_prompt(named, refine=True)
    asked = msgspec.structs.replace(ordered.asked, prompt=pinned(prompt))
    return replace(ordered, asked=asked, prompt=prompt)


def level(score: int) -> str:
    """Return the level by the default bands, written out here a second time."""
    return (
        "low" if score < 30 else "medium" if score < 60 else "high" if score < 85 else "critical"
    )


def vehicle_points(assessed: RiskAssessed) -> int:
    """Return 5 where a vehicle's points are in the score, else 0."""
    (found,) = (signal for signal in assessed.signals if signal.name == "object")
    return found.points if found.why.startswith("A vehicle was seen") else 0


@pytest.mark.usefixtures("soon")
async def test_default_weights_differ_in_nothing_and_another_by_exactly_its_points(
    log: EventLog, valkey_url: str, tmp_path: Path
) -> None:
    await live(log, history(9, 250, ("porch", "yard")))
    await close_all(log)
    defaults = with_rules(order(tmp_path), tmp_path, example())
    result, changes = await replayed(valkey_url, tmp_path, "defaults", defaults)
    assert changes == ()
    assert result.same == result.events_before > 50
    assert result.asked.rules == "rules-1"

    tried = with_rules(order(tmp_path), tmp_path, "object.vehicle = 24\n")
    result, changes = await replayed(valkey_url, tmp_path, "tried", tried)
    was = {one.event_id: one for one in await assessments(log) if one.stage == "final"}
    expected = {}
    for event, one in was.items():
        if vehicle_points(one):
            # No vehicle has a floor, so that only the ends of the scale are in the way.
            score = max(0, min(100, one.score + 24 - 5))
            expected[event] = (one.score, score, level(score))
    found = {
        c.shown.event_id: (c.before.score, c.shown.score, c.shown.level)
        for c in changes
        if c.before
    }
    assert found == expected
    assert 10 < len(expected) < len(was)
    assert result.same == len(was) - len(expected)
    assert {c.kind for c in changes} == {"level", "score"}
    assert tried.rules is not None
    told = {s.name: (s.before, s.after) for s in result.settings if s.name.startswith("RULES")}
    assert told == {
        "RULES": ("rules-1", tried.rules.version),
        "RULES object": (
            "{ person = 12, vehicle = 5, animal = 3, other = 2 }",
            "{ person = 12, vehicle = 24, animal = 3, other = 2 }",
        ),
    }


@pytest.mark.usefixtures("soon")
async def test_a_run_goes_on_only_with_the_weights_that_it_began_with(
    log: EventLog, valkey_url: str, tmp_path: Path
) -> None:
    await live(log, history(9, 60, ("porch",)))
    await close_all(log)
    tried = with_rules(order(tmp_path), tmp_path, "object.vehicle = 24\n")
    other = with_rules(order(tmp_path), tmp_path, "object.vehicle = 25\n")
    folder = RunFolder(tmp_path / "replays", "halved")

    def cancel(_: int) -> None:
        raise KeyboardInterrupt

    with folder, pytest.raises(KeyboardInterrupt):
        await make(tried, folder, valkey_url, cancel)
    for wrong in (other, order(tmp_path)):
        with pytest.raises(HsiError, match="begun with other options"):
            await replayed(valkey_url, tmp_path, "halved", wrong)
    whole = await replayed(valkey_url, tmp_path, "whole", tried)
    resumed = await replayed(valkey_url, tmp_path, "halved", tried)
    assert resumed.changes == whole.changes != ()
    # A finished run is only shown again, and that too only for the same weights.
    assert await replayed(valkey_url, tmp_path, "halved", tried) == resumed
    with pytest.raises(HsiError, match="begun with other options"):
        await replayed(valkey_url, tmp_path, "halved", other)


async def test_the_command_takes_a_file_and_shows_what_it_changed(
    log: EventLog, valkey_url: str, tmp_path: Path
) -> None:
    await live(log, [detected("a", 0, box("car", 0.9)), detected("z", 90_000)])
    weights, page = tmp_path / "w.toml", tmp_path / "out.html"
    weights.write_text("object.vehicle = 40\n")
    version = read_rules(weights).version
    options = ("--rules", str(weights), "--name", "mine", *FROM)
    code, out, err = await called(valkey_url, tmp_path, *options, "--json", "--report", str(page))
    assert code == 0, err
    result: dict[str, Any] = msgspec.json.decode(out)
    assert result["asked"]["rules"] == version
    (change,) = result["changes"]
    assert (change["before"]["score"], change["after"]["score"]) == (5, 40)
    assert (change["before"]["level"], change["after"]["level"]) == ("low", "medium")
    assert version in page.read_text()
    code, out, _ = await called(valkey_url, tmp_path, *options)
    assert code == 0
    assert f"RULES: rules-1 → {version}" in out
    code, out, _ = await called(valkey_url, tmp_path, "--rules-example")
    assert (code, out) == (0, example())
    weights.write_text("object.vehicle = 400\n")
    code, _, err = await called(valkey_url, tmp_path, "--rules", str(weights), "--last", "1h")
    assert code != 0
    assert "object takes person, vehicle, animal, other, each a whole number" in err
    assert [path.name for path in (tmp_path / "replays").iterdir()] == ["mine"]


async def test_another_prompt_is_asked_about_everything_and_compared_with_the_log(
    log: EventLog, valkey_url: str, tmp_path: Path
) -> None:
    given = [detected(f"p{n}", n * HOUR, box("car", 0.9)) for n in range(3)]
    await live(log, given)
    rules = [one for one in await assessments(log) if one.stage == "final"]
    told = [msgspec.structs.replace(said(one), prompt_version="risk-v1") for one in rules]
    await log.append_all([new(one, f"said-{one.event_id}") for one in told])
    own = own_prompt(tmp_path / "prompts")
    async with fake_llama() as fake:
        env = {"NEMOTRON_URL": fake.url, "NEMOTRON_API_KEY": KEY}
        end = (NOON + timedelta(minutes=90)).isoformat()
        plain = order(tmp_path, end=end, environ=env, refine=True)
        # The same prompt and a model that says what was said: asked again, and no difference.
        fake.reply = json.dumps(
            {**json.loads(GOOD_REPLY), "risk_score": told[0].score, "summary": told[0].summary}
        )
        same = with_prompt(plain, "risk-v1")
        result, changes = await replayed(valkey_url, tmp_path, "same", same)
        assert (changes, result.same, len(fake.requests)) == ((), len(told), len(told))

        answer_own_prompt(fake, 90)
        fake.requests.clear()
        tried = with_prompt(plain, f"{own}/")
        result, changes = await replayed(valkey_url, tmp_path, "own", tried)
    assert len(fake.requests) == len(changes) == len(told)
    assert all(OWN_WORDS in json.dumps(body) for _, _, body in fake.requests)
    expected = {one.event_id: one.score + MODEL_MOVE for one in rules}
    assert {c.shown.event_id: c.shown.score for c in changes} == expected
    assert {c.shown.summary for c in changes} == {"The night watch is worried."}
    assert tried.prompt is not None
    pin = f"own-1 {tried.prompt.sha256()}"
    assert result.asked.prompt == pin
    (row,) = (s for s in result.settings if s.name == "PROMPT")
    assert (row.before, row.after) == ("risk-v1", pin)
    with pytest.raises(HsiError, match="begun with other options"):
        await replayed(valkey_url, tmp_path, "own", same)


async def test_other_weights_ask_the_model_only_about_what_they_change(
    log: EventLog, valkey_url: str, tmp_path: Path
) -> None:
    given = [detected("a", 0, box("car", 0.9)), detected("b", HOUR, box("dog", 0.9))]
    await live(log, [*given, detected("z", 9 * HOUR)])
    rules = [one for one in await assessments(log) if one.stage == "final"]
    await log.append_all([new(said(one), f"said-{one.event_id}") for one in rules])
    async with fake_llama() as fake:
        env = {"NEMOTRON_URL": fake.url, "NEMOTRON_API_KEY": KEY}
        end = (NOON + timedelta(hours=2)).isoformat()
        plain = order(tmp_path, end=end, environ=env, refine=True)
        tried = with_rules(plain, tmp_path, "object.vehicle = 7\n")
        result, changes = await replayed(valkey_url, tmp_path, "tried", tried)
    (change,) = changes
    assert change.shown.picture_ids == ("a",)
    assert (len(fake.requests), result.same) == (1, 1)
    assert "Rule score: 7" in json.dumps(fake.requests[0][2])
    assert RULES.weights.object.vehicle == 5
