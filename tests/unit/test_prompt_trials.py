"""A candidate prompt: which one is meant, whose group it needs, and when nothing is compared."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.prompt_trials import OWN_WORDS, own_prompt
from support.risk_scenes import BANDS, Cameras, assessed, envelope, facts

from agents.trying_prompts import candidate_prompt, open_prompt_trial
from domain.outcomes import Done
from inference.prompts import PromptError, load_prompt
from runtime.settings import Settings, load_settings
from runtime.settings_report import SettingsError
from streams.envelope import Envelope, Position
from streams.log import GroupBacklog


class Log:
    """A log that holds nothing."""

    async def read(
        self, stream: str, partition: int, after: Position, count: int
    ) -> list[Envelope]:
        return []

    async def backlog(self) -> list[GroupBacklog]:
        return []


def test_a_version_or_a_folder_is_meant(tmp_path: Path) -> None:
    assert candidate_prompt("risk-v1") == load_prompt("risk-v1")
    assert candidate_prompt(None) == load_prompt()
    own = candidate_prompt(str(own_prompt(tmp_path / "prompts")))
    assert (own.version, own.system) == ("own-1", OWN_WORDS)


def test_a_prompt_that_is_not_there_or_was_changed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"there is no prompt 'risk-v0'.*there are: risk-v1"):
        candidate_prompt("risk-v0")
    with pytest.raises(PromptError, match="cannot read"):
        candidate_prompt(str(tmp_path / "nowhere"))
    folder = own_prompt(tmp_path / "prompts")
    (folder / "own-1" / "system.txt").write_text("Answer 0.")
    with pytest.raises(PromptError, match="was changed"):
        candidate_prompt(str(folder))


def test_each_candidate_has_a_group() -> None:
    assert Settings(candidate_prompt="risk-v1").trial_groups == ("trial_prompt",)
    url = "http://127.0.0.1:8092"
    assert Settings(candidate_nemotron_url=url).trial_groups == ("trial_prompt",)
    both = Settings(candidate_rtdetr_url=url, candidate_prompt="risk-v1")
    assert both.trial_groups == ("trial_detector", "trial_prompt")
    secret = Settings(candidate_nemotron_url="http://ann:hush-hush@127.0.0.1:8092")
    assert "hush-hush" in secret.secrets


def test_an_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDIDATE_NEMOTRON_URL", "llama.cpp")
    with pytest.raises(SettingsError, match="CANDIDATE_NEMOTRON_URL"):
        load_settings()


async def test_what_has_no_answer_of_the_main_line_is_passed_by() -> None:
    told = envelope(assessed(facts("person")))
    for url in (None, "http://127.0.0.1:1"):
        async with AsyncExitStack() as contexts:
            settings = Settings(candidate_prompt="risk-v1", nemotron_url=url)
            trial = open_prompt_trial(settings, Log(), Cameras(), BANDS, contexts)
            assert await trial(told) == Done(passed_by=True)
