"""Full-text search over the events, the best match first."""

from dataclasses import asdict
from typing import Any, Final

from psycopg.rows import kwargs_row
from psycopg.sql import SQL

from projections.cursor import Cursor
from projections.event_rows import EVENT_COLUMNS, EVENT_CONDITIONS, event_row
from projections.paging import page_conditions, page_values
from projections.reading import Reader, storable
from projections.rows import EventFilter, EventRow, Row

CANDIDATES: Final = 1000
"""Matches that are ranked, the newest ones: how long a search takes does not depend on in how
many events a frequent word stands."""

# Relevance is an integer (millionths), so that a page can begin exactly behind a row.
SEARCH: Final = SQL(
    """
WITH matching AS (
    SELECT id, words FROM events
    WHERE stage IS NOT NULL AND words @@ websearch_to_tsquery('english', %(words)s)
      AND {conditions}
    ORDER BY started_at DESC, id DESC LIMIT %(candidates)s),
ranked AS (
    SELECT id AS found_id, count(*) OVER () AS matches,
        (ts_rank_cd(words, websearch_to_tsquery('english', %(words)s), 32) * 1000000)::bigint
            AS relevance
    FROM matching),
page AS (
    SELECT * FROM ranked
    WHERE %(after_rank)s::bigint IS NULL OR (relevance, found_id) < (%(after_rank)s, %(after_id)s)
    ORDER BY relevance DESC, found_id DESC LIMIT %(limit)s)
SELECT {columns}, relevance, matches FROM page JOIN events ON id = found_id
ORDER BY relevance DESC, id DESC
"""
)


class FoundRow(Row, frozen=True, kw_only=True):
    """An event that matches, and how well."""

    event: EventRow
    relevance: int
    """Millionths; comparable within one search only."""
    matches: int
    """Matches that were ranked: all of them, or the newest CANDIDATES."""


class FoundPage(Row, frozen=True, kw_only=True):
    """A page of matches, best first."""

    items: list[FoundRow]
    matches: int
    next_cursor: str | None


class SearchQueries(Reader):
    """Searches the words of events."""

    async def search(
        self, words: str, wanted: EventFilter, *, limit: int, after: str | None = None
    ) -> FoundPage:
        """Return a page of the events that match `words`, as a person writes them in a search.

        "a phrase" in quotes, `or`, and `-` before what must not be there; everything else must be.
        """
        values = page_values(asdict(wanted), limit, None)
        conditions = page_conditions(EVENT_CONDITIONS, values)
        rank, last = _position(after)
        values |= {"words": words, "candidates": CANDIDATES, "after_rank": rank, "after_id": last}
        statement = SEARCH.format(columns=EVENT_COLUMNS, conditions=conditions)
        async with self._connected() as connection:
            cursor = connection.cursor(row_factory=kwargs_row(_found_row))
            # Planned for these very words each time: how frequent they are decides the way.
            await cursor.execute(statement, storable(values), prepare=False)
            rows = await cursor.fetchall()
        items = rows[:limit]
        more = len(rows) > limit
        return FoundPage(
            items=items,
            matches=rows[0].matches if rows else 0,
            next_cursor=f"{items[-1].relevance}~{items[-1].event.id}" if more else None,
        )


def _position(after: str | None) -> tuple[int | None, str]:
    """Return the relevance and id behind which a page begins."""
    if after is None:
        return None, ""
    Cursor.decode(after)  # Of the same form as every other cursor.
    rank, _, last = after.partition("~")
    return int(rank), last


def _found_row(relevance: int, matches: int, **columns: Any) -> FoundRow:  # noqa: ANN401 - as stored
    return FoundRow(event=event_row(**columns), relevance=relevance, matches=matches)
