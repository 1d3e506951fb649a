"""Prompts as files: one version is one text, and nobody changes it unseen."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from domain.prompt import parse_reply
from inference.prompts import FOLDER, PromptError, load_prompt


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the product's prompts."""
    return Path(shutil.copytree(FOLDER, tmp_path / "prompts"))


def manifest(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_bytes())


def test_every_version_says_what_the_manifest_pins() -> None:
    versions = manifest(FOLDER)["versions"]
    folders = {path.name for path in FOLDER.iterdir() if path.is_dir()} - {"__pycache__"}
    assert set(versions) == folders
    for version in versions:
        prompt = load_prompt(version)
        assert prompt.version == version
        assert len({example.name for example in prompt.examples}) == len(prompt.examples)
        assert len({example.keep for example in prompt.examples}) == len(prompt.examples)
        for example in prompt.examples:
            _, answered = example.turns()
            assert parse_reply(answered.content) == example.answer


def test_the_current_version_is_the_one_that_is_asked_with() -> None:
    assert load_prompt().version == manifest(FOLDER)["current"]


@pytest.mark.parametrize(
    ("file", "word"),
    [("system.txt", "house"), ("examples.json", "animals"), ("examples.json", "44")],
)
def test_changed_words_need_a_new_version(folder: Path, file: str, word: str) -> None:
    path = folder / "risk-v1" / file
    path.write_text(path.read_text().replace(word, word[::-1] + "5"))
    with pytest.raises(PromptError, match=r"risk-v1 .* was changed.*new folder"):
        load_prompt("risk-v1", folder)


def test_a_new_version_stands_beside_the_old_one(folder: Path) -> None:
    shutil.copytree(folder / "risk-v1", folder / "risk-v2")
    (folder / "risk-v2" / "system.txt").write_text("Say how risky it is.")
    known = manifest(folder)
    known["versions"]["risk-v2"] = {"since": "2027-01-01", "about": "short", "sha256": "?"}
    (folder / "manifest.json").write_text(json.dumps(known))
    with pytest.raises(PromptError) as refused:
        load_prompt("risk-v2", folder)
    actual = str(refused.value).partition("checksum is ")[2].partition(",")[0]
    known["versions"]["risk-v2"] |= {"sha256": actual}
    (folder / "manifest.json").write_text(json.dumps(known))
    load_prompt.cache_clear()
    assert load_prompt("risk-v2", folder).system == "Say how risky it is."
    assert load_prompt(None, folder).version == "risk-v1"


def test_a_version_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(PromptError, match=r"no prompt 'risk-v99' .*risk-v1"):
        load_prompt("risk-v99")


@pytest.mark.parametrize("file", ["manifest.json", "risk-v1/system.txt", "risk-v1/examples.json"])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(PromptError, match=f"cannot read.*{file}"):
        load_prompt(None, folder)
