"""What PostgreSQL refuses in a run: found by halving, noted, and passed over."""

import logging
from collections.abc import Sequence
from typing import Final

import psycopg

from projections.database import Connection
from projections.read_model import ReadModel
from streams.about import about
from streams.envelope import Envelope

REFUSED: Final = (psycopg.DataError, psycopg.IntegrityError)
"""PostgreSQL takes everything but these values: never, however often they are sent."""

NOTE_REFUSED: Final = """
INSERT INTO refused_events (
    projection, version, stream, partition, ms, seq, event_id, event_tag, error, refused_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, now())
ON CONFLICT DO NOTHING
"""

_log = logging.getLogger(__name__)


async def apply_what_is_taken(
    connection: Connection, model: ReadModel, envelopes: Sequence[Envelope]
) -> None:
    """Apply a run of which PostgreSQL may refuse something, leaving out just what it refuses."""
    try:
        async with connection.transaction():
            await model.apply(connection, envelopes)
    except REFUSED as error:
        if len(envelopes) == 1:
            await _note_refused(connection, model, envelopes[0], error)
            return
        middle = len(envelopes) // 2
        await apply_what_is_taken(connection, model, envelopes[:middle])
        await apply_what_is_taken(connection, model, envelopes[middle:])


async def _note_refused(
    connection: Connection, model: ReadModel, envelope: Envelope, error: psycopg.Error
) -> None:
    with about(envelope):
        _log.error(
            "read model %s passes over %s at %s/%d %s, which PostgreSQL refuses: %s",
            model.name,
            envelope.tag,
            envelope.stream,
            envelope.partition,
            envelope.position,
            error,
            extra={"action": "event_refused", "projection": model.name},
        )
    await connection.execute(
        NOTE_REFUSED,
        (
            model.name,
            model.version,
            envelope.stream,
            envelope.partition,
            *envelope.position,
            envelope.id.replace("\0", "\ufffd"),
            envelope.tag,
            str(error).replace("\0", "\ufffd"),
        ),
    )
