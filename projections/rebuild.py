"""Rebuild: a read model's tables made anew beside the live ones, compared, then switched.

A version is filled from archive and stream in a schema of its own, with its checkpoint there, so
a killed rebuild goes on where it was; the live projector keeps running beside it.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg import errors as pg

from domain.errors import HsiError, PermanentError
from projections.build import (
    Build,
    begin_or_resume,
    catch_up,
    ends_of_log,
    finish,
    steps_for,
    write,
)
from projections.checkpoints import Cursors, OtherLogError, lost_lane
from projections.collecting import collecting_rarely
from projections.compare import Compared, compare
from projections.database import Connection, Pool, one_row
from projections.read_model import ReadModel
from projections.runner import Projector, SchemaMissingError
from projections.switch import hold_live, switch
from projections.versions import State, Version, drop, same_shape, versions_of
from projections.windows import READ_RUN, Past
from streams.log import EventLog

LOCK: Final = 0x48534952  # "HSIR"
"""Advisory lock class: one rebuild or rollback of a projection at a time."""


POOL: Final = 4
"""Connections a rebuild takes at most."""


class RebuildRunningError(PermanentError):
    """Another process rebuilds or rolls back the same projection."""


class DifferentError(HsiError):
    """The new version does not hold what the live one holds; nothing was switched."""

    def __init__(self, projection: str, compared: Sequence[Compared]) -> None:
        self.projection = projection
        self.compared = tuple(compared)
        tables = ", ".join(
            f"{each.table} ({each.live_rows:,} rows live, {each.new_rows:,} new)"
            for each in compared
            if not each.equal
        )
        super().__init__(
            f"the new version of {projection} differs from the live one in {tables}; nothing was "
            "switched. The log decides what is right: switch with --accept-differences, or look "
            "for what is missing in the log (archive) first"
        )


class NothingKeptError(PermanentError):
    """There is no version to switch back to."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rebuild is, for people to look at."""

    stage: str
    """filling, finishing, catching up, comparing, switching"""
    projections: tuple[str, ...]
    events: int = 0
    """Applied by this process."""
    until: datetime | None = None
    """Everything recorded before this moment is in."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of the rebuild of one projection."""

    projection: str
    version: int
    replaced: int
    """The version that was live and is kept now."""
    events: int
    seconds: float
    fill_seconds: float
    compared: tuple[Compared, ...]
    """Empty when the versions need not be equal: the rules have changed, or the log has lost what
    the live version holds."""


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What came of switching back."""

    projection: str
    version: int
    replaced: int
    switch_seconds: float


class Rebuild:
    """Makes new versions of read models and switches to them, or back."""

    def __init__(
        self,
        log: EventLog,
        past: Past,
        pool: Pool,
        report: Callable[[Progress], None] = lambda _: None,
        *,
        count: int = READ_RUN,
    ) -> None:
        """`pool` lends at least POOL connections; `count` envelopes of a lane are read at once."""
        self._log = log
        self._past = past
        self._pool = pool
        self._report = report
        self._count = count

    async def run(
        self, models: Sequence[ReadModel], *, accept_differences: bool = False
    ) -> list[Rebuilt]:
        """Rebuild read models together (the log is read once) and switch to what was built.

        Resumes what an earlier run left behind. Raises RebuildRunningError when another process
        is at it, DifferentError when a new version differs though the rules are the same.
        """
        async with self._alone(models) as connection:
            return await self._make(connection, models, accept=accept_differences)

    async def make_good(self, models: Sequence[ReadModel]) -> list[Rebuilt]:
        """Rebuild those read models whose live tables are ahead of a log that lost its end."""
        async with self._alone(models) as connection:
            ahead = [model for model in models if await self._is_ahead(connection, model)]
            return await self._make(connection, ahead, accept=False)

    async def _make(
        self, connection: Connection, models: Sequence[ReadModel], *, accept: bool
    ) -> list[Rebuilt]:
        began = time.perf_counter()
        builds = [await self._begin(connection, model) for model in models]
        await self._fill(connection, builds)
        fill_seconds = time.perf_counter() - began
        done = []
        for build in builds:
            compared = await self._ready(connection, build, accept=accept)
            self._tell("switching", build)
            live = await self._switch(connection, build)
            versions = await self._versions(connection, build.model)
            done.append(
                Rebuilt(
                    projection=build.model.name,
                    version=build.version.version,
                    replaced=live.version,
                    events=versions["live"].events,
                    seconds=time.perf_counter() - began,
                    fill_seconds=fill_seconds,
                    compared=tuple(compared),
                )
            )
        return done

    async def roll_back(self, model: ReadModel) -> RolledBack:
        """Switch back to the kept version, brought up to date before; the live one is kept then.

        Raises NothingKeptError when there is none that fits this software.
        """
        async with self._alone([model]) as connection:
            async with connection.transaction():
                versions = await versions_of(connection, model, self._log.incarnation)
                kept, live = versions.get("kept"), versions["live"]
                if kept is None:
                    message = f"no older version of {model.name} is kept: rebuild it instead"
                    raise NothingKeptError(message)
                if kept.rule_version != model.version or not await same_shape(
                    connection, kept.schema, model
                ):
                    raise NothingKeptError(
                        f"version {kept.version} of {model.name} was written by other rules or "
                        "with other columns than this software's: install the software that "
                        "wrote it, or rebuild"
                    )
            build = Build.of(model, kept, self._log)
            if await lost_lane(self._log, await build.load(connection)):
                raise NothingKeptError(
                    f"version {kept.version} of {model.name} holds what the log has lost since: "
                    f"its rows can be read in the schema {kept.schema}, but it cannot go on"
                )
            await self._bring_up(connection, build)
            began = time.perf_counter()
            await self._exchange(connection, build, live, None)
            return RolledBack(model.name, kept.version, live.version, time.perf_counter() - began)

    # --- steps ------------------------------------------------------------------------------

    async def _begin(self, connection: Connection, model: ReadModel) -> Build:
        """Begin a build or go on with one, unless that one holds what the log has lost since."""
        build = await begin_or_resume(connection, model, self._log)
        if await lost_lane(self._log, await build.load(connection)):
            async with connection.transaction():
                await drop(connection, build.version)
            build = await begin_or_resume(connection, model, self._log)
        return build

    async def _is_ahead(self, connection: Connection, model: ReadModel) -> bool:
        live = (await self._versions(connection, model))["live"]
        cursors = await self._live_position(connection, Build.of(model, live, self._log))
        return await lost_lane(self._log, cursors) is not None

    async def _is_comparable(self, connection: Connection, build: Build, *, accept: bool) -> bool:
        """Say whether the live tables follow from this log, as it is now, by the same rules."""
        live = (await self._versions(connection, build.model))["live"]
        if live.rule_version != build.model.version:
            return False
        try:
            return not await self._is_ahead(connection, build.model)
        except OtherLogError:
            if accept:
                return False
            raise

    async def _fill(self, connection: Connection, builds: Sequence[Build]) -> None:
        """Apply the log's past to every build that is not whole yet, reading it once."""
        filling = [build for build in builds if build.version.state == "building"]
        if not filling:
            return
        for build in filling:
            await build.load(connection)
        events, ends = 0, await ends_of_log(self._log, filling)
        with collecting_rarely():
            async with aclosing(steps_for(self._past, filling, ends, self._count)) as steps:
                async for step in steps:
                    await write(connection, step)
                    events += step.events
                    self._tell("filling", *filling, events=events, until=step.until)
        self._tell("finishing", *filling, events=events)
        # One by one: side by side they would take memory and both cores from those who live here.
        for build in filling:
            await finish(connection, build)

    async def _ready(
        self, connection: Connection, build: Build, *, accept: bool
    ) -> list[Compared]:
        """Bring a build up to date and compare it; raises DifferentError unless `accept`."""
        if not await self._is_comparable(connection, build, accept=accept):
            await catch_up(connection, self._past, build, await self._ends(build))
            return []
        self._tell("catching up", build)
        await self._bring_up(connection, build)
        self._tell("comparing", build)
        async with self._snapshot(connection, build) as reader:
            compared = await compare(reader, build.model, build.version.schema)
        if not accept and not all(each.equal for each in compared):
            raise DifferentError(build.model.name, compared)
        return compared

    async def _bring_up(self, connection: Connection, build: Build) -> None:
        """Bring a build near the log's end, and the live tables at least as far."""
        await catch_up(connection, self._past, build, await self._ends(build))
        projector = Projector(self._log, self._pool, build.model)
        while not _reached(await self._live_position(connection, build), build.cursors):
            await projector.run_once()

    async def _live_position(self, connection: Connection, build: Build) -> Cursors:
        async with connection.transaction():
            return await build.checkpoints.load(connection, build.lanes)

    @asynccontextmanager
    async def _snapshot(self, connection: Connection, build: Build) -> AsyncIterator[Connection]:
        """Lend a connection that sees both versions at the same position for as long as it reads.

        The live projector is held off only until the build has its position.
        """
        async with AsyncExitStack() as reading:
            async with self._pool.connection() as holding, holding.transaction():
                await hold_live(holding, build.model)
                until = await build.checkpoints.load(holding, build.lanes)
                await catch_up(connection, self._past, build, until)
                reader = await reading.enter_async_context(self._pool.connection())
                await reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                await reader.execute("SELECT FROM checkpoints LIMIT 1")  # takes the snapshot
            yield reader

    async def _switch(self, connection: Connection, build: Build) -> Version:
        """Make a build live; return the version it replaced."""
        versions = await self._versions(connection, build.model)
        if not await same_shape(connection, build.version.schema, build.model):
            async with connection.transaction():
                await drop(connection, build.version)
            raise HsiError(
                f"the tables of {build.model.name} were given other columns during the rebuild "
                "(`hsi migrate`), so what was built is dropped: rebuild again"
            )
        await self._exchange(connection, build, versions["live"], versions.get("kept"))
        return versions["live"]

    async def _exchange(
        self, connection: Connection, build: Build, live: Version, kept: Version | None
    ) -> None:
        async def last_steps(held: Connection) -> None:
            ends = await self._ends(build)
            if live.rule_version == build.model.version:
                await held.execute("SET LOCAL search_path TO public")
                with suppress(OtherLogError):  # Accepted before: then up to the log's end.
                    ends = await build.checkpoints.load(held, build.lanes)
            await catch_up(held, self._past, build, ends)

        await switch(
            connection, build.model, build.version, live, drop_first=kept, catch_up=last_steps
        )

    async def _ends(self, build: Build) -> Cursors:
        return await ends_of_log(self._log, [build])

    # --- small things -----------------------------------------------------------------------

    async def _versions(self, connection: Connection, model: ReadModel) -> dict[State, Version]:
        return await versions_of(connection, model, self._log.incarnation)

    def _tell(
        self, stage: str, *builds: Build, events: int = 0, until: datetime | None = None
    ) -> None:
        names = tuple(build.model.name for build in builds)
        self._report(Progress(stage, names, events, until))

    @asynccontextmanager
    async def _alone(self, models: Sequence[ReadModel]) -> AsyncIterator[Connection]:
        """Lend a connection in autocommit while no other process rebuilds these read models."""
        async with self._pool.connection() as connection:
            await connection.set_autocommit(True)
            try:
                for model in sorted(models, key=lambda model: model.name):
                    await _lock(connection, model)
                yield connection
            except (pg.UndefinedTable, pg.UndefinedColumn) as error:
                message = f"the database lacks what a rebuild needs ({error}): run `hsi migrate`"
                raise SchemaMissingError(message) from error
            finally:
                if not connection.closed:
                    await connection.execute("SELECT pg_advisory_unlock_all()")
                    await connection.set_autocommit(False)


async def _lock(connection: Connection, model: ReadModel) -> None:
    (locked,) = await one_row(
        connection,
        "SELECT pg_try_advisory_lock(%(class)s, hashtext(%(name)s))",
        {"class": LOCK, "name": model.name},
    )
    if not locked:
        raise RebuildRunningError(
            f"another process rebuilds or rolls back {model.name} right now: wait until it is "
            "done (`hsi projections status` shows it), or end it; what it has done is kept"
        )


def _reached(live: Cursors, wanted: Cursors) -> bool:
    return all(live[lane] >= position for lane, position in wanted.items())
