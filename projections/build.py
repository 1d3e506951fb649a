"""A version being built: empty tables, filled from the log's past, finished, kept up to date."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypeGuard, TypeVar

from projections.bulk import Copied, put_together, take_out_repeated, write_deferred
from projections.checkpoints import Checkpoints, Cursors, Lane
from projections.database import Connection
from projections.read_model import ReadModel, Run, Writing
from projections.refusals import REFUSED, apply_what_is_taken
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
    has_tables,
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

T = TypeVar("T")


@dataclass(slots=True)
class Build:
    """One read model's version that is not live, and how far it is."""

    model: ReadModel
    version: Version
    checkpoints: Checkpoints
    lanes: list[Lane]
    cursors: Cursors = field(default_factory=dict)
    events: int = 0
    """How many were put down for it, this process's and those before."""

    @classmethod
    def of(cls, model: ReadModel, version: Version, log: EventLog) -> "Build":
        """Return the build of a version that exists."""
        return cls(
            model=model,
            version=version,
            checkpoints=Checkpoints.of(model, log.incarnation),
            lanes=[(stream, p) for stream in model.streams for p in range(log.partitions)],
            events=version.events,
        )

    async def load(self, connection: Connection) -> Cursors:
        """Look up how far it is."""
        async with connection.transaction():
            await enter(connection, self.version.schema)
            self.cursors = await self.checkpoints.load(connection, self.lanes)
        return self.cursors

    def part(self, window: Window) -> "Part | None":
        """Return what of a window is to be applied here, None when that is nothing."""
        runs = {lane: self._behind(lane, run) for lane, run in window.items()}
        envelopes = [envelope for run in runs.values() for envelope in run]
        if not envelopes:
            return None
        ends = {lane: run[-1].position for lane, run in runs.items() if run}
        order, self.events = 2 * self.events, self.events + len(envelopes)
        model = self.model
        writer = Copied(model, envelopes, order) if self._copies(model) else model
        return Part(self, envelopes, ends, writer)

    def _copies(self, model: ReadModel) -> TypeGuard[Writing]:
        """Tell whether rows are copied into it: its tables have no keys yet."""
        return self.version.state == "building" and isinstance(model, Writing)

    def _behind(self, lane: Lane, run: Sequence[Envelope]) -> Sequence[Envelope]:
        after = self.cursors.get(lane)
        if after is None or run[-1].position <= after:
            return ()
        if run[0].position > after:
            return run
        return [envelope for envelope in run if envelope.position > after]


@dataclass(frozen=True, slots=True)
class Part:
    """What of a window one build gets, ready to be written."""

    build: Build
    envelopes: Sequence[Envelope]
    ends: Cursors
    writer: ReadModel


@dataclass(frozen=True, slots=True)
class Step:
    """A window, ready to be written."""

    parts: Sequence[Part]
    events: int
    until: datetime
    """The least moment up to which a lane of it was recorded."""


async def begin_or_resume(connection: Connection, model: ReadModel, log: EventLog) -> Build:
    """Return the unfinished build of this read model, or begin one.

    What was begun by other rules, from another log or with other columns is of no use any more.
    """
    async with connection.transaction():
        version = await _unfinished(connection, model, log)
        if version is None:
            version = await begin(connection, model, log.incarnation)
            for table in () if isinstance(model, Writing) else model.tables:
                await add_constraints(connection, version, table)
        if version.state == "building" and isinstance(model, Writing):
            await add_order(connection, version, model)
        return Build.of(model, version, log)


async def _unfinished(connection: Connection, model: ReadModel, log: EventLog) -> Version | None:
    versions = await versions_of(connection, model, log.incarnation)
    for version in (versions.get("built"), versions.get("building")):
        if version is None:
            continue
        ours = (version.rule_version, version.incarnation) == (model.version, log.incarnation)
        if ours and await _fits(connection, version, model):
            return version
        await drop(connection, version)
    return None


async def _fits(connection: Connection, version: Version, model: ReadModel) -> bool:
    if version.state == "building":  # It has columns of its own; the switch compares the others.
        return await has_tables(connection, version.schema, model)
    return await same_shape(connection, version.schema, model)


async def prepare(builds: Sequence[Build], window: Window) -> Step:
    """Make a window ready to be written to the builds; it needs no connection.

    May run while the window before is being written: what a window holds lies behind the ones
    before it, whether or not the cursors have reached that. No thread does it: it would take turns
    with the one that sends while PostgreSQL waits (measured: a tenth more processor time).
    """
    parts = []
    for build in builds:
        part = build.part(window)
        if part is not None:
            parts.append(part)
            if isinstance(part.writer, Copied):
                await part.writer.make()
    events = sum(len(run) for run in window.values())
    return Step(parts, events, min(run[-1].recorded_at for run in window.values()))


async def write(connection: Connection, step: Step) -> None:
    """Apply a window to every build in one transaction."""
    try:
        async with connection.transaction():
            for part in step.parts:
                await _begin(connection, part)
                await part.writer.apply(connection, part.envelopes)
    except REFUSED:
        async with connection.transaction():
            for part in step.parts:
                await _begin(connection, part)
                await apply_what_is_taken(connection, part.writer, part.envelopes)
    for part in step.parts:
        part.build.cursors |= part.ends


async def _begin(connection: Connection, part: Part) -> None:
    """Move a build's checkpoint and enter its schema, all in one round trip."""
    build = part.build
    async with connection.pipeline():
        await enter(connection, build.version.schema)
        moved = await build.checkpoints.ask_to_move(connection, build.cursors, part.ends)
        named = (len(part.envelopes), build.model.name, build.version.version)
        await connection.execute(COUNT_EVENTS, named)
    build.checkpoints.check(moved, part.ends)


async def steps_for(
    past: Past, builds: Sequence[Build], ends: Cursors, count: int = READ_RUN
) -> AsyncGenerator[Step, None]:
    """Give what the builds lack up to `ends`, ready to be written.

    While one window is being written the next is made ready and the one behind it is read.
    """
    cursors: Cursors = {}
    for build in builds:
        for lane, position in build.cursors.items():
            cursors[lane] = min(position, cursors.get(lane, position))
    windows = _one_ahead(_windows(Windows(past, cursors, ends, count)))
    async with aclosing(_one_ahead(_prepared(builds, windows))) as steps:
        async for step in steps:
            yield step


async def _windows(windows: Windows) -> AsyncGenerator[Window, None]:
    while window := await windows.next():
        yield window


async def _prepared(
    builds: Sequence[Build], windows: AsyncGenerator[Window, None]
) -> AsyncGenerator[Step, None]:
    async with aclosing(windows):
        async for window in windows:
            yield await prepare(builds, window)


async def _one_ahead(items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Give the items, each while the next one is being made."""

    async def following() -> T | None:
        return await anext(items, None)

    async with aclosing(items):
        ahead = asyncio.create_task(following())
        try:
            while (item := await ahead) is not None:
                ahead = asyncio.create_task(following())
                yield item
        finally:
            await end(ahead)


async def catch_up(connection: Connection, past: Past, build: Build, ends: Cursors) -> None:
    """Apply what the log holds beyond a build, not further than `ends`."""
    await build.load(connection)
    async with aclosing(steps_for(past, [build], ends)) as steps:
        async for step in steps:
            await write(connection, step)


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
        if isinstance(build.model, Writing):
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
