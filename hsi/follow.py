"""Follows the log from now on and shows what happens; survives a Redis that goes away."""

import asyncio
from typing import Final
from zoneinfo import ZoneInfo

from domain.errors import ServiceUnavailableError
from hsi.happenings import FOLLOWED, describe
from hsi.screen import Screen
from runtime.settings import Settings
from streams.envelope import Position
from streams.log import EventLog

AGAIN_SECONDS: Final = 1.0
BLOCK_MS: Final = 10_000
RUN: Final = 200

Cursors = dict[tuple[str, int], Position]


async def follow(url: str, settings: Settings, screen: Screen, opened: asyncio.Event) -> None:
    """Show every event appended from now on; `opened` is set once none can be missed."""
    cursors: Cursors = {}
    while True:
        try:
            log = await open_log(url, settings)
            try:
                await _found_cursors(log, cursors)
                opened.set()
                await _show(log, cursors, screen, ZoneInfo(settings.camera_timezone))
            finally:
                await log.close()
        except ServiceUnavailableError as error:
            screen.say(f"the live view waits: {error}")
            await asyncio.sleep(AGAIN_SECONDS)


async def open_log(url: str, settings: Settings) -> EventLog:
    """Open the log at a URL that may be an embedded server's."""
    # An embedded server's URL carries its password; the setting is for a REDIS_URL of one's own.
    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    mine = settings.redis_url is not None
    return await EventLog.open(
        url, password=password if mine else None, partitions=settings.stream_partitions
    )


async def _found_cursors(log: EventLog, cursors: Cursors) -> None:
    for stream in FOLLOWED:
        for partition in range(log.partitions):
            if (stream, partition) not in cursors:
                cursors[stream, partition] = await log.newest(stream, partition)


async def _show(log: EventLog, cursors: Cursors, screen: Screen, zone: ZoneInfo) -> None:
    while True:
        envelopes = await log.follow(cursors, count=RUN, block_ms=BLOCK_MS)
        lines = []
        for envelope in sorted(envelopes, key=lambda found: found.position):
            cursors[envelope.stream, envelope.partition] = envelope.position
            if (line := describe(envelope, zone)) is not None:
                lines.append(line)
        if lines:
            screen.show(lines)
