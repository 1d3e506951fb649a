"""What every event has: a tag, a version, a stream, a camera; and the box that a model draws."""

from datetime import datetime
from typing import Annotated, ClassVar

import msgspec

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with its zone; one without is refused when it is read."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An immutable fact about one camera; subclasses say which."""

    TAG: ClassVar[str] = ""
    VERSION: ClassVar[int] = 1
    STREAM: ClassVar[str] = ""

    camera_id: str

    @property
    def occurred_at(self) -> datetime | None:
        """Return the event time: when it happened in front of the camera, if it did."""
        return None


class Box(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One object that a model saw: where (pixels from the top left), what, how sure (0 to 1)."""

    label: str
    score: float
    x: float
    y: float
    width: float
    height: float
