"""While the detector is away: tells that a picture waits unseen, for cameras that wish it.

The pictures stay where they are and are looked at later, with their own times. This only reads
beside the paused stage, from what nobody has handled on, and only while the stage's gate is
closed: otherwise it sleeps. Any number of processes may do it, since each telling is decided in
one atomic call in the log (`streams.waiting`).
"""

import asyncio
import logging
from typing import Protocol

from domain.errors import ServiceUnavailableError
from domain.events import ActivityUnverified, ImageReceived
from runtime.tasks import is_set_within, unless_stopped
from streams.envelope import Envelope
from streams.gate import StateListener
from streams.log import EventLog
from streams.waiting import Waiting

logger = logging.getLogger(__name__)

READ_RUN = 500
BLOCK_MS = 5_000
RETRY_SECONDS = 1.0


class CameraWishes(Protocol):
    """Which cameras want to be told of, and whether their pictures are looked at at all."""

    def notifies(self, camera_id: str) -> bool:
        """Say whether a camera's waiting pictures are to be told of as unverified."""
        ...


class Unverified:
    """Follows the pictures that wait while the stage's gate is closed."""

    def __init__(self, log: EventLog, cameras: CameraWishes) -> None:
        self._log = log
        self._cameras = cameras
        self._waiting = Waiting(log, "detect", "detections")
        self._service = ""
        """What is away; empty while the gate is open."""
        self._outages = 0
        self._closed = asyncio.Event()
        self._opened = asyncio.Event()

    def beside(self, listener: StateListener) -> StateListener:
        """Return a listener of the gate that tells `listener`, and begins and ends this."""

        def on_state(service: str, answers: bool, message: str) -> None:
            listener(service, answers, message)
            self._service = "" if answers else service
            if answers:
                self._closed.clear()
                self._opened.set()
            else:
                self._outages += 1
                self._opened.clear()
                self._closed.set()

        return on_state

    async def run(self, stop: asyncio.Event) -> None:
        """Tell until `stop` is set; Redis away is waited for."""
        while not stop.is_set():
            await unless_stopped(stop, self._closed.wait())
            try:
                await unless_stopped(stop, self._follow())
            except ServiceUnavailableError as error:
                logger.warning("what waits unseen cannot be told yet: %s", error)
                await is_set_within(stop, RETRY_SECONDS)

    async def _follow(self) -> None:
        """Go through what waits, then what arrives, until the gate opens."""
        outage, stream = self._outages, self._waiting.stream
        cursors = {
            (stream, partition): await self._waiting.begin(partition)
            for partition in range(self._log.partitions)
        }
        told: set[str] = set()
        while self._closed.is_set() and outage == self._outages:
            reading = self._log.follow(cursors, count=READ_RUN, block_ms=BLOCK_MS)
            for envelope in await unless_stopped(self._opened, reading) or ():
                await self._look(envelope, told)
                cursors[envelope.stream, envelope.partition] = envelope.position

    async def _look(self, envelope: Envelope, told: set[str]) -> None:
        """Tell of a picture if its camera wishes it and was not told of in this outage."""
        event, service = envelope.event, self._service
        # One that was appended anew for a group is none that has just arrived.
        if not isinstance(event, ImageReceived) or envelope.only_for or not service:
            return
        camera = event.camera_id
        if camera in told or not self._cameras.notifies(camera):
            return
        unverified = ActivityUnverified(
            camera_id=camera,
            picture_id=event.picture_id,
            file_id=event.file_id,
            captured_at=event.captured_at,
            service=service,
            reason="service_away",
        )
        if await self._waiting.tell(envelope, unverified):
            told.add(camera)
