"""`hsi enrich`: add what optional services say to events that came before them."""

import json
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.status import Status
from rich.table import Table

from domain.enrichment import GROUP_OF
from domain.errors import HsiError
from hsi.projections import with_servers
from projections.database import Pool
from projections.queries import Queries
from runtime.settings import Settings, load_settings
from streams.history import History
from streams.log import EventLog

app = typer.Typer(add_completion=False)

Service = Literal["florence", "clip", "enrichment"]


@app.callback()
def _group() -> None:
    """Keep `hsi enrich` a group of commands whatever their number."""


@app.command()
def backfill(
    since: Annotated[datetime, typer.Option(help="Events that ended then or later; UTC.")],
    until: Annotated[datetime | None, typer.Option(help="Events that ended before.")] = None,
    service: Annotated[Service | None, typer.Option(help="Only this service.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count; ask nobody.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    env_file: Annotated[
        Path | None, typer.Option("--env-file", help="Read this file instead of .env.")
    ] = None,
) -> None:
    """Ask the configured services about events that have no caption, looks or attributes yet.

    The stage `enrich` catches up by itself with what the log's streams still hold; this reads the
    archive too, and asks again where a service refused. Nothing is asked about what retention
    deleted. It can be stopped and run again. Needs FLORENCE_URL, CLIP_URL or ENRICHMENT_URL, and
    works against REDIS_URL and DATABASE_URL, else against a running `hsi up`. Ends with 0, or with
    1 when a server or service does not answer.

    Examples: `hsi enrich backfill --since 2026-11-01 --dry-run` ·
    `hsi enrich backfill --since 2026-11-01 --until 2026-11-08 --service clip --json`
    """
    settings = load_settings(env_file)
    wanted: list[str] = [service] if service else list(settings.enrichment_urls)
    _require(settings, wanted)
    console = Console(stderr=True, highlight=False)
    with console.status("looking through the log") as status:

        async def work(log: EventLog, pool: Pool) -> dict[str, dict[str, int]]:
            times = (_utc(since), until and _utc(until))
            return await _backfill(settings, log, pool, wanted, times, status, dry_run=dry_run)

        done = with_servers(settings, work)
    if as_json:
        print(json.dumps(done, indent=2))
        return
    table = Table("service", "enriched", "still not", "left to the stage", "to do", box=None)
    for name, counted in done.items():
        table.add_row(name, *map(str, counted.values()))
    Console(highlight=False).print(table)


async def _backfill(  # noqa: PLR0913 - what the command was told
    settings: Settings,
    log: EventLog,
    pool: Pool,
    wanted: list[str],
    times: tuple[datetime, datetime | None],
    status: Status,
    *,
    dry_run: bool,
) -> dict[str, dict[str, int]]:
    # Imported here: the adapters' libraries are for this one command.
    from agents.backfill import Backfill, Counted
    from agents.enriching import open_parts
    from hsi.camera_folder import pictures_of

    def said(service: str, counted: Counted) -> None:
        status.update(f"{service}: {counted.enriched + counted.to_do} events")

    await log.use_groups([GROUP_OF[name] for name in settings.enrichment_urls])
    async with AsyncExitStack() as contexts:
        parts = open_parts(settings, pictures_of(settings), contexts)
        handlers = {name: part for name, part in parts.items() if name in wanted}
        past = History(log, settings.archive_folder)
        run = Backfill(log, past, Queries(pool), handlers, said)
        await run.run(*times, dry_run=dry_run)
    return {name: asdict(counted) for name, counted in run.counted.items()}


def _require(settings: Settings, wanted: list[str]) -> None:
    missing = [f"{name.upper()}_URL" for name in wanted if name not in settings.enrichment_urls]
    if missing or not wanted:
        names = " and ".join(missing) or "FLORENCE_URL, CLIP_URL or ENRICHMENT_URL"
        raise HsiError(f"{names} is not set, so there is no service to ask: set it")


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
