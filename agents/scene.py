"""ImageReceived → scene.*: does each camera still look at what it looked at?

One owner a partition. The state of its cameras is a fold of the stream `scenes`, to which people
append too, when they acknowledge a change: what was decided on an outdated fold is refused and
decided again. Nobody waits for a check, so it comes when the main line rests, at most one a
camera each SCENE_CHANGE_INTERVAL_SECONDS, and a picture that cannot be looked at is passed by.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

import msgspec

from agents.detect import PictureSource
from domain.errors import PermanentError, ServiceUnavailableError
from domain.events import EntryParked, Event, ImageReceived, SceneChecked, SceneView
from domain.ids import picture_id
from domain.outcomes import Done, Outcome
from domain.scene_changes import SceneState, begin, decide, evolve, folded, is_due
from inference import scene_views
from inference.scene_views import Pixels
from streams.channel import StreamChannel, each
from streams.envelope import START, Envelope, Position
from streams.feed import Run
from streams.history import History
from streams.log import EventLog
from streams.scene_views import SceneViews
from streams.segments import ArchiveError

logger = logging.getLogger(__name__)

ROLE: Final = "scene"
FOLDED: Final = SceneChecked.STREAM
FOLD_RUN: Final = 1000
SNAPSHOT_EVERY: Final = 500
"""Events folded since the last snapshot after which the next one is stored."""
PACE_SECONDS: Final = 5.0
"""Between two reads of new pictures."""
RUN_SIZE: Final = 20
RETRY_SECONDS: Final = 1.0
ARCHIVE_RETRY_SECONDS: Final = 10.0


class Cameras(Protocol):
    """What is known of the cameras."""

    def enabled(self, camera_id: str) -> bool:
        """Say whether a camera's pictures are to be looked at."""
        ...

    def scene_threshold(self, camera_id: str) -> float | None:
        """Return a camera's own SCENE_CHANGE_THRESHOLD; None: it has none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneOptions:
    """How views are compared."""

    threshold: float = 0.90
    width: int = 640
    interval: timedelta = timedelta(seconds=5)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A fold of one partition's stream `scenes` up to a position."""

    incarnation: str
    ms: int
    seq: int
    cameras: dict[str, SceneState]


class PartitionScenes:
    """The state of one partition's cameras, and where in the stream `scenes` it stands."""

    def __init__(self, log: EventLog, partition: int, archive_dir: Path | None) -> None:
        self._log = log
        self._past = History(log, archive_dir)
        self.partition = partition
        self.views = SceneViews(log, partition)
        self.lock = asyncio.Lock()
        self.cameras: dict[str, SceneState] = {}
        self.position = START
        self.stale = True
        """True while the log may hold more than was folded."""
        self._unsaved = 0
        self._kept: frozenset[str] | None = None
        """Picture ids of the views that are stored; None: nobody has looked yet."""

    async def freshen(self) -> None:
        """Fold up to the log's end if that may lie further; waits until it worked."""
        while self.stale:
            try:
                await self._catch_up()
            except ServiceUnavailableError as error:
                logger.warning("scenes of partition %d wait: %s", self.partition, error)
                await asyncio.sleep(RETRY_SECONDS)
            except ArchiveError as error:
                logger.error("scenes of partition %d wait: %s", self.partition, error)
                await asyncio.sleep(ARCHIVE_RETRY_SECONDS)

    async def _catch_up(self) -> None:
        # An end that was deleted or trimmed counts as folded: nothing can come before it.
        end = await self._log.newest(FOLDED, self.partition)
        if self.position == START or end < self.position:
            await self._start_over()
        past = self._past.read_all(FOLDED, self.partition, self.position, count=FOLD_RUN)
        async for envelopes in past:
            for envelope in envelopes:
                camera_id = envelope.event.camera_id
                state = self.cameras.get(camera_id, SceneState())
                self.cameras[camera_id] = evolve(state, envelope.event)
            self.position = envelopes[-1].position
            self._unsaved += len(envelopes)
        self.position = max(self.position, end)
        self.stale = False

    async def _start_over(self) -> None:
        self.cameras, self.position, self._unsaved = {}, START, 0
        stored = await self._log.load_snapshot(ROLE, self.partition)
        if stored is None:
            return
        try:
            snapshot = msgspec.json.decode(stored, type=Snapshot)
        except msgspec.MsgspecError as error:
            # It only saves time: without it the whole past is folded.
            logger.warning("the snapshot of partition %d is not used: %s", self.partition, error)
            return
        if snapshot.incarnation == self._log.incarnation:
            self.cameras = snapshot.cameras
            self.position = Position(snapshot.ms, snapshot.seq)

    async def took(self, cameras: dict[str, SceneState], end: Position, events: int) -> None:
        """Take over what was decided, now that the log has it up to `end`."""
        self.cameras, self.position = cameras, max(self.position, end)
        self.stale = False
        self._unsaved += events
        views = (view for state in cameras.values() for view in state.views)
        kept = frozenset(view.picture_id for view in views)
        try:
            if kept != self._kept:
                await self.views.keep_only(kept)
                self._kept = kept
            if self._unsaved >= SNAPSHOT_EVERY:
                await self._save()
        except ServiceUnavailableError as error:
            logger.warning("the snapshot of partition %d waits: %s", self.partition, error)

    async def _save(self) -> None:
        snapshot = Snapshot(
            incarnation=self._log.incarnation,
            ms=self.position.ms,
            seq=self.position.seq,
            cameras=self.cameras,
        )
        await self._log.store_snapshot(ROLE, self.partition, msgspec.json.encode(snapshot))
        self._unsaved = 0


Turn = Callable[[int], Awaitable[None]]
"""Returns when a picture that was recorded then (ms) may be looked at."""


class Scenes:
    """The scene role over all partitions this process may come to own."""

    def __init__(
        self,
        log: EventLog,
        pictures: PictureSource,
        cameras: Cameras,
        options: SceneOptions,
        turn: Turn,
        *,
        archive_dir: Path | None = None,
    ) -> None:
        self._pictures = pictures
        self._known = cameras
        self._options = options
        self._turn = turn
        self.partitions = [
            PartitionScenes(log, partition, archive_dir) for partition in range(log.partitions)
        ]

    async def on_owned(self, partition: int) -> None:
        """Fold a partition that this process has just come to own."""
        scenes = self.partitions[partition]
        async with scenes.lock:
            scenes.stale = True
            await scenes.freshen()

    async def handle(self, channel: StreamChannel, run: Run) -> None:
        """Check a run's pictures and settle it; what the log did not take is forgotten."""
        scenes = self.partitions[run.feed.group.partition]
        decided: dict[str, SceneState] = {}
        events = 0

        async def answers(envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
            nonlocal decided, events
            await scenes.freshen()
            if run.feed.lease:
                run.feed.lease.folded = (FOLDED, scenes.position)
            # Until the settlement's answer is here, the log may have more than was folded.
            scenes.stale = True
            decided, events = dict(scenes.cameras), 0
            return await each(answer)(envelopes)

        async def answer(envelope: Envelope) -> Outcome:
            nonlocal events
            found = await self._found(scenes, decided, envelope)
            events += len(found)
            return Done(found, passed_by=not found)

        async with scenes.lock:
            all_ours = await channel.handle(run, answers)
            appended = run.feed.last_follow_ups
            if all_ours and EntryParked.STREAM not in appended:
                await scenes.took(decided, appended.get(FOLDED, scenes.position), events)

    async def _found(
        self, scenes: PartitionScenes, decided: dict[str, SceneState], envelope: Envelope
    ) -> tuple[Event, ...]:
        """Return what one entry leads to, and fold it into `decided`."""
        picture = envelope.event
        if not isinstance(picture, ImageReceived) or not self._known.enabled(picture.camera_id):
            return ()
        state = decided.get(picture.camera_id, SceneState())
        if not is_due(state, picture.captured_at, self._options.interval):
            return ()
        await self._turn(envelope.position.ms)
        try:
            found = await self._checked(scenes.views, state, picture)
        except PermanentError as error:
            # The detect stage says what is wrong with a picture; here another one will do.
            logger.info("the view of picture %s is not checked: %s", picture.picture_id, error)
            return ()
        decided[picture.camera_id] = folded(state, found)
        return found

    async def _checked(
        self, views: SceneViews, state: SceneState, picture: ImageReceived
    ) -> tuple[Event, ...]:
        # A video's frame carries the SHA-256 of its video; only a file's own can be checked.
        whole = picture.sha256 if picture.frame_offset_seconds is None else None
        now = await asyncio.to_thread(self._read, picture.uri, whole)
        camera_id, view = picture.camera_id, _view(picture)
        known = state.baseline
        baseline = None if known is None else await self._load(views, camera_id, known)
        if baseline is None:
            found = begin(camera_id, view, lost=known is not None)
        else:
            threshold = self._known.scene_threshold(camera_id) or self._options.threshold
            look = await asyncio.to_thread(scene_views.compare, baseline, now, threshold)
            if look is None:
                found = begin(camera_id, view)
            else:
                found = decide(state, camera_id, view, look, threshold)
        if view in folded(state, found).views:
            await views.store(view.picture_id, await asyncio.to_thread(scene_views.packed, now))
        return found

    async def _load(self, views: SceneViews, camera_id: str, view: SceneView) -> Pixels | None:
        """Return a view as it is stored, or made anew from its picture; None: it is lost."""
        try:
            if (stored := await views.load(view.picture_id)) is not None:
                return await asyncio.to_thread(scene_views.unpacked, stored)
            return await asyncio.to_thread(self._read_again, camera_id, view)
        except PermanentError as error:
            logger.warning("the baseline of picture %s is lost: %s", view.picture_id, error)
            return None

    def _read(self, uri: str, digest: str | None) -> Pixels:
        data = self._pictures.read(uri, expected_sha256=digest)
        return scene_views.view_of(data, uri, self._options.width)

    def _read_again(self, camera_id: str, view: SceneView) -> Pixels:
        data = self._pictures.read(view.uri)
        same = picture_id(camera_id, sha256(data).hexdigest(), view.captured_at)
        if view.uri.startswith("camera:") and same != view.picture_id:
            raise PermanentError(f"picture {view.uri} was overwritten since it was taken in")
        return scene_views.view_of(data, view.uri, self._options.width)


def _view(picture: ImageReceived) -> SceneView:
    return SceneView(
        picture_id=picture.picture_id,
        file_id=picture.file_id,
        path=picture.path,
        uri=picture.uri,
        captured_at=picture.captured_at,
    )
