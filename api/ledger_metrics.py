"""How many files are in each state, for scrapes that must not wait for a long count.

Counting takes longer the more files there are. So a count goes on by itself, at most one at a
time, and a scrape takes the last one that is done. Only where none is done yet, it waits for the
first as long as for every other source, and the log says so when it has to go without.
"""

import asyncio
import logging
import time
from typing import Final

from domain.errors import TransientError
from projections.queries import Queries
from runtime.tasks import end

logger = logging.getLogger(__name__)

FRESH_SECONDS: Final = 10.0
"""A count so young is answered again."""
WAIT_SECONDS: Final = 0.01
"""How long a scrape waits for a newer count: where there are few files, it is done by then."""
FIRST_WAIT_SECONDS: Final = 1.0
"""How long it waits where there is none to answer: without it a whole family would be left out."""


class LedgerMetrics:
    """The last count of the ledger's states."""

    def __init__(self) -> None:
        self._states: dict[str, int] | None = None
        self._counted_at = 0.0
        self._counting: asyncio.Task[None] | None = None

    async def states(self, queries: Queries) -> dict[str, int]:
        """Return the files in each state, empty while they cannot be counted in time."""
        if time.monotonic() - self._counted_at >= FRESH_SECONDS and self._counting is None:
            self._counting = asyncio.create_task(self._count(queries), name="ledger-metrics")
        if self._counting is not None:
            wait = FIRST_WAIT_SECONDS if self._states is None else WAIT_SECONDS
            await asyncio.wait({self._counting}, timeout=wait)
        if self._states is None and self._counting is not None:
            logger.warning(
                "hsi_ledger_files is left out of this scrape: counting the files takes longer "
                "than %g s; a later scrape has it",
                FIRST_WAIT_SECONDS,
            )
        return self._states or {}

    async def _count(self, queries: Queries) -> None:
        try:
            counts: dict[str, int] = {}
            for row in await queries.ledger():
                counts[row.state] = counts.get(row.state, 0) + row.files
            self._states, self._counted_at = counts, time.monotonic()
        except TransientError as error:
            self._states = None  # An old count would pass for what is there now.
            logger.debug("the ledger is not counted: %s", error)
        finally:
            self._counting = None

    async def close(self) -> None:
        """Give up a count that is still going on."""
        if self._counting is not None:
            await end(self._counting)
