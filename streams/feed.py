"""PartitionFeed: hands one partition's entries out in runs and settles them by their outcomes.

It knows the log and nothing of faust. What is handed out stays in its books until it is settled
or lost to another consumer; a heartbeat keeps it; what must be tried again comes back when due;
what another consumer left behind is claimed.
"""

import asyncio
import heapq
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count

from domain.errors import ServiceUnavailableError
from domain.outcomes import Outcome, Retry
from streams.consumer import ConsumerGroup, Delivery
from streams.deadletter import backoff_seconds, bounded, is_outage
from streams.envelope import START, Position
from streams.gate import Gate
from streams.lease import Lease

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 2.0
STALE_MS = 8_000
"""An entry whose consumer gave no heartbeat for so long is somebody else's to take."""
BLOCK_MS = 2_000
REDIS_RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Run:
    """Some entries of one partition, in log order, handed out and settled together."""

    feed: "PartitionFeed"
    deliveries: tuple[Delivery, ...]


Settlements = Sequence[tuple[Delivery, Outcome]]


class PartitionFeed:
    """The books of one consumer on one partition."""

    def __init__(
        self,
        group: ConsumerGroup,
        gate: Gate,
        *,
        run_size: int,
        in_hand_limit: int,
        lease: Lease | None = None,
    ) -> None:
        self.group = group
        self.gate = gate
        self.run_size = run_size
        self.in_hand_limit = in_hand_limit
        self.lease = lease
        self.in_hand: dict[Position, Delivery] = {}
        """Handed out or waiting for another try; neither settled nor lost."""
        self.last_follow_up: Position | None = None
        """Position of the last event that settling a run of this feed appended."""
        self._due: list[tuple[float, int, Delivery, bool]] = []
        """Heap of (when, tie-breaker, delivery, counts as one more delivery)."""
        self._ties = count()
        self._room = asyncio.Event()
        self._room.set()
        self._next_claim = 0.0
        self._stale_ms = STALE_MS
        self._claim_from = START

    def take_over(self) -> None:
        """Claim everything pending at once: the lease says that its owner is gone."""
        self._forget(set(self.in_hand))
        self._due.clear()
        self._stale_ms = 0
        self._claim_from = START
        self._next_claim = 0.0

    # --- handing out ------------------------------------------------------------------------

    async def serve(
        self, hand_out: Callable[[Run], Awaitable[None]], stopping: asyncio.Event
    ) -> None:
        """Hand out runs until `stopping` is set; Redis away is waited for, nothing is dropped."""
        while not stopping.is_set():
            try:
                await self._room.wait()
                deliveries = await self._next(stopping)
            except ServiceUnavailableError as error:
                logger.warning("%s waits for Redis: %s", self.name, error)
                await asyncio.sleep(REDIS_RETRY_SECONDS)
                continue
            if deliveries:
                self._take(deliveries)
                await hand_out(Run(self, tuple(deliveries)))

    @property
    def name(self) -> str:
        """Return what this feed is called in messages."""
        return f"{self.group.group}/{self.group.partition}"

    async def _next(self, stopping: asyncio.Event) -> list[Delivery]:
        """Return what comes next: what is due again, then what was left behind, then new."""
        if due := await self._take_due():
            return due
        if self.gate.closed:
            await self._wait_until_due(stopping)
            return []
        now = time.monotonic()
        if now >= self._next_claim and (claimed := await self._claim(now)):
            return claimed
        return await self.group.read(self.run_size, self._block_ms(now))

    async def _claim(self, now: float) -> list[Delivery]:
        """Claim the next stale entries; once through the pending list, rest for a while."""
        while True:
            claimed, self._claim_from = await self.group.claim_stale(
                self._stale_ms, self.run_size, self._claim_from
            )
            fresh = [d for d in claimed if d.envelope.position not in self.in_hand]
            if self._claim_from == START:
                self._stale_ms = STALE_MS
                self._next_claim = now + HEARTBEAT_SECONDS
                return fresh
            if fresh:
                return fresh

    def _block_ms(self, now: float) -> int:
        if not self._due:
            return BLOCK_MS
        return max(1, min(BLOCK_MS, int((self._due[0][0] - now) * 1000)))

    async def _wait_until_due(self, stopping: asyncio.Event) -> None:
        wait = self._due[0][0] - time.monotonic() if self._due else HEARTBEAT_SECONDS
        try:
            await asyncio.wait_for(stopping.wait(), min(max(wait, 0.001), HEARTBEAT_SECONDS))
        except TimeoutError:
            return

    async def _take_due(self) -> list[Delivery]:
        """Return entries whose wait is over and that are still ours."""
        now = time.monotonic()
        due: dict[Position, tuple[Delivery, bool]] = {}
        while self._due and self._due[0][0] <= now and len(due) < self.run_size:
            _, _, delivery, counts = heapq.heappop(self._due)
            if delivery.envelope.position in self.in_hand:
                due[delivery.envelope.position] = (delivery, counts)
        if not due:
            return []
        counted = [position for position, (_, counts) in due.items() if counts]
        uncounted = [position for position, (_, counts) in due.items() if not counts]
        held = await self.group.hold(counted, count_delivery=True)
        held |= await self.group.hold(uncounted)
        self._forget(set(due) - held)
        return [
            replace(delivery, attempts=delivery.attempts + 1) if counts else delivery
            for position, (delivery, counts) in sorted(due.items())
            if position in held
        ]

    def _take(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self.in_hand[delivery.envelope.position] = delivery
        if len(self.in_hand) >= self.in_hand_limit:
            self._room.clear()

    def _forget(self, positions: set[Position]) -> None:
        for position in positions:
            self.in_hand.pop(position, None)
        if len(self.in_hand) < self.in_hand_limit:
            self._room.set()

    # --- settling ---------------------------------------------------------------------------

    async def settle(self, settlements: Settlements) -> bool:
        """Settle a run; answer whether every entry of it that was to be settled was still ours.

        Waits for Redis as long as it takes: an entry is never given up because the server was
        away. What has to be tried again is put back with its wait.
        """
        judged = [(d, bounded(outcome, d.attempts)) for d, outcome in settlements]
        final = [(d, o) for d, o in judged if not isinstance(o, Retry)]
        again = [(d, o) for d, o in judged if isinstance(o, Retry)]
        for delivery, outcome in again:
            self._put_back(delivery, outcome)
        if not final:
            return True
        self.gate.opened_by(self.name)
        all_ours = await self._settle_final(final)
        self._forget({delivery.envelope.position for delivery, _ in final})
        return all_ours

    async def _settle_final(self, final: Settlements) -> bool:
        while True:
            try:
                settled = await self.group.settle(final, lease=self.lease)
            except ServiceUnavailableError as error:
                logger.warning("%s cannot settle yet: %s", self.name, error)
                await asyncio.sleep(REDIS_RETRY_SECONDS)
                continue
            self.last_follow_up = settled.last_position
            lost = settled.flags.count(False)
            if lost:
                logger.warning(
                    "%s: %d of %d results dropped, another consumer owns those entries",
                    self.name,
                    lost,
                    len(final),
                )
            return lost == 0

    def _put_back(self, delivery: Delivery, outcome: Retry) -> None:
        outage = is_outage(outcome)
        if outage:
            wait = self.gate.closed_by(self.name, outcome)
        else:
            wait = outcome.after or backoff_seconds(delivery.attempts)
            logger.warning(
                "%s: entry %s is tried again in %.1f s (attempt %d failed: %s)",
                self.name,
                delivery.envelope.position,
                wait,
                delivery.attempts,
                outcome.error,
            )
        entry = (time.monotonic() + wait, next(self._ties), delivery, not outage)
        heapq.heappush(self._due, entry)

    # --- staying alive ----------------------------------------------------------------------

    async def heartbeat(self, stopping: asyncio.Event) -> None:
        """Keep what is in hand until `stopping` is set; forget what was lost all the same."""
        while not stopping.is_set():
            try:
                await asyncio.wait_for(stopping.wait(), HEARTBEAT_SECONDS)
            except TimeoutError:
                await self.beat()

    async def beat(self) -> None:
        """Give one heartbeat for everything in hand."""
        waiting = {delivery.envelope.position for _, _, delivery, _ in self._due}
        try:
            held = await self.group.hold(list(self.in_hand))
        except ServiceUnavailableError:
            return  # The reader says so; the entries go on being ours until another claims them.
        # A run that an agent is handling settles its own loss; only a waiting entry is dropped.
        self._forget({p for p in waiting if p in self.in_hand and p not in held})
