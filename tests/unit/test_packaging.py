"""The rooms have generic names: this fences the danger that somebody else installs one of them.

See docs/decisions/0005: rooms on disk = type-checked = import contracts = wheel, and nobody
else provides a top-level package of one of their names.
"""

import sys
import tomllib
from importlib import import_module
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import pytest

from runtime.settings import PROJECT_ROOT, Settings

PYPROJECT: dict[str, Any] = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())
NOT_ROOMS = {"tests", "benchmarks"}
DATA = {"migrations", "web"}
DISTRIBUTION = PYPROJECT["project"]["name"]


def rooms_on_disk() -> set[str]:
    return {path.parent.name for path in PROJECT_ROOT.glob("*/__init__.py")} - NOT_ROOMS


def test_every_list_of_rooms_names_the_rooms_on_disk() -> None:
    tool = PYPROJECT["tool"]
    wheel = set(tool["hatch"]["build"]["targets"]["wheel"]["packages"])
    rooms = rooms_on_disk()
    assert set(tool["mypy"]["files"]) - NOT_ROOMS == rooms
    assert set(tool["importlinter"]["root_packages"]) == rooms
    assert wheel - DATA == rooms
    assert wheel >= DATA
    layers = tool["importlinter"]["contracts"][0]["layers"]
    assert {name for layer in layers for name in layer.split(" | ")} == rooms


@pytest.mark.parametrize("room", sorted(rooms_on_disk()))
def test_a_room_is_imported_from_this_checkout(room: str) -> None:
    module = import_module(room)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve() == PROJECT_ROOT / room / "__init__.py"


def test_nobody_else_installs_a_name_of_ours() -> None:
    providers = packages_distributions()
    strangers = {
        name: set(providers.get(name, [])) - {DISTRIBUTION}
        for name in rooms_on_disk() | DATA | NOT_ROOMS
    }
    assert not {name: who for name, who in strangers.items() if who}
    assert not rooms_on_disk() & sys.stdlib_module_names


def test_the_version_is_the_same_everywhere() -> None:
    assert Settings().app_version == PYPROJECT["project"]["version"] == version(DISTRIBUTION)


def test_every_dependency_is_locked_with_hashes() -> None:
    text = (PROJECT_ROOT / "requirements.lock").read_text()
    entries = [line for line in text.splitlines() if line and line[0] not in " #"]
    assert all("==" in line for line in entries)
    assert text.count("--hash=sha256:") >= len(entries)
    declared = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["dependency-groups"]["dev"]]
    locked = {line.split("==")[0].split("[")[0] for line in entries}
    names = {
        "".join(c if c.isalnum() or c in "-._" else " " for c in d).split()[0] for d in declared
    }
    assert names <= locked, "run: make lock"


def test_it_can_never_be_uploaded_by_mistake() -> None:
    assert "Private :: Do Not Upload" in PYPROJECT["project"]["classifiers"]
