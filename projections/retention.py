"""Retention: decides what is too old, tells the log so, and deletes the pictures' files.

The read models delete by the events (`projections.redaction`), so a rebuild comes to the same
rows. A run goes camera by camera: count, append `retention.applied` (only if no legal hold came
between), then delete the files that it marked, and at the end `retention.finished`. A run that
was stopped anywhere is finished by the next one, with the same moment and cut-off.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from domain.errors import ServiceUnavailableError
from domain.events import SYSTEM, RetentionApplied, RetentionFinished
from domain.ids import follow_up_id, instant
from projections.queries import Queries
from projections.retention_queries import Begun, Holds, Picture, RetentionQueries, RunRow
from streams.envelope import NewEvent, Position
from streams.fenced import append_if_last
from streams.holding import holding
from streams.lease import Lease
from streams.log import EventLog

WAIT_SECONDS = 30.0
"""How long a run waits for the read models to show what the log holds."""

LOG_DAYS = 7
"""For how long log records are kept unless somebody says otherwise."""

DAILY_AT = time(3, 0)
"""Local time at the cameras."""

_READERS = (
    ("ledger", "files"),
    ("ledger", "assessments"),
    ("detections", "detections"),
    ("detections", "assessments"),
    ("timeline", "assessments"),
)


class PictureFiles(Protocol):
    """Deletes pictures' files; blocking."""

    def size_of(self, uri: str, sha256_hex: str | None) -> int | None:
        """Return the size of a file that still holds these bytes; None when there is none."""
        ...

    def delete(self, uri: str, sha256_hex: str | None) -> bool:
        """Delete a file if it still holds these bytes; return whether it was there."""
        ...


class ClipFiles(Protocol):
    """Deletes the clips that were made of pictures; blocking."""

    def measure(self, cutoff: datetime, kept_events: Collection[str]) -> tuple[int, int]:
        """Return how many clips show a picture of before `cutoff`, and their bytes.

        Those of `kept_events` do not count.
        """
        ...

    def delete_older(self, cutoff: datetime, kept_events: Collection[str]) -> tuple[int, int]:
        """Delete these; return the same figures."""
        ...


@dataclass(frozen=True, slots=True)
class Figures:
    """How much a run deletes."""

    events: int = 0
    detections: int = 0
    gpu_samples: int = 0
    images: int = 0
    bytes: int = 0
    logs: int = 0
    clips: int = 0

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(
            self.events + other.events,
            self.detections + other.detections,
            self.gpu_samples + other.gpu_samples,
            self.images + other.images,
            self.bytes + other.bytes,
            self.logs + other.logs,
            self.clips + other.clips,
        )


def figures_of(row: RunRow) -> Figures:
    """Return what a finished run deleted."""
    return Figures(
        row.events_deleted,
        row.detections_deleted,
        row.gpu_stats_deleted,
        row.images_deleted,
        row.space_reclaimed,
        row.logs_deleted,
        row.clips_deleted,
    )


def cutoff_of(now: datetime, days: int, zone: ZoneInfo) -> datetime:
    """Return the moment before which things are too old: a local midnight, `days` days ago.

    What happened `days` days ago is kept to the end of that day.
    """
    day = now.astimezone(zone).date() - timedelta(days=days)
    return datetime.combine(day, time.min, zone).astimezone(UTC)


def last_due(now: datetime, zone: ZoneInfo) -> datetime:
    """Return when the daily run was due last."""
    local = now.astimezone(zone)
    due = datetime.combine(local.date(), DAILY_AT, zone)
    if due > local:
        due = datetime.combine(local.date() - timedelta(days=1), DAILY_AT, zone)
    return due.astimezone(UTC)


def next_due(now: datetime, zone: ZoneInfo) -> datetime:
    """Return when the daily run is due next."""
    local = now.astimezone(zone)
    due = datetime.combine(local.date(), DAILY_AT, zone)
    if due <= local:
        due = datetime.combine(local.date() + timedelta(days=1), DAILY_AT, zone)
    return due.astimezone(UTC)


class Retention:
    """Plans and does retention runs; one at a time over all processes."""

    def __init__(
        self,
        log: EventLog,
        queries: RetentionQueries,
        progress: Queries,
        files: PictureFiles,
        *,
        days: int,
        zone: ZoneInfo,
    ) -> None:
        self._log = log
        self._queries = queries
        self._progress = progress
        self._files = files
        self._clips: ClipFiles | None = None
        self.days = days
        self.log_days = LOG_DAYS
        self._zone = zone

    def keep_days(self, days: int) -> None:
        """Keep things for `days` days from the next run on."""
        self.days = days

    def keep_log_days(self, days: int) -> None:
        """Keep log records for `days` days from the next run on."""
        self.log_days = days

    def also_delete(self, clips: ClipFiles) -> None:
        """Delete these clips with the pictures that they show, from the next run on."""
        self._clips = clips

    async def last_run(self) -> RunRow | None:
        """Return the newest run that was finished."""
        return await self._queries.last_run()

    async def unfinished_run(self) -> Begun | None:
        """Return a run that was begun and not finished."""
        return await self._queries.unfinished_run()

    def next_due(self, now: datetime) -> datetime:
        """Return when the daily run is due next."""
        return next_due(now, self._zone)

    async def is_due(self, now: datetime, since: datetime) -> bool:
        """Say whether a run was missed, was left unfinished, or is due at `now`.

        Before the first run ever: when anything is old, or a run fell due after `since`.
        """
        due = last_due(now, self._zone)
        if await self._queries.unfinished_run() is not None:
            return True
        last = await self._queries.last_run()
        if last is None:
            return due >= since or await self.plan(now) != Figures()
        return last.as_of < due

    async def plan(self, now: datetime) -> Figures:
        """Return what a run at `now` would delete; nothing is changed."""
        run = Begun(as_of=now, cutoff=cutoff_of(now, self.days, self._zone))
        await self._caught_up(self._all_ends())
        holds = await self._queries.holds()
        clips, clip_bytes = (0, 0)
        if self._clips is not None:
            clips, clip_bytes = await asyncio.to_thread(
                self._clips.measure, run.cutoff, holds.events
            )
        total = Figures(
            gpu_samples=await self._queries.old_samples(run.cutoff),
            logs=await self._progress.old_logs(self._log_cutoff(run)),
            clips=clips,
            bytes=clip_bytes,
        )
        for camera in await self._queries.cameras(run, holds):
            total += await self._figures(camera, run, holds)
        return total

    async def run(self, now: datetime) -> RunRow:
        """Delete what is too old at `now`; finish first what an earlier run has left.

        Raises HeldElsewhereError while another process does so.
        """
        async with holding(Lease(self._log, "retention", 0), "retention") as lost:
            await self._caught_up(self._all_ends())
            unfinished = await self._queries.unfinished_run()
            if unfinished is not None:
                await self._run(unfinished, lost)
            return await self._run(
                Begun(as_of=now, cutoff=cutoff_of(now, self.days, self._zone)), lost
            )

    async def _run(self, run: Begun, lost: asyncio.Event) -> RunRow:
        holds = await self._queries.holds()
        done = {row.camera_id for row in await self._queries.applied(run.as_of)}
        for camera in await self._queries.cameras(run, holds):
            if camera not in done:
                self._still_ours(lost)
                await self._redact(camera, run)
        await self._caught_up(self._ends("assessments"))
        self._still_ours(lost)
        await asyncio.to_thread(self._delete, await self._queries.marked_pictures(run.as_of))
        return await self._finish(run)

    def _still_ours(self, lost: asyncio.Event) -> None:
        if lost.is_set():
            raise ServiceUnavailableError(
                "redis", "the retention run was cut off from Redis; the next one finishes it"
            )

    async def _redact(self, camera: str, run: Begun) -> None:
        """Count, then append the rule, unless a hold on this camera came between."""
        while True:
            holds = await self._queries.holds()
            figures = await self._figures(camera, run, holds)
            while True:
                partition = self._log.partition_of(camera)
                last = await self._log.newest("assessments", partition)
                await self._caught_up({("assessments", partition): last})
                if set(await self._queries.held_events(camera)) - set(holds.events):
                    break  # A new hold: what was counted is no longer right.
                applied = _applied(camera, run, holds, figures)
                if await append_if_last(self._log, applied, last) is not None:
                    return

    async def _figures(self, camera: str, run: Begun, holds: Holds) -> Figures:
        events, detections = await self._queries.old_rows(camera, run, holds)
        pictures = await self._queries.old_pictures(camera, run, holds)
        images, size = await asyncio.to_thread(self._measure, pictures)
        return Figures(events, detections, 0, images, size)

    def _measure(self, pictures: Sequence[Picture]) -> tuple[int, int]:
        # The same file may stand in the ledger twice (its bytes again, under the same name).
        unique = {picture.uri: picture for picture in pictures}.values()
        sizes = [self._files.size_of(picture.uri, picture.sha256) for picture in unique]
        found = [size for size in sizes if size is not None]
        return len(found), sum(found)

    def _delete(self, pictures: Sequence[Picture]) -> None:
        for picture in pictures:
            self._files.delete(picture.uri, picture.sha256)

    async def _finish(self, run: Begun) -> RunRow:
        rows = await self._queries.applied(run.as_of)
        clips, clip_bytes = await self._delete_clips(run)
        row = RunRow(
            as_of=run.as_of,
            cutoff=run.cutoff,
            finished_at=datetime.now(UTC),
            retention_days=self.days,
            events_deleted=sum(row.events_deleted for row in rows),
            detections_deleted=sum(row.detections_deleted for row in rows),
            gpu_stats_deleted=await self._queries.old_samples(run.cutoff),
            images_deleted=sum(row.images_deleted for row in rows),
            space_reclaimed=sum(row.space_reclaimed for row in rows) + clip_bytes,
            clips_deleted=clips,
            logs_deleted=await self._progress.delete_logs(self._log_cutoff(run)),
        )
        told = {name: getattr(row, name) for name in RunRow.__struct_fields__}
        event = RetentionFinished(camera_id=SYSTEM, **told)
        new_id = follow_up_id(instant(run.as_of), event.TAG)
        position = await self._log.append(NewEvent(new_id, event, new_id))
        partition = self._log.partition_of(SYSTEM)
        await self._reached("telemetry", "system", partition, position)
        return row

    async def _delete_clips(self, run: Begun) -> tuple[int, int]:
        if self._clips is None:
            return 0, 0
        held = (await self._queries.holds()).events
        return await asyncio.to_thread(self._clips.delete_older, run.cutoff, held)

    def _log_cutoff(self, run: Begun) -> datetime:
        return cutoff_of(run.as_of, self.log_days, self._zone)

    # --- how far the read models are --------------------------------------------------------

    def _ends(self, *streams: str) -> dict[tuple[str, int], Position | None]:
        return {(s, p): None for s in streams for p in range(self._log.partitions)}

    def _all_ends(self) -> dict[tuple[str, int], Position | None]:
        return self._ends("files", "detections", "assessments")

    async def _caught_up(
        self, ends: "dict[tuple[str, int], Position | None] | dict[tuple[str, int], Position]"
    ) -> None:
        """Wait until the read models show these lanes up to a position (None: their end now)."""
        for (stream, partition), end in ends.items():
            position = end or await self._log.newest(stream, partition)
            for projection, reads in _READERS:
                if reads == stream:
                    await self._reached(projection, stream, partition, position)

    async def _reached(
        self, projection: str, stream: str, partition: int, position: Position
    ) -> None:
        if not await self._progress.wait_for(
            projection, stream, partition, position, WAIT_SECONDS
        ):
            raise ServiceUnavailableError(
                "projections",
                f"the read model {projection} is more than {WAIT_SECONDS:g} s behind {stream}/"
                f"{partition}; retention waits for it (is the role project running?)",
            )


def _applied(camera: str, run: Begun, holds: Holds, figures: Figures) -> NewEvent:
    event = RetentionApplied(
        camera_id=camera,
        cutoff=run.cutoff,
        as_of=run.as_of,
        kept_event_ids=tuple(holds.events),
        kept_picture_ids=tuple(holds.pictures),
        kept_file_ids=tuple(holds.files),
        events_deleted=figures.events,
        detections_deleted=figures.detections,
        images_deleted=figures.images,
        space_reclaimed=figures.bytes,
    )
    new_id = follow_up_id(f"{instant(run.as_of)} {camera}", event.TAG)
    return NewEvent(new_id, event, new_id)
