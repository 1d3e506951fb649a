"""Positions: which entries of the log are about a picture, a file, an event or the settings.

The read models keep what lists and pages need; everything else about a fact (raw boxes, causes,
ids) stays in the log and is read there by these positions.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from domain.events import (
    EVENT_TYPES,
    Enrichment,
    EntryDiscarded,
    EntryParked,
    EntryRedriven,
    Event,
    PictureBatched,
    ServiceStateChanged,
    SettingsApplied,
)
from domain.ids import event_id
from projections.database import Connection
from projections.read_model import Run, Write, write_run
from streams.envelope import Envelope

SETTINGS: Final = "settings"
"""What `settings.applied` is about."""

INSERT_POSITIONS: Final = """
INSERT INTO positions (about, stream, partition, ms, seq)
SELECT about, stream, partition, ms, seq
FROM json_to_recordset(%(rows)s::json) AS r (
    about text, stream text, partition integer, ms bigint, seq bigint)
ON CONFLICT DO NOTHING
"""


class _Position(msgspec.Struct, frozen=True):
    about: str
    stream: str
    partition: int
    ms: int
    seq: int


class Positions:
    """Read model of where each fact stands; one row an entry."""

    name = "positions"
    version = 1
    streams = (
        "files",
        "detections",
        "batches",
        "assessments",
        "enrichments",
        "alerts",
        "system",
        "parked",
    )
    tables = ("positions",)

    async def apply(self, connection: Connection, envelopes: Sequence[Envelope]) -> None:
        """Insert the position of every entry that is about something one can ask for."""
        await write_run(connection, self, envelopes)

    def writes(self, run: Run) -> list[Write]:
        """Return one row an entry."""
        rows = {
            _Position(about, each.stream, each.partition, each.position.ms, each.position.seq)
            for each in run.in_order(*EVENT_TYPES.values())
            if (about := subject(each.event)) is not None
        }
        return [Write(INSERT_POSITIONS, list(rows), "positions")]


def service(name: str) -> str:
    """Return what the states of a service are about."""
    return f"service:{name}"


def subject(event: Event) -> str | None:
    """Return the id of what an event is about, the most particular one it names.

    Everything about a batch is found under the id of the event it becomes.
    """
    match event:
        case SettingsApplied():
            return SETTINGS
        case ServiceStateChanged():
            return service(event.service)
        case PictureBatched():
            return event.member.picture_id
        case Enrichment():
            return event.event_id
        case EntryParked() | EntryRedriven() | EntryDiscarded():
            of_batch = event_id(event.batch_id) if event.batch_id else None
            return event.picture_id or of_batch or event.file_id
        case _:
            return _named(event)


def _named(event: Event) -> str | None:
    for name in ("picture_id", "event_id", "file_id"):
        found = getattr(event, name, None)
        # `event_id` may also be an envelope's id; what a person calls an event begins with evt_.
        if isinstance(found, str) and (name != "event_id" or found.startswith("evt_")):
            return found
    return None
