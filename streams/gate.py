"""Gate: pauses a stage while a service it depends on is away, and tells who must know.

The gate is the stage's circuit breaker: closed gate, open breaker. The entries that met the
outage are the probes; they are tried again after a growing wait and charged no attempt.
"""

import time
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
    answered: Callable[[], float] | None = None
    """Tells when (monotonic) the service was last seen to answer somebody else's check."""
    service: str = ""
    """The service that is away; empty while the gate is open."""
    failures: int = 0
    """Runs in a row that met the outage."""
    tries: int = 0
    """Runs that have met the outage, over all: tells a reset whether its try has come back."""
    _silent_until: float = field(default=0.0, repr=False)
    """When the probes must have been heard of; after that they are taken as lost."""

    @property
    def closed(self) -> bool:
        """Say whether the stage is paused."""
        return bool(self.service)

    def lets_through(self) -> bool:
        """Say whether new entries may be handed out now.

        The gate is open, or nothing will be heard of the probes: another consumer must have them,
        or they ended without asking the service. Then a run goes through in their place.
        """
        return not self.service or time.monotonic() >= self._silent_until

    def seen_to_answer(self, since: float) -> bool:
        """Say whether a check has had an answer later than `since` (monotonic)."""
        return self.answered is not None and self.answered() > since

    def probed(self) -> None:
        """Know that a run is on its way while the gate is closed; it is the probe now."""
        self._silent_until = time.monotonic() + BACKOFF_CAP_SECONDS

    def unproven(self) -> None:
        """Know that a probe ended without asking the service: what comes next is the probe."""
        self._silent_until = 0.0

    def reset(self) -> None:
        """Let the next run through as a probe; the waits begin anew.

        The gate stays closed until a probe went through: nobody knows yet whether the service is
        back.
        """
        self.failures = 0
        self.unproven()

    def closed_by(self, feed: str, outcome: Retry) -> float:
        """Close the gate (or keep it closed) for one run that met the outage.

        Answers the seconds until the next probe: what the service asked for, else a growing wait.
        """
        error = outcome.error
        self.failures += 1
        self.tries += 1
        if not self.service and isinstance(error, ServiceUnavailableError):
            self.service = error.service
            if self.listener:
                self.listener(error.service, False, f"{feed} pauses: {error}")
        growing = FIRST_WAIT_SECONDS * 2.0 ** min(self.failures - 1, 10)
        wait = min(BACKOFF_CAP_SECONDS, outcome.after or growing)
        self._silent_until = time.monotonic() + wait + BACKOFF_CAP_SECONDS
        return wait

    def opened_by(self, feed: str) -> None:
        """Open the gate: an entry went through."""
        if not self.service:
            return
        service, self.service, self.failures = self.service, "", 0
        if self.listener:
            self.listener(service, True, f"{feed} goes on")
