"""Backfill: asks the optional services about events that their stages have passed.

The stage itself catches up with what the stream still holds. This is for what came before: events
of the archive, and those that a service refused or answered wrongly at the time.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from agents.enrich import Enrich
from domain.enrichment import GROUP_OF
from domain.errors import HsiError
from domain.events import BatchClosed, EventNotEnriched
from domain.outcomes import Done, Retry
from projections.queries import Queries
from streams.consumer import follow_ups
from streams.envelope import Envelope
from streams.history import History
from streams.log import EventLog


class ServiceAwayError(HsiError):
    """A service went away during a backfill; what was done stands."""


@dataclass
class Counted:
    """What a backfill did for one service."""

    enriched: int = 0
    not_enriched: int = 0
    """Asked and still without it."""
    left_to_stage: int = 0
    """Not yet handled by the stage, which does it by itself."""
    to_do: int = 0
    """Only counted, with `dry_run`."""


class Backfill:
    """One run over the past, for the services that have a handler."""

    def __init__(
        self,
        log: EventLog,
        past: History,
        queries: Queries,
        handlers: Mapping[str, Enrich],
        said: Callable[[str, Counted], None] = lambda _service, _counted: None,
    ) -> None:
        self._log = log
        self._past = past
        self._queries = queries
        self._handlers = handlers
        self._said = said
        self.counted = {service: Counted() for service in handlers}

    async def run(
        self, since: datetime, until: datetime | None = None, *, dry_run: bool = False
    ) -> None:
        """Go through the events that ended in this time, oldest first in each partition.

        Killed or stopped, it goes on from the read model's state when it is run again. Raises
        ServiceAwayError when a service does not answer.
        """
        for service in self._handlers:
            for partition in range(self._log.partitions):
                async for run in self._closed(partition, since, until):
                    await self._some(service, partition, run, dry_run=dry_run)

    async def _closed(
        self, partition: int, since: datetime, until: datetime | None
    ) -> AsyncIterator[list[Envelope]]:
        async for run in self._past.read_all(BatchClosed.STREAM, partition):
            yield [
                each
                for each in run
                if isinstance(each.event, BatchClosed)
                and since <= each.event.ended_at
                and (until is None or each.event.ended_at < until)
            ]

    async def _some(
        self, service: str, partition: int, run: list[Envelope], *, dry_run: bool
    ) -> None:
        counted = self.counted[service]
        events = [each.event.event_id for each in run if isinstance(each.event, BatchClosed)]
        wanted = await self._queries.unenriched(service, events)
        handled = await self._log.handled_until(GROUP_OF[service], partition)
        for envelope in run:
            if not isinstance(envelope.event, BatchClosed):
                continue
            if envelope.event.event_id not in wanted:
                continue
            if envelope.recorded_at >= handled:
                counted.left_to_stage += 1
            elif dry_run:
                counted.to_do += 1
            else:
                await self._one(service, envelope, told=wanted[envelope.event.event_id])
            self._said(service, counted)

    async def _one(self, service: str, envelope: Envelope, *, told: bool) -> None:
        counted = self.counted[service]
        outcome = await self._handlers[service](envelope)
        if isinstance(outcome, Retry):
            raise ServiceAwayError(
                f"{service} does not answer, so the backfill stops: {outcome.error}; what is done "
                f"stands ({counted.enriched} events), run the same command again to go on"
            )
        if not isinstance(outcome, Done):
            return
        for new in follow_ups(envelope, outcome.events):
            if isinstance(new.event, EventNotEnriched):
                counted.not_enriched += 1
                if told:
                    continue  # Its id is taken, by the word that said so before.
            else:
                counted.enriched += 1
            await self._log.append(new)
