"""Metrics: what happened since the log began, in a fixed number of rows that a scrape can read.

Counted from the log, not by whoever did the work: any number of processes give the same figures,
a restart does not begin at 0, and a rebuild comes to the same sums. All of them are whole numbers,
so that the order in which runs are added makes no difference.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from projections.database import Connection
from projections.metric_sums import Sums, opened_in
from projections.read_model import write_rows
from streams.envelope import Envelope, Position

PLACES: Final = "SELECT stream, partition, ms, seq FROM metric_places"

UPSERT_PLACES: Final = """
INSERT INTO metric_places (stream, partition, ms, seq)
SELECT stream, partition, ms, seq
FROM json_to_recordset(%(rows)s::json) AS r (
    stream text, partition bigint, ms bigint, seq bigint)
ON CONFLICT (stream, partition) DO UPDATE SET ms = EXCLUDED.ms, seq = EXCLUDED.seq
"""

ADD_COUNTERS: Final = """
INSERT INTO metric_counters AS c (family, label, value)
SELECT family, label, value
FROM json_to_recordset(%(rows)s::json) AS r (family text, label text, value bigint)
ON CONFLICT (family, label) DO UPDATE SET value = c.value + EXCLUDED.value
"""

ADD_DURATIONS: Final = """
INSERT INTO metric_durations AS d (
    stage, bucket, entries, total_ms, example_ms, example_trace, example_at)
SELECT stage, bucket, entries, total_ms, example_ms, example_trace, example_at
FROM json_to_recordset(%(rows)s::json) AS r (
    stage text, bucket bigint, entries bigint, total_ms bigint, example_ms bigint,
    example_trace text, example_at bigint)
ON CONFLICT (stage, bucket) DO UPDATE SET
    entries = d.entries + EXCLUDED.entries, total_ms = d.total_ms + EXCLUDED.total_ms,
    (example_at, example_trace, example_ms) = (
        SELECT a, t, m FROM (VALUES
            (d.example_at, d.example_trace, d.example_ms),
            (EXCLUDED.example_at, EXCLUDED.example_trace, EXCLUDED.example_ms)
        ) AS v (a, t, m) ORDER BY a DESC, t COLLATE "C" DESC, m DESC LIMIT 1)
"""

ADD_MODELS: Final = """
INSERT INTO metric_models AS m (
    model, questions, tokens_in, tokens_out, tokens_cached, total_ms, shortened, newest_tokens,
    newest_window, newest_at, newest_id)
SELECT
    model, questions, tokens_in, tokens_out, tokens_cached, total_ms, shortened, newest_tokens,
    newest_window, newest_at, newest_id
FROM json_to_recordset(%(rows)s::json) AS r (
    model text, questions bigint, tokens_in bigint, tokens_out bigint, tokens_cached bigint,
    total_ms bigint, shortened bigint, newest_tokens bigint, newest_window bigint,
    newest_at bigint, newest_id text)
ON CONFLICT (model) DO UPDATE SET
    questions = m.questions + EXCLUDED.questions, tokens_in = m.tokens_in + EXCLUDED.tokens_in,
    tokens_out = m.tokens_out + EXCLUDED.tokens_out,
    tokens_cached = m.tokens_cached + EXCLUDED.tokens_cached,
    total_ms = m.total_ms + EXCLUDED.total_ms, shortened = m.shortened + EXCLUDED.shortened,
    (newest_at, newest_id, newest_tokens, newest_window) = (
        SELECT a, i, t, w FROM (VALUES
            (m.newest_at, m.newest_id, m.newest_tokens, m.newest_window),
            (EXCLUDED.newest_at, EXCLUDED.newest_id, EXCLUDED.newest_tokens,
             EXCLUDED.newest_window)
        ) AS v (a, i, t, w) ORDER BY a DESC, i COLLATE "C" DESC LIMIT 1)
"""

OPEN: Final = """
INSERT INTO metric_open_batches (batch_id, opened_ms)
SELECT batch_id, opened_ms
FROM json_to_recordset(%(rows)s::json) AS r (batch_id text, opened_ms bigint)
ON CONFLICT DO NOTHING
"""

CLOSE: Final = """
DELETE FROM metric_open_batches WHERE batch_id = ANY (%s) RETURNING batch_id, opened_ms
"""


class _Place(msgspec.Struct, frozen=True):
    stream: str
    partition: int
    ms: int
    seq: int


class _Open(msgspec.Struct, frozen=True):
    batch_id: str
    opened_ms: int


class Metrics:
    """Read model of counters and durations."""

    name = "metrics"
    version = 1
    pace_seconds = 1.0
    """Nobody looks at a figure that often: what happens within a second is added at once."""
    streams = (
        "files",
        "detections",
        "batches",
        "assessments",
        "enrichments",
        "trials",
        "scenes",
        "parked",
    )
    tables = (
        "metric_counters",
        "metric_durations",
        "metric_models",
        "metric_open_batches",
        "metric_places",
    )

    async def apply(self, connection: Connection, envelopes: Sequence[Envelope]) -> None:
        """Add what has not been counted yet."""
        fresh = await _uncounted(connection, envelopes)
        if not fresh:
            return
        sums = Sums()
        # An entry that a redrive appended anew was counted when it first came.
        counted = [envelope for envelope in fresh if not envelope.only_for]
        sums.add(counted, await _opened(connection, counted))
        await write_rows(connection, ADD_COUNTERS, sums.counter_rows())
        await write_rows(
            connection, ADD_DURATIONS, [row for _, row in sorted(sums.durations.items())]
        )
        await write_rows(connection, ADD_MODELS, [row for _, row in sorted(sums.models.items())])
        ends = {(e.stream, e.partition): e.position for e in fresh}
        places = [_Place(*lane, *position) for lane, position in sorted(ends.items())]
        await write_rows(connection, UPSERT_PLACES, places)


async def _uncounted(connection: Connection, envelopes: Sequence[Envelope]) -> list[Envelope]:
    """Return what stands behind the places up to which is counted, every entry once."""
    cursor = await connection.execute(PLACES)
    places = {(s, p): Position(ms, seq) for s, p, ms, seq in await cursor.fetchall()}
    fresh = []
    for envelope in envelopes:
        lane = (envelope.stream, envelope.partition)
        place = places.get(lane)
        if place is None or envelope.position > place:
            places[lane] = envelope.position
            fresh.append(envelope)
    return fresh


async def _opened(connection: Connection, envelopes: Sequence[Envelope]) -> dict[str, int]:
    """Keep the batches that are open; return when those that closed were opened."""
    closed, still = opened_in(envelopes)
    if closed:
        cursor = await connection.execute(CLOSE, (list(closed),))
        closed |= dict(await cursor.fetchall())
    await write_rows(connection, OPEN, [_Open(*each) for each in sorted(still.items())])
    return closed
