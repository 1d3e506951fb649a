"""What `hsi up` runs and how that is: a fold of the supervisor's words in the stream `system`.

A request to start or stop something is an event (`service.control_requested`); the supervisor
follows the stream, does it, and says what came of it (`service.state_changed`). Both sides fold
the same entries: the supervisor to know what it has not answered and what is disabled, the API to
tell how everything is.
"""

from datetime import datetime
from typing import Final

import msgspec

from domain.events import (
    SYSTEM,
    ProcessFacts,
    ServiceAction,
    ServiceControlRequested,
    ServiceStateChanged,
    ServiceStatus,
)
from streams.envelope import Envelope, Position
from streams.log import EventLog

_ROLE: Final = "supervised"
_READ_RUN: Final = 1000

FORGOTTEN_MS: Final = 600_000
"""A request that nobody has answered for so long is no longer kept."""


class Word(msgspec.Struct, frozen=True):
    """The last word about one service."""

    status: ServiceStatus
    message: str
    changed_at: datetime
    facts: ProcessFacts


class Request(msgspec.Struct, frozen=True):
    """A request that nobody has answered yet."""

    id: str
    service: str
    action: ServiceAction
    actor: str
    ms: int
    """When it was recorded, on the log's clock."""


class Supervised(msgspec.Struct, frozen=True, kw_only=True):
    """Every service that a supervisor has told of, up to a position of the stream `system`."""

    services: dict[str, Word] = {}
    requests: tuple[Request, ...] = ()
    ms: int = 0
    seq: int = 0

    @property
    def position(self) -> Position:
        """Return up to where the stream is folded."""
        return Position(self.ms, self.seq)

    @property
    def disabled(self) -> dict[str, str]:
        """Return what must not be started, and who disabled it."""
        return {n: w.facts.by for n, w in self.services.items() if not w.facts.enabled}

    def evolve(self, envelope: Envelope) -> "Supervised":
        """Return this after one entry of the stream; one that was folded changes nothing."""
        position = envelope.position
        if envelope.stream != "system" or position <= self.position:
            return self
        services, requests = self.services, self.requests
        match envelope.event:
            case ServiceStateChanged(process=ProcessFacts() as facts) as event:
                word = Word(event.status, event.message, event.changed_at, facts)
                services = {**services, event.service: word}
                requests = tuple(each for each in requests if each.id != facts.answers)
            case ServiceControlRequested() as event:
                new = Request(envelope.id, event.service, event.action, event.actor, position.ms)
                kept = (each for each in requests if position.ms - each.ms < FORGOTTEN_MS)
                requests = (*kept, new)
        return Supervised(services=services, requests=requests, ms=position.ms, seq=position.seq)


async def load_supervised(log: EventLog) -> Supervised:
    """Return the fold up to the end of the log, and keep it, so that the next load is short."""
    partition = log.partition_of(SYSTEM)
    found = _decoded(await log.load_snapshot(_ROLE, partition))
    while run := await log.read("system", partition, found.position, _READ_RUN):
        for envelope in run:
            found = found.evolve(envelope)
    await log.store_snapshot(_ROLE, partition, msgspec.json.encode(found))
    return found


def _decoded(stored: bytes | None) -> Supervised:
    try:
        return msgspec.json.decode(stored, type=Supervised) if stored else Supervised()
    except msgspec.MsgspecError:
        # Another version wrote it; the stream has it all.
        return Supervised()
