"""Stream `system`, the part about people: keys that came and went, and who did what."""

from datetime import datetime
from typing import ClassVar, Literal

from domain.events.base import Event, Moment

KeyRole = Literal["viewer", "operator", "admin"]
"""What a key may do; each may do what those before it may."""

Outcome = Literal["success", "refused"]


class ApiKeyCreated(Event, frozen=True, kw_only=True):
    """A named key counts from now on; the key itself is nowhere but with its owner."""

    TAG: ClassVar[str] = "api_key.created"
    STREAM: ClassVar[str] = "system"

    key_id: str
    name: str
    role: KeyRole
    sha256: str
    """Of the key, which is 256 random bits: nobody finds it from this."""
    cameras: tuple[str, ...] | None = None
    """The only cameras that the key may see; None: all of them."""
    actor: str
    created_at: Moment

    @property
    def occurred_at(self) -> datetime:
        return self.created_at


class ApiKeyRevoked(Event, frozen=True, kw_only=True):
    """A named key counts no more."""

    TAG: ClassVar[str] = "api_key.revoked"
    STREAM: ClassVar[str] = "system"

    key_id: str
    actor: str
    revoked_at: Moment

    @property
    def occurred_at(self) -> datetime:
        return self.revoked_at


class ActionAudited(Event, frozen=True, kw_only=True):
    """Somebody changed something through the API, or was refused."""

    TAG: ClassVar[str] = "action.audited"
    STREAM: ClassVar[str] = "system"

    actor: str
    """Name of the key, `anonymous` where none is asked for, `unknown` where none was right."""
    action: str
    resource: str
    """Path that was asked, without the query."""
    outcome: Outcome
    status: int
    address: str
    request_id: str
    detail: str = ""
    """Why it was refused."""
    acted_at: Moment

    @property
    def occurred_at(self) -> datetime:
        return self.acted_at
