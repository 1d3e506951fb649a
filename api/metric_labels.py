"""Labels that stay bounded, whatever names come from outside: the rest is counted as `other`."""

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

Row = TypeVar("Row")

MOST_VALUES: Final = 50
"""Different values of one label that are shown."""
OTHER: Final = "other"
LONGEST: Final = 120


def bounded(
    rows: Iterable[Row], name_of: Callable[[Row], str], most: int = MOST_VALUES
) -> list[tuple[str, list[Row]]]:
    """Return rows by a label's value, the first `most` of them by themselves.

    Rows come with the weightiest first; what is left of them is one group called `other`.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        name = name_of(row)[:LONGEST]
        found.setdefault(name if name in found or len(found) < most else OTHER, []).append(row)
    return list(found.items())
