"""Opening the log: what every role reads before it begins, however long Redis takes to come up."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack

from agents.applied import DECIDING, tell_settings
from agents.cameras import LogCameraDirectory
from domain.enrichment import GROUP_OF
from domain.errors import HsiError, ServiceUnavailableError
from runtime.settings import Settings
from runtime.tasks import is_set_within
from streams.keeping import doubts
from streams.live_settings import LiveSettings
from streams.log import EventLog

logger = logging.getLogger(__name__)

START_RETRY_SECONDS = 1.0


async def open_patiently(
    settings: Settings, names: Sequence[str], stop: asyncio.Event
) -> tuple[EventLog, LogCameraDirectory] | None:
    """Open the log and read the cameras, again and again while Redis is away or goes away.

    None when told to stop meanwhile.
    """
    said = ""
    while not stop.is_set():
        try:
            return await _open(settings, names)
        except ServiceUnavailableError as error:
            if str(error) != said:
                logger.warning("waiting for Redis: %s", error)
            said = str(error)
        await is_set_within(stop, START_RETRY_SECONDS)
    return None


async def _open(settings: Settings, names: Sequence[str]) -> tuple[EventLog, LogCameraDirectory]:
    if settings.redis_url is None:
        raise HsiError("the agents need REDIS_URL; `hsi up` starts an embedded server")
    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    async with AsyncExitStack() as unfinished:
        log = await EventLog.open(
            settings.redis_url, password=password, partitions=settings.stream_partitions
        )
        unfinished.push_async_callback(log.close)
        for doubt in await doubts(log.client):
            logger.warning("REDIS_URL: %s", doubt)
        await log.use_groups([GROUP_OF[service] for service in settings.enrichment_urls])
        await log.use_groups([*settings.trial_groups, *settings.alert_groups])
        await log.use_groups(settings.scene_groups)
        if DECIDING & set(names):
            live = await LiveSettings.load(log, settings)
            await tell_settings(log, live.current)
        cameras = LogCameraDirectory(log)
        await cameras.open()
        unfinished.pop_all()
    return log, cameras
