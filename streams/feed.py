"""PartitionFeed: hands one partition's entries out in runs and settles them by their outcomes.

It knows the log and nothing of faust. What is handed out stays in its books until it is settled
or lost to another consumer; a heartbeat keeps it; what must be tried again comes back when due;
what another consumer left behind is claimed.
"""

import asyncio
import heapq
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from domain.errors import ServiceUnavailableError
from domain.outcomes import Done, Outcome, Park, Retry
from runtime.tasks import is_set_within
from streams.about import about, say_parked
from streams.consumer import ConsumerGroup, Delivery
from streams.deadletter import BACKOFF_CAP_SECONDS, backoff_seconds, bounded, is_outage
from streams.envelope import START, Position
from streams.failures import Failed
from streams.gate import Gate
from streams.lease import Lease

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 2.0
SUSPECT_DELIVERIES = 3
"""Deliveries after which a claimed entry is handed out alone: it may end its consumers."""
STALE_MS = 7_000
"""An entry whose consumer gave no heartbeat for so long is somebody else's to take.

Others look for such entries every HEARTBEAT_SECONDS: at most 9 s until it is in other hands."""
BLOCK_MS = 2_000
REDIS_RETRY_SECONDS = 0.5
EARLY_PROBE_SECONDS = 5.0
"""Between two probes of a service that answers checks, however long the wait had grown."""


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
        pace_seconds: float = 0.0,
    ) -> None:
        self.group = group
        self.gate = gate
        self.run_size = run_size
        self.in_hand_limit = in_hand_limit
        self.lease = lease
        self._pace_seconds = pace_seconds
        self.in_hand: dict[Position, Delivery] = {}
        """Handed out or waiting for another try; neither settled nor lost."""
        self.last_follow_ups: Mapping[str, Position] = {}
        """Stream → position of the last event that the last settlement appended to it."""
        self._due: list[tuple[float, int, Delivery]] = []
        """Heap of (when, tie-breaker, delivery): failed entries until their next attempt."""
        self._ties = count()
        self._probes: dict[Position, Delivery] = {}
        """Entries that wait for a service that is away; the next try counts as the same one."""
        self._probe_at = 0.0
        self._refused_at = 0.0
        """When the service was last met away."""
        self._sent_as_probe: set[Position] = set()
        self._changed = asyncio.Event()
        """Set when there is room again or something waits for another try."""
        self._next_claim = 0.0
        self._stale_ms = STALE_MS
        self._claim_from = START
        self._suspects: list[Delivery] = []
        """Claimed entries that were handed out often and never answered for."""

    def take_over(self) -> None:
        """Claim everything pending at once: the lease says that its owner is gone."""
        self._forget(set(self.in_hand))
        self._due.clear()
        self._suspects.clear()
        self._claim_all()

    def _claim_all(self) -> None:
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
                deliveries = await self._next(stopping)
            except ServiceUnavailableError as error:
                logger.warning("%s waits for Redis: %s", self.name, error)
                if self.lease:
                    # An answer that got lost may have made entries ours: they come before others.
                    self._claim_all()
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
        now = time.monotonic()
        if len(self.in_hand) >= self.in_hand_limit or not self.gate.lets_through():
            await self._claim_to_wait(now)
            await self._rest(stopping)
            return []
        if self._suspects and self._claim_from == START:
            return self._next_suspect()
        if now >= self._next_claim and (claimed := await self._claim(now)):
            return claimed
        if not self._pace_seconds:
            return await self.group.read(self.run_size, self._block_ms(now))
        # Whoever reads at a pace is not woken by an entry: that moment belongs to other stages.
        await is_set_within(stopping, self._pace_seconds)
        return [] if stopping.is_set() else await self.group.read(self.run_size, block_ms=1)

    async def _claim(self, now: float) -> list[Delivery]:
        """Claim the next stale entries; once through the pending list, rest for a while."""
        while True:
            claimed, self._claim_from = await self.group.claim_stale(
                self._stale_ms, self.run_size, self._claim_from
            )
            fresh = self._unsuspected(
                [d for d in claimed if d.envelope.position not in self.in_hand]
            )
            if self._claim_from == START:
                self._stale_ms = STALE_MS
                self._next_claim = now + HEARTBEAT_SECONDS
                return fresh or self._next_suspect()
            if fresh:
                return fresh

    async def _claim_to_wait(self, now: float) -> None:
        """While the service is away: take over what others left, so that it goes in its order."""
        if not self.gate.closed or now < self._next_claim:
            return
        room = self.in_hand_limit - len(self.in_hand)
        if room <= 0:
            return
        claimed, self._claim_from = await self.group.claim_stale(
            self._stale_ms, min(room, self.run_size), self._claim_from
        )
        if self._claim_from == START:
            self._stale_ms = STALE_MS
            self._next_claim = now + HEARTBEAT_SECONDS
        for delivery in [d for d in claimed if d.envelope.position not in self.in_hand]:
            self.in_hand[delivery.envelope.position] = delivery
            if self.lease or delivery.attempts < SUSPECT_DELIVERIES:
                self._probes[delivery.envelope.position] = delivery
            else:
                self._suspects.append(delivery)

    def _unsuspected(self, claimed: list[Delivery]) -> list[Delivery]:
        """Set aside what was handed out often and never answered for; it comes alone, later.

        A partition with one owner keeps its order instead: its role runs no native code.
        """
        if self.lease:
            return claimed
        suspects = [d for d in claimed if d.attempts >= SUSPECT_DELIVERIES]
        self._take(suspects)  # In our books from now on, so that the heartbeat keeps them.
        self._suspects += suspects
        return [d for d in claimed if d.attempts < SUSPECT_DELIVERIES]

    def _next_suspect(self) -> list[Delivery]:
        """Return one entry whose consumers keep dying, alone: it may be what kills them."""
        return [self._suspects.pop(0)] if self._suspects else []

    def _block_ms(self, now: float) -> int:
        """Return how long a read may wait: until something waiting is due, or the next claim."""
        until = min(self._next_due(), self._next_claim) - now
        return max(1, int(min(BLOCK_MS, until * 1000)))

    def _next_due(self) -> float:
        """Return when the next waiting entry is due; infinity when none waits."""
        again = self._due[0][0] if self._due else math.inf
        return min(again, self._probe_at) if self._probes else again

    async def _rest(self, stopping: asyncio.Event) -> None:
        """Wait until something is due, there is room again, or it is time to stop."""
        self._changed.clear()
        wait = min(HEARTBEAT_SECONDS, max(0.001, self._next_due() - time.monotonic()))
        waits = [
            asyncio.ensure_future(stopping.wait()),
            asyncio.ensure_future(self._changed.wait()),
        ]
        try:
            await asyncio.wait(waits, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    async def _take_due(self) -> list[Delivery]:
        """Return entries whose wait is over and that are still ours."""
        now = time.monotonic()
        if self._probes and self._may_probe(now):
            return await self._take_probes(now)
        items: list[tuple[float, int, Delivery]] = []
        while self._due and self._due[0][0] <= now and len(items) < self.run_size:
            items.append(heapq.heappop(self._due))
        # An entry that was lost and claimed again meanwhile is in hand as another delivery.
        waiting = {p: d for _, _, d in items if self.in_hand.get(p := d.envelope.position) is d}
        try:
            held = await self.group.hold(list(waiting), count_delivery=True)
        except ServiceUnavailableError:
            for item in items:
                heapq.heappush(self._due, item)
            raise
        self._forget(set(waiting) - held)
        return [
            replace(delivery, attempts=delivery.attempts + 1)
            for position, delivery in sorted(waiting.items())
            if position in held
        ]

    def _may_probe(self, now: float) -> bool:
        """Say whether the wait is over: also early, once a check has seen the service answer."""
        if not self.gate.closed or now >= self._probe_at:
            return True
        early = now >= self._refused_at + EARLY_PROBE_SECONDS
        return early and self.gate.seen_to_answer(self._refused_at)

    async def _take_probes(self, now: float) -> list[Delivery]:
        """Return one run of what waits for the service; the rest waits for how it ends."""
        positions = sorted(self._probes)[: self.run_size]
        held = await self.group.hold(positions)
        self._probe_at = now + BACKOFF_CAP_SECONDS
        taken = [d for p in positions if (d := self._probes.pop(p, None)) and p in held]
        self._forget(set(positions) - held)
        return taken

    def probe_now(self) -> None:
        """Let what waits for the service try it without waiting any longer."""
        self._probe_at = 0.0
        self._changed.set()

    def _take(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self.in_hand[delivery.envelope.position] = delivery
            if self.gate.closed:
                self._sent_as_probe.add(delivery.envelope.position)
                self.gate.probed()

    def _forget(self, positions: set[Position]) -> None:
        for position in positions:
            self.in_hand.pop(position, None)
            self._probes.pop(position, None)
        self._sent_as_probe -= positions
        self._changed.set()

    # --- settling ---------------------------------------------------------------------------

    async def settle(self, settlements: Settlements) -> bool:
        """Settle a run; answer whether every entry of it that was to be settled was still ours.

        Waits for Redis as long as it takes: an entry is never given up because the server was
        away. What has to be tried again is put back with its wait.
        """
        judged = [(d, bounded(outcome, d.attempts)) for d, outcome in settlements]
        final = [(d, o) for d, o in judged if not isinstance(o, Retry)]
        again = [(d, o) for d, o in judged if isinstance(o, Retry)]
        outages = [(d, o) for d, o in again if is_outage(o)]
        if outages:
            self._wait_for_service(outages)
        elif any(self._went_through(d, o) for d, o in final):
            self.gate.opened_by(self.name)
        elif any(self._is_probe(d) for d, _ in settlements):
            self.gate.unproven()
        await self._fail(judged)
        self.last_follow_ups = {}
        if not final:
            return True
        all_ours = await self._settle_final(final)
        if all_ours:
            say_parked(self.name, final)
        self._forget({delivery.envelope.position for delivery, _ in final})
        return all_ours

    def _went_through(self, delivery: Delivery, outcome: Outcome) -> bool:
        """Say whether an outcome proves that the stage's service answers again.

        Only a probe can: what is parked or passed by may never have reached the service.
        """
        asked = isinstance(outcome, Done) and not outcome.passed_by
        return asked and self._is_probe(delivery)

    def _is_probe(self, delivery: Delivery) -> bool:
        return delivery.envelope.position in self._sent_as_probe

    async def _settle_final(self, final: Settlements) -> bool:
        while True:
            try:
                settled = await self.group.settle(final, lease=self.lease)
            except ServiceUnavailableError as error:
                logger.warning("%s cannot settle yet: %s", self.name, error)
                await asyncio.sleep(REDIS_RETRY_SECONDS)
                continue
            self.last_follow_ups = settled.last_positions
            lost = settled.flags.count(False)
            if lost:
                logger.warning(
                    "%s: %d of %d results dropped, another consumer owns those entries",
                    self.name,
                    lost,
                    len(final),
                )
            return lost == 0

    def _wait_for_service(self, outages: Sequence[tuple[Delivery, Retry]]) -> None:
        wait = self.gate.closed_by(self.name, outages[0][1])
        self._refused_at = time.monotonic()
        self._probe_at = self._refused_at + wait
        for delivery, _ in outages:
            self._probes[delivery.envelope.position] = delivery
        self._changed.set()

    async def _fail(self, judged: Settlements) -> None:
        """Write down what failed, and put back what is tried again."""
        waits = [
            (d, o, None if isinstance(o, Park) else o.after or backoff_seconds(d.attempts))
            for d, o in judged
            if not isinstance(o, Done) and not is_outage(o)
        ]
        failed = [Failed(d.envelope.position, d.attempts, o.error, wait) for d, o, wait in waits]
        await self.group.failures.note(failed)
        for delivery, outcome, wait in waits:
            if wait is not None:
                self._put_back(delivery, outcome.error, wait)

    def _put_back(self, delivery: Delivery, error: BaseException, wait: float) -> None:
        with about(delivery.envelope):
            logger.warning(
                "%s: entry %s is tried again in %.1f s (attempt %d failed: %s)",
                self.name,
                delivery.envelope.position,
                wait,
                delivery.attempts,
                error,
            )
        heapq.heappush(self._due, (time.monotonic() + wait, next(self._ties), delivery))
        self._changed.set()

    # --- staying alive ----------------------------------------------------------------------

    async def heartbeat(self, stopping: asyncio.Event) -> None:
        """Keep what is in hand until `stopping` is set; forget what was lost all the same."""
        while not stopping.is_set():
            if not await is_set_within(stopping, HEARTBEAT_SECONDS):
                await self.beat()

    async def beat(self) -> None:
        """Give one heartbeat for everything in hand."""
        waiting = {delivery.envelope.position for _, _, delivery in self._due} | set(self._probes)
        try:
            held = await self.group.hold(list(self.in_hand))
        except ServiceUnavailableError:
            return  # The reader says so; the entries go on being ours until another claims them.
        # A run that an agent is handling settles its own loss; only a waiting entry is dropped.
        self._forget({p for p in waiting if p in self.in_hand and p not in held})
