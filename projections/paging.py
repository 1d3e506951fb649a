"""Lists by pages: the conditions that a filter asks for, and where the next page begins."""

from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeVar

from psycopg.sql import SQL, Composed

from projections.cursor import Cursor
from projections.rows import Page
from projections.scope import cameras_seen

T = TypeVar("T")

SEEN: Final = SQL("camera_id = ANY (%(cameras_seen)s)")
"""Cuts a list to the cameras that the caller may see; every such list has this column."""


def page_values(wanted: Mapping[str, object], limit: int, after: str | None) -> dict[str, object]:
    """Return the statement's values: the given filters, one row more than the page, the cursor."""
    values = {name: value for name, value in wanted.items() if value is not None}
    values["limit"] = limit + 1
    if (cameras := cameras_seen()) is not None:
        values["cameras_seen"] = sorted(cameras)
    if after is not None:
        cursor = Cursor.decode(after)
        values |= {"after_at": cursor.at, "after_id": cursor.id}
    return values


def page_conditions(known: Mapping[str, SQL], values: Collection[str]) -> Composed:
    """Return the conditions that the names in `values` ask for, joined."""
    known = {**known, "cameras_seen": SEEN}
    return SQL(" AND ").join([SQL("true"), *(c for name, c in known.items() if name in values)])


def page_of(rows: list[T], limit: int, key: Callable[[T], Cursor]) -> Page[T]:
    """Cut the row too many off; where there was one, another page begins."""
    items = rows[:limit]
    more = len(rows) > limit and bool(items)
    return Page(items=items, next_cursor=key(items[-1]).encode() if more else None)
