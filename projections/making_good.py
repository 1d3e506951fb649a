"""Making good: tables that are ahead of a log that lost its end are made anew from it, unasked.

Nobody needs to decide anything: (1) it is the same log, since the checkpoints are of its own life;
(2) the log, with its archive, holds all that it ever took in but what it lost, else nothing is
begun; (3) readers keep the tables they have until the new ones are whole; (4) what was live then
stays in a schema of its own until the next rebuild.
"""

import asyncio
import logging
import random
from collections.abc import Sequence

from domain.errors import HsiError
from projections.checkpoints import AheadOfLogError
from projections.database import Pool
from projections.read_model import ReadModel
from projections.rebuild import Rebuild, RebuildRunningError, Rebuilt
from projections.runner import AWAY, FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS
from projections.windows import Past
from runtime.tasks import is_set_within, unless_stopped
from streams.log import EventLog

_log = logging.getLogger(__name__)


class IncompleteLogError(HsiError):
    """Entries were taken out of the log by other hands than the archive's."""


async def make_good(
    log: EventLog, past: Past, pool: Pool, models: Sequence[ReadModel], stop: asyncio.Event
) -> None:
    """Rebuild the read models that are ahead of the log, waiting out whatever is away.

    Returns early when `stop` is set: what was begun is gone on with next time. Raises
    IncompleteLogError or MissingHistoryError when the rows could not all be made again.
    """
    wait = FIRST_WAIT_SECONDS
    while not stop.is_set():
        try:
            await check_whole(log, models)
            rebuild = Rebuild(log, past, pool)
            rebuilt = await unless_stopped(stop, rebuild.make_good(models))
        except RebuildRunningError as error:
            _log.info("%s", error)
        except AheadOfLogError as error:
            _log.warning("it has lost its end again meanwhile: %s", error)
        except AWAY as error:
            _log.warning(
                "making the tables anew waits %.1f s and goes on where it was: %s",
                wait,
                str(error).strip(),
                extra={"action": "projection_waits"},
            )
        else:
            _tell(rebuilt or [])
            return
        await is_set_within(stop, wait * random.uniform(0.8, 1.2))  # noqa: S311 - jitter only
        wait = min(wait * 2, LONGEST_WAIT_SECONDS)


async def check_whole(log: EventLog, models: Sequence[ReadModel]) -> None:
    """Raise IncompleteLogError unless log and archive hold all that the log ever took in."""
    for stream in sorted({stream for model in models for stream in model.streams}):
        for partition in range(log.partitions):
            if not await log.is_whole(stream, partition):
                raise IncompleteLogError(
                    f"the log has lost its end, and from {stream}/{partition} entries were taken "
                    "out by hand (XTRIM, XDEL): tables made anew would lack their rows, so this "
                    "is not done unasked; `hsi projections rebuild all` does it"
                )


def _tell(rebuilt: Sequence[Rebuilt]) -> None:
    if not rebuilt:
        return  # Another process has done it.
    _log.warning(
        "the tables were made anew after the log had lost its end, in %.1f s: %s; what was live "
        "is kept as the version before until the next rebuild",
        max(each.seconds for each in rebuilt),
        ", ".join(f"{each.projection} version {each.version}" for each in rebuilt),
        extra={"action": "made_good"},
    )
