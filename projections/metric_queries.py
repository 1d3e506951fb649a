"""What a scrape reads from the tables: one statement, one round trip, a fixed number of rows."""

from typing import Final

import msgspec
from psycopg.sql import SQL

from projections.reading import Reader
from streams.envelope import Position

FIGURES: Final = SQL(
    """
SELECT json_build_object(
    'counters', (SELECT coalesce(json_agg(c), '[]') FROM metric_counters c),
    'durations', (
        SELECT coalesce(json_agg(d ORDER BY stage, bucket), '[]') FROM metric_durations d),
    'models', (
        SELECT coalesce(json_agg(m ORDER BY questions DESC, model), '[]') FROM metric_models m),
    'parked', (
        SELECT coalesce(json_agg(p ORDER BY entries DESC, stage, cause), '[]') FROM (
            SELECT group_name AS stage, cause, count(*) AS entries FROM parked_entries
            WHERE resolution IS NULL GROUP BY 1, 2) p),
    'checkpoints', (
        SELECT coalesce(json_agg(k ORDER BY projection), '[]') FROM (
            SELECT projection, stream, partition, ms, seq FROM checkpoints c
            WHERE version = (
                SELECT max(version) FROM checkpoints n WHERE n.projection = c.projection)) k)
)::text
"""
)


class CounterFigure(msgspec.Struct, frozen=True):
    """One counter."""

    family: str
    label: str
    value: int


class DurationFigure(msgspec.Struct, frozen=True):
    """One bucket of a stage's durations."""

    stage: str
    bucket: int
    entries: int
    total_ms: int
    example_ms: int
    example_trace: str
    example_at: int


class ModelFigure(msgspec.Struct, frozen=True):
    """What one model was used for."""

    model: str
    questions: int
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    total_ms: int
    shortened: int
    newest_tokens: int
    newest_window: int | None


class ParkedFigure(msgspec.Struct, frozen=True):
    """Parked entries of one stage and cause."""

    stage: str
    cause: str
    entries: int


class CheckpointFigure(msgspec.Struct, frozen=True):
    """How far a projection has applied one lane."""

    projection: str
    stream: str
    partition: int
    ms: int
    seq: int

    @property
    def lane(self) -> tuple[str, int]:
        """Return the stream and the partition."""
        return self.stream, self.partition

    @property
    def position(self) -> Position:
        """Return the last position applied."""
        return Position(self.ms, self.seq)


class Figures(msgspec.Struct, frozen=True):
    """All of it, of one moment."""

    counters: list[CounterFigure]
    durations: list[DurationFigure]
    models: list[ModelFigure]
    parked: list[ParkedFigure]
    checkpoints: list[CheckpointFigure]


_decoder = msgspec.json.Decoder(Figures)


class MetricQueries(Reader):
    """Reads of the metrics."""

    async def figures(self) -> Figures:
        """Return every figure that the tables hold."""
        return _decoder.decode(await self._text(FIGURES, {}) or "{}")
