"""The camera directory: every camera as the `cameras` stream last described it, kept in memory."""

import asyncio
import logging

from domain.errors import ServiceUnavailableError
from domain.events import CameraRegistered, CameraRemoved, CameraUpdated
from domain.risk import CameraView
from runtime.tasks import unless_stopped
from streams.envelope import START, Envelope, Position
from streams.log import EventLog

logger = logging.getLogger(__name__)

READ_RUN = 500
BLOCK_MS = 5_000
RETRY_SECONDS = 0.5


class LogCameraDirectory:
    """Follows the `cameras` stream; `open` returns once it has read what is there."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._cursors: dict[tuple[str, int], Position] = {
            ("cameras", partition): START for partition in range(log.partitions)
        }
        self._views: dict[str, CameraView] = {}
        self._enabled: dict[str, bool] = {}
        self._notifies: dict[str, bool] = {}
        self._scene_thresholds: dict[str, float] = {}
        self._removals: dict[str, str] = {}

    async def open(self) -> None:
        """Read the stream up to its present end."""
        for partition in range(self._log.partitions):
            key = ("cameras", partition)
            while envelopes := await self._log.read(*key, self._cursors[key], READ_RUN):
                for envelope in envelopes:
                    self.apply(envelope)
                self._cursors[key] = envelopes[-1].position

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the stream until `stop` is set."""
        while not stop.is_set():
            try:
                following = self._log.follow(self._cursors, count=READ_RUN, block_ms=BLOCK_MS)
                envelopes = await unless_stopped(stop, following)
            except ServiceUnavailableError as error:
                logger.warning("the camera directory waits for Redis: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for envelope in envelopes or ():
                self.apply(envelope)
                self._cursors[envelope.stream, envelope.partition] = envelope.position

    def apply(self, envelope: Envelope) -> None:
        """Fold one event of the `cameras` stream."""
        match event := envelope.event:
            case CameraRegistered():
                self._views[event.camera_id] = CameraView(event.name, event.entry_point)
                self._enabled[event.camera_id] = event.enabled
                self._notifies[event.camera_id] = event.when_unavailable == "notify"
                self._own_threshold(event.camera_id, event.scene_change_threshold or 0.0)
                self._removals.pop(event.camera_id, None)
            case CameraUpdated():
                view = self.view(event.camera_id)
                name = view.name if event.name is None else event.name
                entry = view.entry_point if event.entry_point is None else event.entry_point
                self._views[event.camera_id] = CameraView(name, entry)
                if event.enabled is not None:
                    self._enabled[event.camera_id] = event.enabled
                if event.when_unavailable is not None:
                    self._notifies[event.camera_id] = event.when_unavailable == "notify"
                if event.scene_change_threshold is not None:
                    self._own_threshold(event.camera_id, event.scene_change_threshold)
            case CameraRemoved():
                self._views.pop(event.camera_id, None)
                self._enabled.pop(event.camera_id, None)
                self._notifies.pop(event.camera_id, None)
                self._scene_thresholds.pop(event.camera_id, None)
                self._removals[event.camera_id] = envelope.id

    def view(self, camera_id: str) -> CameraView:
        """Return the camera; one that was never described gets its id as a name."""
        return self._views.get(camera_id, CameraView(camera_id, entry_point=False))

    def known(self, camera_id: str) -> bool:
        """Say whether a camera is registered (and not removed)."""
        return camera_id in self._views

    def removed_by(self, camera_id: str) -> str | None:
        """Return the id of the event that removed a camera; None for any other camera."""
        return self._removals.get(camera_id)

    def enabled(self, camera_id: str) -> bool:
        """Say whether a camera's pictures are to be looked at; an unknown camera's are."""
        return self._enabled.get(camera_id, True)

    def notifies(self, camera_id: str) -> bool:
        """Say whether a camera's pictures are to be told of while nothing can look at them."""
        return self.enabled(camera_id) and self._notifies.get(camera_id, False)

    def scene_threshold(self, camera_id: str) -> float | None:
        """Return a camera's own SCENE_CHANGE_THRESHOLD; None: it has none."""
        return self._scene_thresholds.get(camera_id)

    def _own_threshold(self, camera_id: str, value: float) -> None:
        self._scene_thresholds.pop(camera_id, None)
        if value:
            self._scene_thresholds[camera_id] = value
