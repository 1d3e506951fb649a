"""`hsi config`: the effective settings, where each came from, and the template of `.env`."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runtime.layers import DEFAULT_RUNTIME_ENV_FILE, RUNTIME_ENV_VARIABLE
from runtime.masking import MASK, mask_urls
from runtime.settings import Settings, load_settings
from runtime.settings_report import allowed

_HEADER = f"""\
# Settings of Home Security Intelligence. Copy this file to .env and change what you need.
# Written by `hsi config --example`: every line is a default, so a line you leave commented out
# changes nothing.
#
# Order, the last wins: defaults, .env, data/runtime.env (or the file that
# {RUNTIME_ENV_VARIABLE} names), the environment. An empty value counts as not given.

#{RUNTIME_ENV_VARIABLE}={DEFAULT_RUNTIME_ENV_FILE}
"""


def config(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    example: Annotated[
        bool, typer.Option("--example", help="Print the template of .env instead.")
    ] = False,
    env_file: Annotated[
        Path | None, typer.Option("--env-file", help="Read this file instead of .env.")
    ] = None,
) -> None:
    """Show every setting, its effective value and the layer it came from; secrets are masked.

    Examples: `hsi config` · `hsi config --json` · `hsi config --example > .env.example`
    """
    if example:
        print(env_example(), end="")
        return
    settings = load_settings(env_file)
    if as_json:
        print(json.dumps(_as_json(settings), indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    console.print(_table(settings))
    for warning in settings.warnings:
        console.print(Text(f"! {warning}", style="yellow"))


def _as_json(settings: Settings) -> dict[str, Any]:
    rows = {
        name.upper(): {"value": _plain(value), "source": settings.sources[name]}
        for name, value in settings
    }
    return {"settings": rows, "warnings": list(settings.warnings)}


def _table(settings: Settings) -> Table:
    table = Table("setting", "value", "from", box=None, pad_edge=False)
    for name, value in settings:
        source = settings.sources[name]
        style = "dim" if source == "default" else "bold"
        table.add_row(Text(name.upper(), style), Text(shown(value), style), Text(source, style))
    return table


def _plain(value: object) -> Any:  # noqa: ANN401 - a JSON value
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, tuple):
        return [mask_urls(item) for item in value]
    if isinstance(value, bool | int | float | None):
        return value
    return mask_urls(str(value))


def shown(value: object) -> str:
    """Return a setting's value as one writes it in `.env`; secrets are masked."""
    plain = _plain(value)
    if isinstance(plain, str):
        return plain
    return "" if plain is None else json.dumps(plain, ensure_ascii=False)


def env_example() -> str:
    """Return `.env.example`, made from the settings' schema."""
    return _HEADER + "".join(_example_lines())


def _example_lines() -> Iterator[str]:
    schema = Settings.model_json_schema()["properties"]
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "section" in extra:
            yield f"\n# --- {extra['section']} ---\n"
        about = f"{field.description} ({allowed(schema[name])})."
        for line in textwrap.wrap(about, 95, break_on_hyphens=False, break_long_words=False):
            yield f"# {line}\n"
        # A default that depends on the machine is left blank: blank means "not given".
        default = "" if field.default_factory else shown(field.default)
        yield f"#{name.upper()}={_quoted(default)}\n"


def _quoted(text: str) -> str:
    """Return a value so that `.env` readers and shells take it as one word."""
    return f"'{text}'" if any(c in text for c in ' "$`\\#') else text
