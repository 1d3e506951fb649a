"""`hsi trial`: how candidates do beside what is in service, and their shares."""

import getpass
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from domain.errors import HsiError
from hsi.happenings import visible
from hsi.projections import with_servers
from projections.database import Pool
from projections.queries import Queries
from projections.trial_queries import TrialCameraRow, TrialChangeRow, TrialPromptRow
from runtime.settings import Settings, load_settings
from streams.configuration import Change, change_settings
from streams.live_settings import LiveSettings
from streams.log import EventLog

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Try a candidate detector (CANDIDATE_RTDETR_URL) or prompt (CANDIDATE_PROMPT) beside the"
    " one in service.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
EnvFile = Annotated[
    Path | None, typer.Option("--env-file", help="Read this file instead of .env.")
]

Percent = Annotated[int | None, typer.Option(min=0, max=100, help="Percent of the pictures.")]
PromptPercent = Annotated[
    int | None, typer.Option(min=0, max=100, help="Percent of the events, for the prompt.")
]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """`hsi trial status --json`."""

    percent: int
    prompt_percent: int
    cameras: list[TrialCameraRow]
    prompts: list[TrialPromptRow]
    changes: list[TrialChangeRow]


@app.command()
def status(
    since: Annotated[
        datetime | None, typer.Option(help="Pictures and events of then or later; UTC.")
    ] = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Show agreement, score drift and latency for each camera, and who set the percentages.

    Works against REDIS_URL and DATABASE_URL, else against a running `hsi up`. Ends with 0, or with
    1 when a server does not answer.

    Examples: `hsi trial status` · `hsi trial status --since 2026-11-01 --json`
    """
    settings = load_settings(env_file)

    async def look(log: EventLog, pool: Pool) -> Told:
        now = (await LiveSettings.load(log, settings)).current
        queries = Queries(pool)
        start = since and (since if since.tzinfo else since.replace(tzinfo=UTC))
        return Told(
            percent=now.candidate_percent,
            prompt_percent=now.candidate_prompt_percent,
            cameras=await queries.trial_cameras(start=start),
            prompts=await queries.trial_prompts(start=start),
            changes=await queries.trial_changes(),
        )

    told = with_servers(settings, look)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
        return
    console = Console(highlight=False)
    console.print(_cameras_table(told.cameras))
    if told.prompts:
        console.print(_prompts_table(told.prompts))
    console.print(f"the candidate answers for {told.percent} % of the pictures")
    if told.prompts or told.prompt_percent:
        console.print(f"the candidate prompt answers for {told.prompt_percent} % of the events")
    for change in told.changes:
        line = f"{change.changed_at:%Y-%m-%d %H:%M:%S} {change.actor}: {change.setting} "
        line += f"{change.old_percent} → {change.new_percent}"
        why = f" ({change.reason})" if change.reason else ""
        console.print(visible(f"{line} %{why}"), markup=False)


@app.command("set")
def set_percent(
    percent: Percent = None,
    prompt_percent: PromptPercent = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Let a candidate answer for a percentage, in every running process; 0 takes it back.

    The detector answers for pictures, the prompt for events; which ones follows from their ids. A
    candidate that breaks a limit (CANDIDATE_WINDOW, CANDIDATE_M…, CANDIDATE_PROMPT_MAX_SECONDS) is
    withdrawn to 0 by the role `trial`. A change is an event with your name. Works against
    REDIS_URL and DATABASE_URL, else against a running `hsi up`. Ends with 0, or with 1 when no
    candidate is configured or a server does not answer.

    Examples: `hsi trial set --percent 10` · `hsi trial set --prompt-percent 0`
    """
    settings = load_settings(env_file)
    wanted = _wanted(settings, percent, prompt_percent)

    async def change(log: EventLog, _: Pool) -> list[Change]:
        return await _change(log, settings, wanted)

    changes = with_servers(settings, change)
    if as_json:
        print(json.dumps({each.field: {"old": each.old, "new": each.new} for each in changes}))
        return
    for each in changes:
        said = _SAID[each.field].format(each.new)
        print(f"{said}, before {each.old} %")


_SAID = {
    "candidate_percent": "the candidate answers for {} % of the pictures",
    "candidate_prompt_percent": "the candidate prompt answers for {} % of the events",
}


def _wanted(settings: Settings, percent: int | None, prompt: int | None) -> dict[str, int]:
    """Return the percentages to set by their settings; HsiError for what nobody can answer."""
    if percent and settings.candidate_rtdetr_url is None:
        raise HsiError("CANDIDATE_RTDETR_URL is not set, so there is no candidate to ask: set it")
    if prompt and "trial_prompt" not in settings.trial_groups:
        raise HsiError(
            "neither CANDIDATE_PROMPT nor CANDIDATE_NEMOTRON_URL is set, so there is no candidate"
            " to ask: set one"
        )
    given = {"candidate_percent": percent, "candidate_prompt_percent": prompt}
    wanted = {name: value for name, value in given.items() if value is not None}
    if not wanted:
        raise HsiError("give --percent, --prompt-percent, or both")
    return wanted


async def _change(log: EventLog, settings: Settings, wanted: Mapping[str, int]) -> list[Change]:
    now = (await LiveSettings.load(log, settings)).current
    changes = [Change(name, getattr(now, name), value) for name, value in wanted.items()]
    if news := [each for each in changes if each.old != each.new]:
        command = f"trial-set-{secrets.token_hex(8)}"
        await change_settings(log, news, actor=_who(), command=command)
    return changes


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"  # A container's user may have no name.


def _cameras_table(rows: Sequence[TrialCameraRow]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("camera", "candidate", "beside"):
        table.add_column(title)
    for title in ("pictures", "canaries", "failed", "agreement", "drift", "p95 ms", "beside p95"):
        table.add_column(title, justify="right")
    for row in rows:
        texts = (
            row.camera_id,
            _model(row.candidate, row.candidate_version),
            _model(row.reference, row.reference_version),
        )
        table.add_row(
            *(Text(visible(text)) for text in texts),
            *map(str, (row.pictures, row.canaries, row.failed)),
            _number(row.agreement, ".3f"),
            _number(row.drift, "+.3f"),
            _number(row.candidate_p95_ms, ".0f"),
            _number(row.reference_p95_ms, ".0f"),
        )
    return table


def _prompts_table(rows: Sequence[TrialPromptRow]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("camera", "candidate prompt", "beside"):
        table.add_column(title)
    for title in ("events", "canaries", "failed", "agreement", "drift", "p95 s", "beside p95"):
        table.add_column(title, justify="right")
    for row in rows:
        candidate = f"{row.candidate_prompt} {row.candidate_model or '-'}"
        texts = (row.camera_id, candidate, _model(row.prompt_version, row.model))
        table.add_row(
            *(Text(visible(text)) for text in texts),
            *map(str, (row.events, row.canaries, row.failed)),
            _number(row.agreement, ".3f"),
            _number(row.drift, "+.1f"),
            _number(row.candidate_p95_seconds, ".1f"),
            _number(row.p95_seconds, ".1f"),
        )
    return table


def _model(name: str | None, version: str | None) -> str:
    return f"{name} {version}" if name else "-"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
