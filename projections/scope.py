"""Which cameras a caller may see: kept beside the request, so that no query can forget it.

Lists by pages are cut in PostgreSQL (`paging`), every other row by its camera when it is read
(`reading`). Sums over all cameras cannot be cut: the API does not let such callers ask for them.
"""

from collections.abc import Collection
from contextvars import ContextVar
from typing import TypeVar

from projections.rows import CameraRow

T = TypeVar("T")

_seen: ContextVar[frozenset[str] | None] = ContextVar("cameras_seen", default=None)


class seeing_only:  # noqa: N801 - read as a phrase: with seeing_only(…)
    """Let the queries of this task see these cameras only; None: all of them."""

    __slots__ = ("_cameras", "_token")

    def __init__(self, cameras: Collection[str] | None) -> None:
        self._cameras = None if cameras is None else frozenset(cameras)

    def __enter__(self) -> None:
        self._token = _seen.set(self._cameras)

    def __exit__(self, *_: object) -> None:
        _seen.reset(self._token)


def cameras_seen() -> frozenset[str] | None:
    """Return the cameras that the caller may see, None for all of them."""
    return _seen.get()


def rows_seen(rows: list[T]) -> list[T]:
    """Return the rows without those of cameras that the caller may not see."""
    cameras = _seen.get()
    if cameras is None:
        return rows
    return [row for row in rows if _camera_of(row) is None or _camera_of(row) in cameras]


def _camera_of(row: object) -> str | None:
    return row.id if isinstance(row, CameraRow) else getattr(row, "camera_id", None)
