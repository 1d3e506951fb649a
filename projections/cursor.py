"""The opaque text that says where the next page begins: the last row's time and id."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from domain.errors import PermanentError

PATTERN: Final = r"^(-?\d{1,16}|\d{17})~[A-Za-z0-9_.-]{1,128}$"
"""Every text of this form is a cursor: microseconds since 1970, a tilde and an id."""

_FORM = re.compile(PATTERN.replace(r"\d", "[0-9]"))
_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class BadCursorError(PermanentError):
    """A page cursor that no list of this API gave out."""


class Cursor(msgspec.Struct, frozen=True):
    """The sort key of the last row of a page."""

    at: datetime
    id: str

    def encode(self) -> str:
        """Return the text that goes into `next_cursor`."""
        return f"{(self.at - _BEGIN) // _MICROSECOND}~{self.id}"

    @classmethod
    def decode(cls, text: str) -> "Cursor":
        """Read a `next_cursor` back; raises BadCursorError on any other text."""
        if not _FORM.fullmatch(text):
            message = "the cursor is not one that a list gave out: begin at the first page"
            raise BadCursorError(message)
        at, _, last = text.partition("~")
        return cls(_BEGIN + int(at) * _MICROSECOND, last)
