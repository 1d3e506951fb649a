"""docs/configuration.md: its tables are the schema, and its differences are all there are."""

import json
import re

from support.reference_settings import REFERENCE, Said

from hsi.config import shown
from hsi.config_docs import with_tables
from runtime.hot import HOT
from runtime.settings import NAMES, PROJECT_ROOT, Settings

PAGE = PROJECT_ROOT / "docs" / "configuration.md"
SCHEMA = Settings.model_json_schema()["properties"]
DIFFERENCES = "## Where this differs from the reference"


def test_the_tables_are_made_from_the_schema() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_tables(page), "run: .venv/bin/hsi config --docs docs/configuration.md"
    assert all(f"| `{name}` |" in page for name in NAMES)


def test_hot_settings_are_settings() -> None:
    assert set(HOT) <= set(Settings.model_fields)


def test_every_difference_from_the_reference_is_intended_and_given_a_reason() -> None:
    differing = {name for name, said in REFERENCE.items() if _differs(name, said)}
    assert differing == set(_explained())
    assert all(len(reason) > 20 for reason in _explained().values())


def _explained() -> dict[str, str]:
    """Return setting → reason, as the page's table of differences has it."""
    part = PAGE.read_text(encoding="utf-8").partition(DIFFERENCES)[2]
    part = part.partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?) \| .+? \| .+? \| (.+?) \|$", part, re.MULTILINE)
    return {name: reason for names, reason in rows for name in re.findall(r"`(\w+)`", names)}


def _differs(name: str, said: Said) -> bool:
    if name not in NAMES:
        return True
    field, schema = Settings.model_fields[name.lower()], SCHEMA[name.lower()]
    if (said.default is None) != (field.default is None):
        return True
    if said.default is not None and _value(said.default) != _value(shown(field.default)):
        return True
    return said.low is not None and (schema["minimum"], schema["maximum"]) != (said.low, said.high)


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
