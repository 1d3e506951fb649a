"""How many files are in each state, for scrapes that must not wait for a long count.

Counting takes longer the more files there are. So a count goes on by itself, at most one at a
time, and a scrape takes the last one that is done.
"""

import asyncio
import logging
import time
from typing import Final

from domain.errors import TransientError
from projections.queries import Queries

logger = logging.getLogger(__name__)

FRESH_SECONDS: Final = 10.0
"""A count so young is answered again."""
WAIT_SECONDS: Final = 0.01
"""How long a scrape waits for a count: where there are few files, it is done by then."""


class LedgerMetrics:
    """The last count of the ledger's states."""

    def __init__(self) -> None:
        self._states: dict[str, int] = {}
        self._counted_at = 0.0
        self._counting: asyncio.Task[None] | None = None

    async def states(self, queries: Queries) -> dict[str, int]:
        """Return the files in each state, empty until they have been counted once."""
        if time.monotonic() - self._counted_at >= FRESH_SECONDS and self._counting is None:
            self._counting = asyncio.create_task(self._count(queries), name="ledger-metrics")
        if self._counting is not None:
            await asyncio.wait({self._counting}, timeout=WAIT_SECONDS)
        return self._states

    async def _count(self, queries: Queries) -> None:
        try:
            counts: dict[str, int] = {}
            for row in await queries.ledger():
                counts[row.state] = counts.get(row.state, 0) + row.files
            self._states, self._counted_at = counts, time.monotonic()
        except TransientError as error:
            self._states = {}  # An old count would pass for what is there now.
            logger.debug("the ledger is not counted: %s", error)
        finally:
            self._counting = None

    async def close(self) -> None:
        """Give up a count that is still going on."""
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.wait({self._counting})
