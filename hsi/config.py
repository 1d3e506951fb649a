"""`hsi config`: the effective settings, where each came from, and the template of `.env`."""

import dataclasses
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runtime.layers import DEFAULT_RUNTIME_ENV_FILE, RUNTIME_ENV_VARIABLE
from runtime.setting_text import plain, shown
from runtime.settings import Settings, load_settings
from runtime.settings_report import allowed

__all__ = ["config", "env_example", "shown"]

_HEADER = f"""\
# Settings of Home Security Intelligence. Copy this file to .env and change what you need.
# Written by `hsi config --example`: every line is a default, so a line you leave commented out
# changes nothing.
#
# Order, the last wins: defaults, .env, data/runtime.env (or the file that
# {RUNTIME_ENV_VARIABLE} names), the environment. An empty value counts as not given.
# Secrets may stand in files that NAME_FILE names, or in /run/secrets: docs/configuration.md.

#{RUNTIME_ENV_VARIABLE}={DEFAULT_RUNTIME_ENV_FILE}
"""


def config(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    example: Annotated[
        bool, typer.Option("--example", help="Print the template of .env instead.")
    ] = False,
    docs: Annotated[
        Path | None,
        typer.Option("--docs", help="Make the tables in this page anew (docs/configuration.md)."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Ask every service that is named; 1: one fails.")
    ] = False,
    env_file: Annotated[
        Path | None, typer.Option("--env-file", help="Read this file instead of .env.")
    ] = None,
) -> None:
    """Show every setting, its effective value and the layer it came from; secrets are masked.

    With --check: whether Redis, PostgreSQL, the detector, the language model and the optional
    services answer. Exit codes: 0 fine, 1 a service does not answer, 2 a setting cannot be used.

    Examples: `hsi config` · `hsi config --check` · `hsi config --example > .env.example`
    """
    if example:
        print(env_example(), end="")
        return
    if docs is not None:
        _make_tables(docs)
        return
    settings = load_settings(env_file)
    if check:
        _check(settings, as_json=as_json)
        return
    if as_json:
        print(json.dumps(_as_json(settings), indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    console.print(_table(settings))
    for warning in settings.warnings:
        console.print(Text(f"! {warning}", style="yellow"))


def _make_tables(page: Path) -> None:
    from hsi.config_docs import with_tables

    page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


def _check(settings: Settings, *, as_json: bool) -> None:
    # Imported here: showing settings needs no driver.
    from hsi.config_check import check

    probes = check(settings)
    if as_json:
        rows = [dataclasses.asdict(probe) for probe in probes]
        print(json.dumps({"probes": rows}, indent=2, ensure_ascii=False))
    else:
        table = Table("service", "setting", "address", "", "what it says", box=None)
        for probe in probes:
            style = {"answers": "green", "fails": "bold red"}.get(probe.status, "dim")
            took = f" ({probe.milliseconds:g} ms)" if probe.milliseconds is not None else ""
            table.add_row(
                probe.service,
                probe.setting,
                Text(probe.address),
                Text(probe.status, style),
                Text(probe.message + took),
            )
        Console(highlight=False).print(table)
    if any(probe.status == "fails" for probe in probes):
        raise typer.Exit(1)


def _as_json(settings: Settings) -> dict[str, Any]:
    rows = {
        name.upper(): {"value": plain(value), "source": settings.sources[name]}
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
