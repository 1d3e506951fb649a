"""The batch policies that the log tells of, read up to its end before anything is decided."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from domain.batching import BatchPolicy
from domain.events import SYSTEM, SettingsApplied
from domain.policies import Policies
from streams.envelope import START, Envelope, Position
from streams.history import History
from streams.log import EventLog
from streams.replay import counts_from, settings_told
from streams.told import told_positions

READ_RUN = 500


def policy_of(told: SettingsApplied) -> BatchPolicy:
    """Return what the settings say about batches."""
    return BatchPolicy(
        window=timedelta(seconds=told.batch_window_seconds),
        idle=timedelta(seconds=told.batch_idle_timeout_seconds),
        fast_path_labels=frozenset(told.fast_path_object_types),
        fast_path_score=told.fast_path_confidence_threshold,
        zone=ZoneInfo(told.camera_timezone),
    )


class ToldPolicies:
    """Follows `settings.applied`; before the first one, and without any, `first` counts."""

    def __init__(self, log: EventLog, first: BatchPolicy, archive_dir: Path | None = None) -> None:
        self.timeline = Policies(first)
        self._log = log
        self._history = History(log, archive_dir)
        self._cursor: Position | None = None
        self._lock = asyncio.Lock()

    async def catch_up(self) -> None:
        """Read to the end of the stream: every change before anything that is handed out now.

        Raises ServiceUnavailableError while Redis is away, ArchiveError when what was trimmed is
        not in the archive.
        """
        async with self._lock:
            partition = self._log.partition_of(SYSTEM)
            if self._cursor is None:
                self._cursor = await self._begin(partition)
            while run := await self._log.read("system", partition, self._cursor, READ_RUN):
                self._take(run)
                self._cursor = run[-1].position

    async def _begin(self, partition: int) -> Position:
        end = await self._log.newest("system", partition)
        if end == START:
            return end
        positions = await told_positions(self._log)
        now = datetime.now(UTC) + timedelta(days=1)  # all there are, whatever the clocks say
        told = (await settings_told(self._history, self._log, now, positions)).items()
        for number, (since, one) in enumerate(told):
            if number == 0:
                self.timeline.start(policy_of(one))
            else:
                self.timeline.set(since, policy_of(one))
        return end

    def _take(self, run: Sequence[Envelope]) -> None:
        for envelope in run:
            if isinstance(envelope.event, SettingsApplied):
                self.timeline.set(counts_from(envelope), policy_of(envelope.event))
