"""`hsi trial`: how candidates do beside what is in service, and the detector's share."""

import getpass
import json
import os
import secrets
from collections.abc import Sequence
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

Told = tuple[int, list[TrialCameraRow], list[TrialPromptRow], list[TrialChangeRow]]


@app.command()
def status(
    since: Annotated[
        datetime | None, typer.Option(help="Pictures and events of then or later; UTC.")
    ] = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Show agreement, score drift and latency for each camera, and who set the percentage.

    Works against REDIS_URL and DATABASE_URL, else against a running `hsi up`. Ends with 0, or with
    1 when a server does not answer.

    Examples: `hsi trial status` · `hsi trial status --since 2026-11-01 --json`
    """
    settings = load_settings(env_file)

    async def look(log: EventLog, pool: Pool) -> Told:
        percent = (await LiveSettings.load(log, settings)).current.candidate_percent
        queries = Queries(pool)
        start = since and (since if since.tzinfo else since.replace(tzinfo=UTC))
        cameras = await queries.trial_cameras(start=start)
        prompts = await queries.trial_prompts(start=start)
        return percent, cameras, prompts, await queries.trial_changes()

    percent, cameras, prompts, changes = with_servers(settings, look)
    if as_json:
        told = {"percent": percent, "cameras": cameras, "prompts": prompts, "changes": changes}
        print(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
        return
    console = Console(highlight=False)
    console.print(_cameras_table(cameras))
    if prompts:
        console.print(_prompts_table(prompts))
    console.print(f"the candidate answers for {percent} % of the pictures")
    for change in changes:
        line = f"{change.changed_at:%Y-%m-%d %H:%M:%S} {change.actor}: {change.old_percent} → "
        why = f" ({change.reason})" if change.reason else ""
        console.print(visible(f"{line}{change.new_percent} %{why}"), markup=False)


@app.command("set")
def set_percent(
    percent: Annotated[
        int, typer.Option(min=0, max=100, help="Percent of the pictures; 0 ends it.")
    ],
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Let the candidate answer for a percentage of the pictures, in every running process.

    Which pictures follows from their ids. A candidate that breaks a limit (CANDIDATE_WINDOW and
    the CANDIDATE_M… settings) is withdrawn to 0 by the role `trial`. The change is an event with
    your name. Works against REDIS_URL and DATABASE_URL, else against a running `hsi up`. Ends with
    0, or with 1 without CANDIDATE_RTDETR_URL or when a server does not answer.

    Examples: `hsi trial set --percent 10` · `hsi trial set --percent 0`
    """
    settings = load_settings(env_file)
    if percent and settings.candidate_rtdetr_url is None:
        raise HsiError("CANDIDATE_RTDETR_URL is not set, so there is no candidate to ask: set it")

    async def change(log: EventLog, _: Pool) -> int:
        return await _change(log, settings, percent)

    old = with_servers(settings, change)
    if as_json:
        print(json.dumps({"old": old, "new": percent}))
        return
    print(f"the candidate answers for {percent} % of the pictures, before {old} %")


async def _change(log: EventLog, settings: Settings, percent: int) -> int:
    old = (await LiveSettings.load(log, settings)).current.candidate_percent
    if old != percent:
        await change_settings(
            log,
            [Change("candidate_percent", old, percent)],
            actor=_who(),
            command=f"trial-set-{secrets.token_hex(8)}",
        )
    return old


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
    for title in ("events", "failed", "agreement", "drift", "p95 s", "beside p95"):
        table.add_column(title, justify="right")
    for row in rows:
        candidate = f"{row.candidate_prompt} {row.candidate_model or '-'}"
        texts = (row.camera_id, candidate, _model(row.prompt_version, row.model))
        table.add_row(
            *(Text(visible(text)) for text in texts),
            *map(str, (row.events, row.failed)),
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
