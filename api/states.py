"""The last word about every service, from the read model and from the log's tail.

Either may be ahead: the read model knows what was said before this process started, the tail what
PostgreSQL has not stored yet, or cannot while it is away.
"""

from collections.abc import Iterable

from domain.events import ServiceStateChanged
from projections.rows import ServiceStateRow
from streams.envelope import Envelope


class ServiceStates:
    """One row a service; the newer word counts."""

    def __init__(self) -> None:
        self._rows: dict[str, ServiceStateRow] = {}

    def hear(self, envelope: Envelope) -> None:
        """Take an envelope of the log's tail, if it tells of a service."""
        event = envelope.event
        if isinstance(event, ServiceStateChanged):
            paused = None if event.paused_stages is None else list(event.paused_stages)
            row = ServiceStateRow(
                service=event.service,
                status=event.status,
                message=event.message,
                changed_at=event.changed_at,
                paused_stages=paused,
                model=event.model,
            )
            self.learn([row])

    def learn(self, rows: Iterable[ServiceStateRow]) -> None:
        """Take what the read model has."""
        for row in rows:
            known = self._rows.get(row.service)
            if known is None or row.changed_at >= known.changed_at:
                self._rows[row.service] = row

    def rows(self) -> list[ServiceStateRow]:
        """Return the last word about each service, by its name."""
        return [row for _, row in sorted(self._rows.items())]

    def row(self, service: str) -> ServiceStateRow | None:
        """Return the last word about a service; None: nobody has said anything."""
        return self._rows.get(service)

    def gate(self, service: str, stage: str) -> bool | None:
        """Say whether a stage's gate is closed because of a service; None: nobody has said."""
        row = self._rows.get(service)
        if row is None or row.paused_stages is None:
            return None
        return stage in row.paused_stages
