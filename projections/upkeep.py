"""Upkeep of the log: archive what is new, then trim what every reader and the archive have."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from projections.read_model import ReadModel
from projections.retention_queries import RetentionQueries
from streams.archive import Archive, Archived
from streams.envelope import START
from streams.log import EventLog
from streams.segments import Segment
from streams.trim import Bound, Checkpoints, bound_of, lanes, trim


@dataclass(frozen=True, slots=True)
class Upkept:
    """What one upkeep did."""

    archived: Archived
    trimmed: int
    bounds: tuple[Bound, ...]


@dataclass(frozen=True, slots=True)
class UpkeepOptions:
    """Whose checkpoints count, where the archive is, and how long entries stay all the same."""

    models: Sequence[ReadModel]
    folder: Path
    keep_hours: int


class Upkeep:
    """Archives and trims one log."""

    def __init__(self, log: EventLog, queries: RetentionQueries, options: UpkeepOptions) -> None:
        self._log = log
        self._queries = queries
        self._models = options.models
        self._archive = Archive(log, options.folder)
        self._keep = timedelta(hours=options.keep_hours)

    async def run(self, now: datetime, *, said: Callable[[Segment], None] | None = None) -> Upkept:
        """Archive, then trim; raises HeldElsewhereError while another process archives."""
        archived = await self._archive.run(said=said)
        bounds = await self.bounds(now)
        trimmed = 0
        for bound in bounds:
            trimmed += await trim(self._log, bound)
        return Upkept(archived, trimmed, tuple(bounds))

    async def bounds(self, now: datetime) -> list[Bound]:
        """Return up to where each lane may be trimmed, and who needs the rest."""
        manifest = self._archive.manifest()
        checkpoints = await self._checkpoints()
        keep_from = now - self._keep
        return [
            await bound_of(self._log, lane, manifest, checkpoints, keep_from)
            for lane in lanes(self._log)
        ]

    async def _checkpoints(self) -> Checkpoints:
        """Return every version's checkpoints; a read model without any is at the beginning."""
        found = await self._queries.checkpoints()
        for model in self._models:
            for lane in lanes(self._log):
                if lane[0] in model.streams:
                    name = f"{model.name} version {model.version}"
                    found.setdefault(lane, {}).setdefault(name, START)
        return found
