"""`hsi archive`: copy the log into files, check these, show how far they reach."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from domain.enrichment import GROUP_OF
from hsi.projections import with_servers
from projections.database import Pool
from projections.retention_queries import RetentionQueries
from projections.upkeep import Upkeep, UpkeepOptions, Upkept
from runtime.settings import load_settings
from streams.archive import Verdict
from streams.archive import verify as verify_archive
from streams.log import EventLog
from streams.segments import Manifest, load_manifest

app = typer.Typer(add_completion=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
EnvFile = Annotated[
    Path | None, typer.Option("--env-file", help="Read this file instead of .env.")
]

DAMAGED = 3


@app.command()
def run(as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Archive what is new, then trim what every reader and the archive have.

    Entries stay in Redis for STREAM_KEEP_HOURS all the same. Works against REDIS_URL and
    DATABASE_URL, else against a running `hsi up`, which does it daily by itself. Ends with 0, or
    with 1 when a server does not answer, the folder cannot be written or another process archives.

    Examples: `hsi archive run` · `ARCHIVE_DIR=/mnt/archive hsi archive run --json`
    """
    from agents.project import read_models

    settings = load_settings(env_file)
    options = UpkeepOptions(read_models(), settings.archive_folder, settings.stream_keep_hours)

    async def work(log: EventLog, pool: Pool) -> Upkept:
        await log.use_groups([GROUP_OF[service] for service in settings.enrichment_urls])
        await log.use_groups([*settings.trial_groups, *settings.alert_groups])
        await log.use_groups(settings.scene_groups)
        return await Upkeep(log, RetentionQueries(pool), options).run(datetime.now(UTC))

    done = with_servers(settings, work)
    if as_json:
        print(json.dumps(_as_json(done), indent=2))
        return
    console = Console(highlight=False)
    console.print(
        f"archived {done.archived.entries} entries in {done.archived.segments} segments "
        f"({done.archived.size_bytes} bytes) in {settings.archive_folder}; trimmed {done.trimmed}"
    )
    table = Table("stream", "partition", "trimmed below", "the rest is needed by", box=None)
    for bound in done.bounds:
        table.add_row(bound.stream, str(bound.partition), str(bound.below), bound.held_by)
    console.print(table)


def _as_json(done: Upkept) -> dict[str, object]:
    return {
        "archived_entries": done.archived.entries,
        "archived_segments": done.archived.segments,
        "archived_bytes": done.archived.size_bytes,
        "trimmed_entries": done.trimmed,
        "bounds": [
            {
                "stream": bound.stream,
                "partition": bound.partition,
                "below": str(bound.below),
                "held_by": bound.held_by,
            }
            for bound in done.bounds
        ],
    }


@app.command()
def verify(as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Read the whole archive and name the first file, line and byte that is not as it was.

    Needs no server. Ends with 0 when every byte is as it was archived, with 3 when not.

    Examples: `hsi archive verify` · `ARCHIVE_DIR=/mnt/archive hsi archive verify --json`
    """
    folder = load_settings(env_file).archive_folder
    verdict = verify_archive(folder)
    if as_json:
        print(json.dumps(_verdict_json(folder, verdict), indent=2))
    else:
        looked = f"{verdict.segments} segments, {verdict.entries} entries"
        Console(highlight=False, soft_wrap=True).print(
            f"{folder}: {looked}, every byte as it was archived"
            if verdict.problem is None
            else f"{folder}: {looked} are whole, then {verdict.problem}",
            markup=False,
        )
    if verdict.problem is not None:
        raise typer.Exit(DAMAGED)


@app.command()
def status(as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Show what the archive holds, stream by stream, as its manifest says.

    Needs no server. Ends with 0, or with 1 when the manifest cannot be read.

    Examples: `hsi archive status` · `hsi archive status --json`
    """
    folder = load_settings(env_file).archive_folder
    manifest = load_manifest(folder)
    rows = [] if manifest is None else _rows(manifest)
    if as_json:
        print(json.dumps({"folder": str(folder), "lanes": rows}, indent=2))
        return
    console = Console(highlight=False)
    if not rows:
        console.print(f"{folder} holds no archive yet", markup=False)
        return
    names = ("stream", "partition", "segments", "entries", "bytes", "first", "last")
    table = Table(*names, box=None)
    for row in rows:
        table.add_row(*(str(row[name]) for name in names))
    console.print(table)


def _verdict_json(folder: Path, verdict: Verdict) -> dict[str, object]:
    return {
        "folder": str(folder),
        "whole": verdict.problem is None,
        "segments": verdict.segments,
        "entries": verdict.entries,
        "bytes": verdict.size_bytes,
        "problem": verdict.problem,
    }


def _rows(manifest: Manifest) -> list[dict[str, object]]:
    lanes = sorted({segment.lane for segment in manifest.segments})
    rows: list[dict[str, object]] = []
    for stream, partition in lanes:
        mine = manifest.of(stream, partition)
        rows.append(
            {
                "stream": stream,
                "partition": partition,
                "segments": len(mine),
                "entries": sum(segment.count for segment in mine),
                "bytes": sum(segment.size_bytes for segment in mine),
                "first": mine[0].first,
                "last": mine[-1].last,
            }
        )
    return rows
