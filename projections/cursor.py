"""The opaque text that says where the next page begins: the last row's time and id."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime

import msgspec

from domain.errors import PermanentError


class BadCursorError(PermanentError):
    """A page cursor that no list of this API gave out."""


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The sort key of the last row of a page."""

    at: datetime
    id: str

    def encode(self) -> str:
        """Return the text that goes into `next_cursor`."""
        return urlsafe_b64encode(msgspec.json.encode(self)).decode("ascii").rstrip("=")

    @classmethod
    def decode(cls, text: str) -> "Cursor":
        """Read a `next_cursor` back; raises BadCursorError on any other text."""
        padded = text + "=" * (-len(text) % 4)
        try:
            cursor = msgspec.json.decode(urlsafe_b64decode(padded.encode("ascii")), type=cls)
        except (ValueError, msgspec.MsgspecError) as error:
            message = "the cursor is not one that a list gave out: begin at the first page"
            raise BadCursorError(message) from error
        if cursor.at.tzinfo is None or "\0" in cursor.id:
            message = "the cursor has no time zone or a broken id: begin at the first page"
            raise BadCursorError(message)
        return cursor
