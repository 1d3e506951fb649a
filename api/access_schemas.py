"""Bodies, queries and answers about keys, sessions and the audit."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from api.schemas import PageCursor
from domain.events import KeyRole, Outcome
from projections.access_queries import AuditCount, AuditRow

KeyText = Annotated[str, Meta(min_length=1, max_length=500)]
KeyName = Annotated[
    str, Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]*$")
]
CameraIds = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=128)]], Meta(min_length=1, max_length=200)
]


class Login(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /api/session."""

    api_key: KeyText


class SessionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, and what they may do."""

    required: bool
    """Whether this server asks for keys at all."""
    name: str
    role: KeyRole
    cameras: list[str] | None
    """The only cameras that the caller sees; null: all of them."""
    csrf_token: str | None
    """What a page with a session sends as X-CSRF-Token with every change."""


class KeyCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /api/keys."""

    name: KeyName
    role: KeyRole = "viewer"
    cameras: CameraIds | None = None
    """The only cameras that the key may see; left out: all of them."""


class KeyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A key that counts; the key itself is told once, when it is made."""

    id: str
    name: str
    role: KeyRole
    cameras: list[str] | None
    created_by: str | None
    """Null for a key of API_KEYS."""
    created_at: datetime | None


class NewKeyAnswer(KeyAnswer, frozen=True, kw_only=True):
    """A key that was made just now."""

    key: str
    """The key itself: it is shown only here, and kept nowhere."""


class KeysAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/keys."""

    keys: list[KeyAnswer]
    count: int


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/audit."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    cursor: PageCursor | None = None
    actor: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    action: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    resource: Annotated[str, Meta(min_length=1, max_length=300)] | None = None
    """What the path begins with, like /api/cameras."""
    outcome: Outcome | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None


class AuditAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/audit."""

    entries: list[AuditRow]
    count: int
    limit: int
    next_cursor: str | None


class AuditStats(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/audit/stats."""

    total: int
    by_outcome: dict[str, int]
    by_action: dict[str, int]
    by_actor: dict[str, int]
    counts: list[AuditCount]
