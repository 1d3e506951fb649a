"""A version being built: empty tables, filled from the log's past, finished, kept up to date."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

from projections.bulk import Copied, put_together, take_out_repeated, write_deferred
from projections.checkpoints import Checkpoints, Cursors, Lane
from projections.database import Connection
from projections.read_model import ReadModel, Run, Writing
from projections.refusals import apply_what_is_taken
from projections.versions import (
    COUNT_EVENTS,
    Version,
    add_constraints,
    add_indexes,
    add_order,
    begin,
    drop,
    drop_order,
    enter,
    same_shape,
    set_state,
    versions_of,
)
from projections.windows import READ_RUN, Past, Windows
from runtime.tasks import end
from streams.envelope import Envelope
from streams.log import EventLog

MEMORY: Final = ("SET LOCAL maintenance_work_mem = '256MB'", "SET LOCAL work_mem = '64MB'")
"""What sorting keys and indexes may take."""

Window = dict[Lane, list[Envelope]]


@dataclass(slots=True)
class Build:
    """One read model's version that is not live, and how far it is."""

    model: ReadModel
    version: Version
    checkpoints: Checkpoints
    lanes: list[Lane]
    writer: ReadModel
    cursors: Cursors = field(default_factory=dict)

    @classmethod
    def of(cls, model: ReadModel, version: Version, log: EventLog) -> "Build":
        """Return the build of a version that exists."""
        filled = version.state == "building"
        return cls(
            model=model,
            version=version,
            checkpoints=Checkpoints.of(model, log.incarnation),
            lanes=[(stream, p) for stream in model.streams for p in range(log.partitions)],
            writer=Copied(model) if filled and isinstance(model, Writing) else model,
        )

    async def load(self, connection: Connection) -> Cursors:
        """Look up how far it is."""
        async with connection.transaction():
            await enter(connection, self.version.schema)
            self.cursors = await self.checkpoints.load(connection, self.lanes)
        return self.cursors

    def wanted(self, window: Window) -> Window:
        """Return what of a window is still to be applied here."""
        found = {}
        for lane, run in window.items():
            after = self.cursors.get(lane)
            if after is None or run[-1].position <= after:
                continue
            begun = run[0].position <= after
            found[lane] = [e for e in run if e.position > after] if begun else run
        return found


async def begin_or_resume(connection: Connection, model: ReadModel, log: EventLog) -> Build:
    """Return the unfinished build of this read model, or begin one.

    What was begun by other rules, from another log or with other columns is of no use any more.
    """
    async with connection.transaction():
        versions = await versions_of(connection, model, log.incarnation)
        for version in (versions.get("built"), versions.get("building")):
            if version is None:
                continue
            ours = (version.rule_version, version.incarnation) == (model.version, log.incarnation)
            if ours and (version.state == "building" or await _fits(connection, version, model)):
                return Build.of(model, version, log)
            await drop(connection, version)
        version = await begin(connection, model, log.incarnation)
        build = Build.of(model, version, log)
        if isinstance(model, Writing):
            await add_order(connection, version, model)
        else:
            for table in model.tables:
                await add_constraints(connection, version, table)
        return build


async def _fits(connection: Connection, version: Version, model: ReadModel) -> bool:
    return await same_shape(connection, version.schema, model)


async def write(connection: Connection, builds: Sequence[Build], window: Window) -> int:
    """Apply a window to every build in one transaction; return how many events it held."""
    moved: list[tuple[Build, Cursors]] = []
    async with connection.transaction():
        for build in builds:
            runs = build.wanted(window)
            if not runs:
                continue
            await enter(connection, build.version.schema)
            ends = {lane: run[-1].position for lane, run in runs.items()}
            await build.checkpoints.move(connection, build.cursors, ends)
            envelopes = [envelope for run in runs.values() for envelope in run]
            await apply_what_is_taken(connection, build.writer, envelopes)
            named = (len(envelopes), build.model.name, build.version.version)
            await connection.execute(COUNT_EVENTS, named)
            moved.append((build, ends))
    for build, ends in moved:
        build.cursors |= ends
    return sum(len(run) for run in window.values())


async def windows_for(
    past: Past, builds: Sequence[Build], ends: Cursors, count: int = READ_RUN
) -> AsyncGenerator[Window, None]:
    """Give what the builds lack up to `ends`; one window is read while another is written."""
    cursors: Cursors = {}
    for build in builds:
        for lane, position in build.cursors.items():
            cursors[lane] = min(position, cursors.get(lane, position))
    windows = Windows(past, cursors, ends, count)
    ahead = asyncio.create_task(windows.next())
    try:
        while window := await ahead:
            ahead = asyncio.create_task(windows.next())
            yield window
    finally:
        await end(ahead)


async def catch_up(connection: Connection, past: Past, build: Build, ends: Cursors) -> None:
    """Apply what the log holds beyond a build, not further than `ends`."""
    await build.load(connection)
    async with aclosing(windows_for(past, [build], ends)) as windows:
        async for window in windows:
            await write(connection, [build], window)


async def ends_of_log(log: EventLog, builds: Sequence[Build]) -> Cursors:
    """Return where the log ends now in every lane that the builds read."""
    lanes = sorted({lane for build in builds for lane in build.lanes})
    return {lane: await log.newest(*lane) for lane in lanes}


async def finish(connection: Connection, build: Build) -> None:
    """Make whole tables of what was filled: keys, indexes, and one row where several came."""
    async with connection.transaction():
        for statement in MEMORY:
            await connection.execute(statement)
        await enter(connection, build.version.schema)
        if isinstance(build.writer, Copied) and isinstance(build.model, Writing):
            inserts = {each.table: each for each in build.model.writes(Run([])) if each.table}
            for table in build.model.tables:
                if table in inserts:
                    await take_out_repeated(connection, table)
                await add_constraints(connection, build.version, table)
                if table in inserts:
                    await put_together(connection, inserts[table])
            await write_deferred(connection)
            await drop_order(connection, build.model)
        for table in build.model.tables:
            await add_indexes(connection, build.version, table)
        await set_state(connection, build.version, "built")
    build.version = replace(build.version, state="built")
    build.writer = build.model
