"""Projector: applies the log to one read model; its checkpoint moves in the same transaction."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

import psycopg
from psycopg import errors as pg
from psycopg_pool import PoolClosed, PoolTimeout

from domain.errors import HsiError, TransientError
from projections.checkpoints import (
    AheadOfLogError,
    CheckpointConflictError,
    Checkpoints,
    Cursors,
    ends_of,
    lost_lane,
)
from projections.database import Pool
from projections.read_model import ReadModel, Unhurried, made_run
from projections.refusals import REFUSED, apply_what_is_taken
from runtime.tasks import end, is_set_within, unless_stopped
from streams.envelope import Envelope
from streams.log import EventLog

BLOCK_MS = 5000
"""How long one read waits for the first event."""

PACE_SECONDS = 0.02
"""Least time between two transactions of one read model: events that trickle in share one."""

FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 10.0

AWAY = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, TransientError)
"""PostgreSQL or Redis does not answer (or a deadlock was broken): the same run later."""

_log = logging.getLogger(__name__)


class SchemaMissingError(HsiError):
    """The database lacks a table or column that this version writes."""


class Projector:
    """Keeps one read model up to the log, alone or beside others that do the same."""

    def __init__(
        self,
        log: EventLog,
        pool: Pool,
        read_model: ReadModel,
        batch: int = 2000,
        on_applied: Callable[[Sequence[Envelope]], None] | None = None,
    ) -> None:
        """Read about `batch` events of each stream at once; `pool` may be shared.

        `on_applied` is told every run once it is committed.
        """
        self._on_applied = on_applied
        self._event_log = log
        self._pool = pool
        self._read_model = read_model
        self._count = max(1, batch // log.partitions)
        self._rest_seconds = read_model.pace_seconds if isinstance(read_model, Unhurried) else 0.0
        self._checkpoints = Checkpoints.of(read_model, log.incarnation)
        self._cursors: Cursors | None = None
        self._ahead: asyncio.Task[Sequence[Envelope]] | None = None
        """The next run being read and made ready while PostgreSQL writes this one; only while
        catching up."""

    @property
    def name(self) -> str:
        """Return the read model's name."""
        return self._read_model.name

    async def run_once(self, *, stop: asyncio.Event | None = None) -> int:
        """Apply what stands behind the checkpoint, one run; return how many events that were.

        With `stop`, waits until something is there or that is set. In this order: (1) read
        behind the checkpoint, (2) open a transaction, (3) move the checkpoint by
        compare-and-swap, which also keeps every other projector of this read model out,
        (4) apply, (5) commit. Who loses at (3) has written nothing and reads again from where
        the winner got to.
        """
        if self._cursors is None:
            await self._drop_ahead()
            self._cursors = await self._load()
        cursors = self._cursors
        envelopes = await self._next_run(cursors, stop)
        if not envelopes:
            return 0
        ends = ends_of(envelopes)
        if len(envelopes) >= self._count:
            self._ahead = asyncio.create_task(self._read_ready(cursors | ends))
        self._cursors = None  # unknown until the commit is known to have worked
        try:
            await self._commit(cursors, ends, envelopes)
        except CheckpointConflictError:
            _log.info("checkpoint moved by another process", extra={"action": "checkpoint_lost"})
            return 0
        self._cursors = cursors | ends
        if self._on_applied is not None:
            self._on_applied(envelopes)
        return len(envelopes)

    async def _next_run(self, cursors: Cursors, stop: asyncio.Event | None) -> Sequence[Envelope]:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and (envelopes := await ahead):
            return envelopes
        if stop is None:
            return await self._read(cursors, 0)
        envelopes = await unless_stopped(stop, self._read(cursors, BLOCK_MS)) or []
        if envelopes and self._rest_seconds and len(envelopes) < self._count:
            # Not in the way of those who are at work on them now; what comes meanwhile joins.
            await is_set_within(stop, self._rest_seconds)
            return await self._read(cursors, 0)
        return envelopes

    async def _read_ready(self, cursors: Cursors) -> Sequence[Envelope]:
        envelopes = await self._read(cursors, 0)
        await asyncio.sleep(0)  # PostgreSQL is sent what it waits for
        return made_run(self._read_model, envelopes)

    async def _read(self, cursors: Cursors, block_ms: int) -> list[Envelope]:
        return await self._event_log.follow(cursors, count=self._count, block_ms=block_ms)

    async def _drop_ahead(self) -> None:
        """Forget what was read behind a checkpoint that did not move as expected."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            await end(ahead)

    async def run(self, stop: asyncio.Event) -> None:
        """Apply the log until `stop` is set; waits out PostgreSQL and Redis being away.

        Raises ForeignCheckpointError when the log is not the one the read model was filled from,
        AheadOfLogError when it is, but has lost its end.
        """
        try:
            await self._run(stop)
        finally:
            await self._drop_ahead()

    async def _run(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        wait = FIRST_WAIT_SECONDS
        while not stop.is_set():
            began = loop.time()
            try:
                if await self.run_once(stop=stop):
                    await is_set_within(stop, began + PACE_SECONDS - loop.time())
                wait = FIRST_WAIT_SECONDS
            except PoolClosed:
                raise
            except AWAY as error:
                self._cursors = None  # where things stand is looked up again, and checked
                self._say_away(error, wait)
                await is_set_within(stop, wait * random.uniform(0.8, 1.2))  # noqa: S311 - jitter only
                wait = min(wait * 2, LONGEST_WAIT_SECONDS)

    def _say_away(self, error: BaseException, wait: float) -> None:
        _log.warning(
            "read model %s waits %.1f s and tries again, nothing is lost: %s",
            self.name,
            wait,
            str(error).strip(),
            extra={"action": "projection_waits", "projection": self.name},
        )

    async def _load(self) -> Cursors:
        """Return the checkpoint, sure that it lies within this log."""
        streams = self._read_model.streams
        lanes = [(stream, p) for stream in streams for p in range(self._event_log.partitions)]
        try:
            async with self._pool.connection() as connection:
                cursors = await self._checkpoints.load(connection, lanes)
        except (pg.UndefinedTable, pg.UndefinedColumn) as error:
            raise self._schema_missing(error) from error
        lane = await lost_lane(self._event_log, cursors)
        if lane is not None:
            raise AheadOfLogError(self.name, lane, cursors[lane])
        return cursors

    async def _commit(self, old: Cursors, new: Cursors, envelopes: Sequence[Envelope]) -> None:
        try:
            async with (
                self._pool.connection() as connection,
                connection.pipeline() as pipeline,
                connection.transaction(),
            ):
                moved = await self._checkpoints.ask_to_move(connection, old, new)
                await pipeline.sync()
                self._checkpoints.check(moved, new)
                await self._read_model.apply(connection, envelopes)
        except REFUSED:
            async with self._pool.connection() as connection, connection.transaction():
                await self._checkpoints.move(connection, old, new)
                await apply_what_is_taken(connection, self._read_model, envelopes)
        except (pg.UndefinedTable, pg.UndefinedColumn) as error:
            raise self._schema_missing(error) from error

    def _schema_missing(self, error: psycopg.Error) -> SchemaMissingError:
        return SchemaMissingError(
            f"the database lacks what the read model {self.name} needs ({error}): "
            "run `hsi migrate`"
        )
