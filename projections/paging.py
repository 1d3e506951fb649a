"""Lists by pages: the conditions that a filter asks for, and where the next page begins."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from psycopg.sql import SQL, Composed

from projections.cursor import Cursor
from projections.rows import Page

T = TypeVar("T")


def page_values(wanted: Mapping[str, object], limit: int, after: str | None) -> dict[str, object]:
    """Return the statement's values: the given filters, one row more than the page, the cursor."""
    values = {name: value for name, value in wanted.items() if value is not None}
    values["limit"] = limit + 1
    if after is not None:
        cursor = Cursor.decode(after)
        values |= {"after_at": cursor.at, "after_id": cursor.id}
    return values


def page_conditions(known: Mapping[str, SQL], values: Mapping[str, object]) -> Composed:
    """Return the conditions that `values` ask for, joined."""
    return SQL(" AND ").join([SQL("true"), *(c for name, c in known.items() if name in values)])


def page_of(rows: list[T], limit: int, key: Callable[[T], Cursor]) -> Page[T]:
    """Cut the row too many off; where there was one, another page begins."""
    items = rows[:limit]
    more = len(rows) > limit and bool(items)
    return Page(items=items, next_cursor=key(items[-1]).encode() if more else None)
