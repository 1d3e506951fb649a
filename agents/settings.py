"""Follows the settings that are changed while everything runs, in a process of agents."""

import asyncio
import logging
from collections.abc import Callable

from domain.errors import ServiceUnavailableError
from domain.events import SYSTEM
from runtime.settings import Settings
from runtime.tasks import is_set_within, unless_stopped
from streams.envelope import Envelope
from streams.live_settings import LiveSettings
from streams.log import EventLog

logger = logging.getLogger(__name__)

READ_RUN = 500
BLOCK_MS = 5_000
RETRY_SECONDS = 0.5


class SettingsFollower:
    """Keeps a process's settings what the log says."""

    def __init__(self, log: EventLog, own: Settings) -> None:
        self.live = LiveSettings(own)
        self._log = log
        self._own = own
        self.hearers: list[Callable[[Envelope], None]] = []
        """Get every entry of the stream from this process's start on, too."""

    async def open(self, stop: asyncio.Event) -> bool:
        """Take what was changed before this start; False when told to stop meanwhile."""
        while not stop.is_set():
            try:
                self.live = await LiveSettings.load(self._log, self._own)
            except ServiceUnavailableError as error:
                logger.warning("the settings wait for Redis: %s", error)
                await is_set_within(stop, RETRY_SECONDS)
            else:
                return True
        return False

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the stream `system` until `stop` is set."""
        key = ("system", self._log.partition_of(SYSTEM))
        while not stop.is_set():
            cursors = {key: self.live.changed.position}
            try:
                following = self._log.follow(cursors, count=READ_RUN, block_ms=BLOCK_MS)
                envelopes = await unless_stopped(stop, following)
            except ServiceUnavailableError as error:
                logger.warning("the settings wait for Redis: %s", error)
                await is_set_within(stop, RETRY_SECONDS)
                continue
            for envelope in envelopes or ():
                self.live.hear(envelope)
                for hear in self.hearers:
                    hear(envelope)
