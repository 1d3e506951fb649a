"""Links sightings into entities: each to the earlier one that it is most alike, if alike enough.

A sighting's parent is decided by the sightings themselves: among those before it in event time
(within its window, of the same kind and model, of another event) the most similar one, if that
reaches its threshold; of several the latest. So the links are the same whatever the order in which
sightings become known, and an entity is a tree of them, named by its first. Where the server has
pgvector it picks the candidates; what is decided is decided by exact arithmetic in both cases.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from psycopg.rows import class_row

from projections.database import Connection, one_row
from projections.read_model import write_rows

CHUNK: Final = 256
"""Sightings linked at once: bounds what is read of the hours before them."""
DIGITS: Final = 6
"""Of a similarity; it is compared with the threshold as it is stored."""
SLACK: Final = 0.001
"""By how much pgvector, which adds up in single precision, may be wrong at most."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SENT: Final = np.dtype([("length", ">i4"), ("value", ">f4")])
_HEADER: Final = 20
"""Bytes before the values of an array with one dimension, as PostgreSQL sends it."""

HAS_PGVECTOR: Final = "SELECT to_regtype('vector') IS NOT NULL"

# Of whom the parent may be another now: the new ones, those whose parent has gone, and those that
# come after a new one and within their window.
TOUCHED: Final = """
SELECT id FROM (
    SELECT s.id, s.captured_at FROM sightings s
    WHERE s.id = ANY (%(fresh)s) OR s.parent_id = ANY (%(gone)s)
    UNION
    SELECT s.id, s.captured_at FROM sightings f JOIN sightings s
      ON s.kind = f.kind AND s.model = f.model AND s.model_version = f.model_version
     AND s.captured_at >= f.captured_at
     AND s.captured_at <= f.captured_at + make_interval(secs => s.window_hours * 3600)
    WHERE f.id = ANY (%(fresh)s)) t
ORDER BY captured_at, id
"""

CANDIDATES: Final = """
SELECT DISTINCT c.id
FROM sightings r JOIN sightings c
  ON c.kind = r.kind AND c.model = r.model AND c.model_version = r.model_version
 AND c.captured_at <= r.captured_at
 AND c.captured_at >= r.captured_at - make_interval(secs => r.window_hours * 3600)
 AND c.event_id <> r.event_id
WHERE r.id = ANY (%(ids)s)
"""

# Each vector is read and cast once, not once a pair: that alone takes most of the time.
CANDIDATES_PGVECTOR: Final = f"""
WITH r AS MATERIALIZED (
    SELECT id, event_id, kind, model, model_version, captured_at, threshold,
           captured_at - make_interval(secs => window_hours * 3600) AS earliest,
           cardinality(vector) AS size, vector::vector AS look
    FROM sightings WHERE id = ANY (%(ids)s)),
c AS MATERIALIZED (
    SELECT id, event_id, kind, model, model_version, captured_at,
           cardinality(vector) AS size, vector::vector AS look
    FROM sightings
    WHERE captured_at >= (SELECT min(earliest) FROM r)
      AND captured_at <= (SELECT max(captured_at) FROM r))
SELECT DISTINCT c.id
FROM r JOIN c
  ON c.kind = r.kind AND c.model = r.model AND c.model_version = r.model_version
 AND c.captured_at <= r.captured_at AND c.captured_at >= r.earliest
 AND c.event_id <> r.event_id
WHERE CASE WHEN c.size = r.size THEN 1 - (c.look <=> r.look) >= r.threshold - {SLACK} END
"""  # noqa: S608 - a figure of ours

ROWS: Final = """
SELECT id, event_id, captured_at, kind, model, model_version, threshold, window_hours,
       array_send(vector) AS vector
FROM sightings WHERE id = ANY (%(ids)s)
"""

SET_PARENTS: Final = """
UPDATE sightings AS s SET parent_id = r.parent_id, similarity = r.similarity
FROM json_to_recordset(%(rows)s::json) AS r (
    id text, parent_id text, similarity double precision)
WHERE s.id = r.id
"""

# Downwards from those whose parent may have changed: each takes its entity from its parent.
SET_ENTITIES: Final = """
WITH RECURSIVE affected AS (
    SELECT id, parent_id FROM sightings WHERE id = ANY (%(ids)s)
    UNION
    SELECT s.id, s.parent_id FROM sightings s JOIN affected a ON s.parent_id = a.id),
found AS (
    SELECT a.id, COALESCE(p.entity_id, a.id) AS entity_id
    FROM affected a LEFT JOIN sightings p ON p.id = a.parent_id
    WHERE a.parent_id IS NULL OR a.parent_id NOT IN (SELECT id FROM affected)
    UNION ALL
    SELECT a.id, f.entity_id FROM affected a JOIN found f ON a.parent_id = f.id)
UPDATE sightings AS s SET entity_id = f.entity_id FROM found f
WHERE s.id = f.id AND s.entity_id <> f.entity_id
"""


@dataclass(frozen=True, slots=True)
class Point:
    """One sighting as far as linking it goes."""

    id: str
    event_id: str
    captured_at: datetime
    kind: str
    model: str
    model_version: str
    threshold: float
    window_hours: float
    vector: bytes
    """As PostgreSQL sends an array of real."""

    @property
    def space(self) -> tuple[str, str, str, int]:
        """Return what two sightings must have in common to be compared."""
        return self.kind, self.model, self.model_version, len(self.vector)

    @property
    def at(self) -> int:
        """Return the event time in microseconds."""
        return (self.captured_at - _EPOCH) // timedelta(microseconds=1)

    def values(self) -> NDArray[np.float64]:
        """Return the vector's numbers."""
        sent: Any = np.frombuffer(self.vector, _SENT, offset=_HEADER)
        values: NDArray[np.float64] = sent["value"].astype(np.float64)
        return values


class Link(msgspec.Struct, frozen=True):
    """To which earlier sighting one belongs, and how alike they are; None: to none."""

    id: str
    parent_id: str | None
    similarity: float | None


async def relink(
    connection: Connection, fresh: Collection[str], gone: Collection[str], *, pgvector: bool = True
) -> None:
    """Decide anew about every sighting whose parent may be another after a change.

    `fresh` were inserted, `gone` deleted; `pgvector=False` does without it where it is.
    """
    if not fresh and not gone:
        return
    ids = await _ids(connection, TOUCHED, {"fresh": list(fresh), "gone": list(gone)})
    use = pgvector and (await one_row(connection, HAS_PGVECTOR))[0]
    statement = CANDIDATES_PGVECTOR if use else CANDIDATES
    for start in range(0, len(ids), CHUNK):
        wanted = ids[start : start + CHUNK]
        candidates = await _ids(connection, statement, {"ids": wanted})
        points = await _points(connection, {*wanted, *candidates})
        await write_rows(connection, SET_PARENTS, links(points, set(wanted)))
    await connection.execute(SET_ENTITIES, {"ids": ids})


def links(points: Sequence[Point], wanted: Collection[str]) -> list[Link]:
    """Return the links of the wanted points among all of these."""
    spaces: dict[tuple[str, str, str, int], list[Point]] = defaultdict(list)
    for point in sorted(points, key=lambda each: (each.at, each.id)):
        spaces[point.space].append(point)
    return [link for space in spaces.values() for link in _Space(space).links(wanted)]


class _Space:
    """Points that can be compared, in the order of event time."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._points = points
        self._matrix = np.stack([point.values() for point in points])
        # Whole numbers below 2^53: every sum is exact, in whatever order it is made.
        self._squares = np.square(self._matrix).sum(axis=1)
        self._at = np.array([point.at for point in points])
        _, self._event = np.unique([point.event_id for point in points], return_inverse=True)

    def links(self, wanted: Collection[str]) -> list[Link]:
        """Return the links of the wanted points."""
        return [self._link(n) for n, point in enumerate(self._points) if point.id in wanted]

    def _link(self, index: int) -> Link:
        point = self._points[index]
        earliest = point.at - round(point.window_hours * 3_600_000_000)
        first = int(np.searchsorted(self._at, earliest))
        if first == index:
            return Link(point.id, None, None)
        dots = self._matrix[first:index] @ self._matrix[index]
        lengths = np.sqrt(self._squares[first:index] * self._squares[index])
        similar = np.round(dots / lengths, DIGITS)
        similar[self._event[first:index] == self._event[index]] = -2.0
        best = index - 1 - int(np.argmax(similar[::-1]))  # Of several the latest.
        similarity = float(similar[best - first])
        if similarity < point.threshold:
            return Link(point.id, None, None)
        return Link(point.id, self._points[best].id, similarity)


async def _ids(connection: Connection, statement: str, values: dict[str, list[str]]) -> list[str]:
    cursor = await connection.execute(statement.encode(), values)
    return [row[0] for row in await cursor.fetchall()]


async def _points(connection: Connection, ids: Collection[str]) -> list[Point]:
    cursor = connection.cursor(row_factory=class_row(Point), binary=True)
    await cursor.execute(ROWS, {"ids": list(ids)})
    return await cursor.fetchall()
