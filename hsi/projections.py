"""`hsi projections`: how far the read models are; make them anew, or switch back."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from agents.project import read_models
from domain.errors import HsiError
from projections.database import Pool, open_pool
from projections.progress import ProjectionStatus, Status
from projections.read_model import ReadModel
from projections.rebuild import POOL, DifferentError, Progress, Rebuild, Rebuilt, RolledBack
from runtime.embedded import AlreadyRunningError
from runtime.embedded.binaries import Binaries
from runtime.embedded.folders import Folders, StateLock
from runtime.embedded.postgres import PostgresServer
from runtime.embedded.valkey import ValkeyServer
from runtime.settings import Settings, load_settings
from streams.history import History
from streams.log import EventLog

app = typer.Typer(add_completion=False)

T = TypeVar("T")

NICENESS: Final = 5
"""A rebuild gives way to the roles that live on the same machine."""

Name = Annotated[str, typer.Argument(help="Name of a projection, see `hsi projections status`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
EnvFile = Annotated[
    Path | None, typer.Option("--env-file", help="Read this file instead of .env.")
]


@app.command()
def status(
    seconds: Annotated[
        float, typer.Option(min=0.1, max=60, help="How long to look for the rate.")
    ] = 1.0,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Show each projection's version, checkpoint, lag and rate.

    Works against REDIS_URL and DATABASE_URL, else against a running `hsi up`. Ends with 0, with 1
    when a server does not answer or the checkpoints belong to another log.

    Examples: `hsi projections status` · `hsi projections status --json`
    """

    async def look(log: EventLog, pool: Pool) -> list[ProjectionStatus]:
        return await Status(log, pool).of(read_models(), seconds=seconds)

    found = with_servers(load_settings(env_file), look)
    if as_json:
        print(json.dumps({"projections": [asdict(each) for each in found]}, indent=2))
        return
    Console(highlight=False).print(_status_table(found))


@app.command()
def rebuild(
    name: Annotated[str, typer.Argument(help="Name of a projection, or all.")],
    accept_differences: Annotated[
        bool,
        typer.Option("--accept-differences", help="Switch even if the rows differ from the live."),
    ] = False,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Make a projection's tables anew from archive and stream, compare, then switch to them.

    The live tables keep being read and written meanwhile. A rebuild that was killed goes on where
    it was when it is run again. Ends with 0 when it was switched; 1 when a server does not answer
    or another rebuild runs; 2 for a name that is no projection; 3 when the new tables differ from
    the live ones: then nothing was switched.

    Examples: `hsi projections rebuild all` · `hsi projections rebuild ledger --json`
    """
    models = _named(name)
    settings = load_settings(env_file)
    console = Console(stderr=True, highlight=False)
    os.nice(NICENESS)

    async def make(log: EventLog, pool: Pool) -> list[Rebuilt]:
        past = History(log, settings.archive_folder)
        with _bar(console) as bar:
            rebuild = Rebuild(log, past, pool, _Reporter(bar))
            return await rebuild.run(models, accept_differences=accept_differences)

    try:
        done = with_servers(settings, make)
    except DifferentError as error:
        console.print(f"not switched: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(3) from error
    if as_json:
        print(json.dumps({"rebuilt": [asdict(each) for each in done]}, indent=2))
        return
    Console(highlight=False).print(_rebuilt_table(done))


@app.command()
def rollback(name: Name, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Switch a projection back to the version before the last switch, brought up to date.

    What was live is kept, so a second rollback switches forward again. Ends with 0, with 1 when
    no version is kept or a server does not answer, with 2 for a name that is no projection.

    Example: `hsi projections rollback ledger`
    """
    (model,) = _named(name, allow_all=False)
    settings = load_settings(env_file)

    async def back(log: EventLog, pool: Pool) -> RolledBack:
        return await Rebuild(log, History(log, settings.archive_folder), pool).roll_back(model)

    done = with_servers(settings, back)
    if as_json:
        print(json.dumps(asdict(done), indent=2))
        return
    print(
        f"{done.projection}: version {done.version} is live again, version {done.replaced} is "
        f"kept (switched in {done.switch_seconds * 1000:.0f} ms)"
    )


def _named(name: str, *, allow_all: bool = True) -> Sequence[ReadModel]:
    models = {model.name: model for model in read_models()}
    if name == "all" and allow_all:
        return list(models.values())
    if name not in models:
        names = ", ".join([*sorted(models), *(["all"] if allow_all else [])])
        raise typer.BadParameter(f"{name} is none of: {names}", param_hint="NAME")
    return [models[name]]


def with_servers(settings: Settings, work: Callable[[EventLog, Pool], Awaitable[T]]) -> T:
    """Return what `work` answers, over the settings' servers or those of a running `hsi up`."""
    redis_url, database_url = _servers(settings)

    async def connected() -> T:
        async with _connected(settings, redis_url, database_url) as (log, pool):
            return await work(log, pool)

    return asyncio.run(connected())


@asynccontextmanager
async def _connected(
    settings: Settings, redis_url: str, database_url: str
) -> AsyncIterator[tuple[EventLog, Pool]]:
    password = settings.redis_password if settings.redis_url else None
    log = await EventLog.open(
        redis_url,
        password=password.get_secret_value() if password else None,
        partitions=settings.stream_partitions,
    )
    try:
        pool = await open_pool(database_url, name="rebuild", max_size=POOL, rebuildable=True)
        try:
            yield log, pool
        finally:
            await pool.close()
    finally:
        await log.close()


def _servers(settings: Settings) -> tuple[str, str]:
    """Return the URLs of Redis and PostgreSQL: the settings', else those of a running `hsi up`."""
    redis_url, database_url = settings.redis_url, settings.database_dsn
    if redis_url and database_url:
        return redis_url, database_url
    folders = Folders.prepare(settings.state_dir)
    try:
        StateLock.take(folders.state).release()
    except AlreadyRunningError:
        binaries = Binaries.find(folders.state, folders.account)
        return (
            redis_url or ValkeyServer(folders, binaries).url,
            database_url or PostgresServer(folders, binaries).url,
        )
    raise HsiError(
        f"nothing runs with the state folder {folders.state}: start `hsi up` (HSI_STATE_DIR names "
        "another folder), or set REDIS_URL and DATABASE_URL"
    )


def _bar(console: Console) -> Bar:
    return Bar(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


class _Reporter:
    """Shows the stage a rebuild is in; where nobody looks, says each stage once."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task: TaskID = bar.add_task("beginning", total=None)
        self._said = ""

    def __call__(self, step: Progress) -> None:
        stage = f"{step.stage} {', '.join(step.projections)}"
        if stage != self._said and not self._bar.console.is_terminal:
            self._bar.console.print(stage)
        self._said = stage
        task = next(task for task in self._bar.tasks if task.id == self._task)
        rate = f" · {step.events / task.elapsed:,.0f}/s" if step.events and task.elapsed else ""
        until = f" · up to {step.until:%Y-%m-%d %H:%M:%S} UTC" if step.until else ""
        events = f" · {step.events:,} events{rate}" if step.events else ""
        self._bar.update(self._task, description=stage + events + until)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _status_table(found: Sequence[ProjectionStatus]) -> Table:
    table = _table("projection", "version", "kept", "building", "lag", "lag seconds", "per second")
    for each in found:
        more = "+" if each.lag_is_more else ""
        built = f"{each.building} ({each.building_events:,} events)" if each.building else "-"
        table.add_row(
            each.projection,
            str(each.version),
            str(each.kept or "-"),
            built,
            f"{each.lag_entries:,}{more}",
            f"{each.lag_seconds:,.1f}",
            f"{each.rate_per_s:,.0f}",
        )
    return table


def _rebuilt_table(done: Sequence[Rebuilt]) -> Table:
    table = _table("projection", "version", "replaced", "events", "seconds", "table", "rows", "")
    for each in done:
        first = (each.projection, each.version, each.replaced, f"{each.events:,}")
        begin = [*map(str, first), f"{each.seconds:.1f}"]
        for compared in each.compared:
            said = "as before" if compared.equal else f"before: {compared.live_rows:,}"
            table.add_row(*begin, compared.table, f"{compared.new_rows:,}", said)
            begin = [""] * len(begin)
        if not each.compared:
            table.add_row(*begin, "", "", "other rules: not compared")
    return table
