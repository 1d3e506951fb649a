"""StreamChannel: the faust channel an agent reads, fed by a consumer group, settled by outcome.

faust acknowledges whatever an agent's loop has touched, an exception included (measured); so
nothing here is ever acknowledged by faust. A channel carries runs of entries; the agent answers
one outcome an entry, and `settle` puts them into effect.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import faust

from domain.errors import HsiError
from domain.outcomes import Done, Outcome, Park, Retry
from runtime.service import DrainingService
from streams.about import about
from streams.connection import BehindLogError
from streams.consumer import ConsumerGroup
from streams.deadletter import outcome_of, outcome_unasked
from streams.envelope import Envelope, Position
from streams.feed import PartitionFeed, Run
from streams.gate import Gate, StateListener
from streams.lease import Lease
from streams.log import EventLog
from streams.ownership import Owner

Given = TypeVar("Given")
Answer = TypeVar("Answer")
logger = logging.getLogger(__name__)

Handler = Callable[[Sequence[Envelope]], Awaitable[Sequence[Outcome]]]
"""Answers one outcome for each envelope of a run, in the same order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelOptions:
    """How an agent reads its stream."""

    run_size: int = 100
    """Entries in one run at most."""
    concurrency: int = 1
    """Runs handled at the same time."""
    on_state: StateListener | None = None
    answered: Callable[[], float] | None = None
    """When (monotonic) the service behind the gate last answered a check: see `Gate`."""
    pace_seconds: float = 0.0
    """How long a stage that nobody waits for rests between two reads; 0: it waits for entries."""
    on_owned: Callable[[int], Awaitable[None]] | None = None
    """Set for a role that must be alone on a partition: rebuilds its state of that partition."""


def each(handler: Callable[[Envelope], Awaitable[Outcome]]) -> Handler:
    """Make a run's handler out of one for single entries: one that fails spares the others."""

    async def answer(envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
        return [await alone(envelope) for envelope in envelopes]

    async def alone(envelope: Envelope) -> Outcome:
        with about(envelope):
            return await _answered(handler, envelope)

    return answer


def at_once(handler: Callable[[Envelope], Awaitable[Outcome]]) -> Handler:
    """Make a run's handler like `each`, which asks for all entries of a run at the same time."""
    alone = each(handler)

    async def answer(envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
        answers = await asyncio.gather(*(alone([envelope]) for envelope in envelopes))
        return [outcome for (outcome,) in answers]

    return answer


async def _answered(
    handler: Callable[[Given], Awaitable[Answer]], given: Given
) -> Answer | Park | Retry:
    """Await a handler; whatever it raises becomes an outcome, and the stream goes on.

    This is the one place where an exception of a stage is caught whole.
    """
    try:
        return await handler(given)
    except Exception as error:
        if not isinstance(error, HsiError):
            logger.exception("a handler failed: %s", handler)
        return outcome_of(error)


class StreamChannel(DrainingService):
    """Feeds one agent from every partition of the stream that its group reads."""

    def __init__(
        self,
        app: faust.App,
        log: EventLog,
        group: str,
        consumer: str,
        options: ChannelOptions,
    ) -> None:
        super().__init__()
        self.group = group
        self.runs: Any = app.channel(maxsize=1)
        self.gate = Gate(options.on_state, options.answered)
        self.feeds: list[PartitionFeed] = []
        self.owners: list[Owner] = []
        for partition in range(log.partitions):
            lease = Lease(log, group, partition) if options.on_owned else None
            feed = PartitionFeed(
                ConsumerGroup(log, group, partition, consumer),
                self.gate,
                run_size=options.run_size,
                in_hand_limit=options.run_size * (options.concurrency + 2),
                lease=lease,
                pace_seconds=options.pace_seconds,
            )
            self.feeds.append(feed)
            if lease and options.on_owned:
                self.owners.append(Owner(feed, lease, options.on_owned))
        self._handling = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._drained = asyncio.Event()

    async def on_start(self) -> None:
        """Start one reader and one heartbeat a partition."""
        for reader in self.owners or self.feeds:
            self.add_future(reader.serve(self._hand_out, self.stopping))
        for feed in self.feeds:
            self.add_future(feed.heartbeat(self._drained))

    async def _hand_out(self, run: Run) -> None:
        self._handling += 1
        self._idle.clear()
        await self.runs.send(value=run)

    async def handle(self, run: Run, handler: Handler) -> bool:
        """Let `handler` answer for a run and settle it by the answers; never raises.

        Answers whether everything that was settled was still ours. A handler that decided on an
        outdated fold is asked again.
        """
        try:
            while True:
                with about(*(delivery.envelope for delivery in run.deliveries)):
                    outcomes = await self._outcomes(run, handler)
                try:
                    return await run.feed.settle(outcomes)
                except BehindLogError as error:
                    logger.warning("%s decides a run again: %s", run.feed.name, error)
        finally:
            self._handling -= 1
            if not self._handling:
                self._idle.set()

    async def _outcomes(self, run: Run, handler: Handler) -> list[tuple[Any, Outcome]]:
        group = run.feed.group.group
        known: dict[Position, Outcome] = {
            d.envelope.position: outcome
            for d in run.deliveries
            if (outcome := outcome_unasked(d.envelope, d.attempts, group)) is not None
        }
        readable = [d for d in run.deliveries if d.envelope.position not in known]
        answers = await _answered(handler, [d.envelope for d in readable]) if readable else []
        if isinstance(answers, Done | Park | Retry):
            answers = [answers] * len(readable)
        if len(answers) != len(readable):
            wrong = f"the handler gave {len(answers)} outcomes for {len(readable)} entries"
            logger.error("%s: %s", run.feed.name, wrong)
            answers = [Retry(HsiError(wrong))] * len(readable)
        for delivery, answer in zip(readable, answers, strict=True):
            known[delivery.envelope.position] = answer
        return [(d, known[d.envelope.position]) for d in run.deliveries]

    def reset_gate(self) -> None:
        """Try the service that this stage waits for now, as if it had only just gone away."""
        self.gate.reset()
        for feed in self.feeds:
            feed.probe_now()

    async def drain(self) -> None:
        """Wait until every run that was handed out is settled, then give the partitions back."""
        await self._idle.wait()
        for owner in self.owners:
            await owner.release()

    async def on_stop(self) -> None:
        """Drain, then end the heartbeats: what is still in hand is for others to claim."""
        await super().on_stop()
        self._drained.set()

    async def watch(self, stop: asyncio.Event) -> None:
        """Return when `stop` is set; raise what ended a reader or a heartbeat before that."""
        await self.wait_until_stopped()
        if self.crash_reason is not None:
            raise self.crash_reason
        await stop.wait()
