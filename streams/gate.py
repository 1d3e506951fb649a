"""Gate: pauses a stage while a service it depends on is away, and tells who must know.

The gate is the stage's circuit breaker: closed gate, open breaker. The entries that met the
outage are the probes; they are tried again after a growing wait and charged no attempt.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from domain.errors import ServiceUnavailableError
from domain.outcomes import Retry
from streams.deadletter import BACKOFF_CAP_SECONDS

FIRST_WAIT_SECONDS = 0.5

StateListener = Callable[[str, bool, str], None]
"""Called with the service, whether it answers again, and a message for people."""


@dataclass
class Gate:
    """One stage's gate over all its partitions."""

    listener: StateListener | None = None
    service: str = ""
    """The service that is away; empty while the gate is open."""
    failures: int = field(default=0)

    @property
    def closed(self) -> bool:
        """Say whether the stage is paused."""
        return bool(self.service)

    def closed_by(self, feed: str, outcome: Retry) -> float:
        """Close the gate (or keep it closed); answer the seconds until the next probe."""
        error = outcome.error
        self.failures += 1
        if not self.service and isinstance(error, ServiceUnavailableError):
            self.service = error.service
            if self.listener:
                self.listener(error.service, False, f"{feed} pauses: {error}")
        if outcome.after is not None:
            return outcome.after
        return min(BACKOFF_CAP_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(self.failures - 1, 10))

    def opened_by(self, feed: str) -> None:
        """Open the gate: an entry went through."""
        if not self.service:
            return
        service, self.service, self.failures = self.service, "", 0
        if self.listener:
            self.listener(service, True, f"{feed} goes on")
