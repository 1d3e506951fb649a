"""Access: the keys that were given out, and who did what through the API."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from domain.events import ActionAudited, ApiKeyCreated, ApiKeyRevoked
from projections.database import Connection
from projections.read_model import Run, write_rows
from streams.envelope import Envelope

INSERT_KEYS: Final = """
INSERT INTO api_keys (id, name, role, sha256, cameras, created_by, created_at)
SELECT id, name, role, sha256, cameras, created_by, created_at
FROM json_to_recordset(%(rows)s::json) AS r (
    id text, name text, role text, sha256 text, cameras text[], created_by text,
    created_at timestamptz)
ON CONFLICT DO NOTHING
"""

# All of these events lie in one partition, so a key is there before it is revoked.
REVOKE_KEYS: Final = """
UPDATE api_keys AS k SET revoked_by = r.revoked_by, revoked_at = r.revoked_at
FROM json_to_recordset(%(rows)s::json) AS r (id text, revoked_by text, revoked_at timestamptz)
WHERE k.id = r.id AND k.revoked_at IS NULL
"""

INSERT_AUDIT: Final = """
INSERT INTO audit (
    id, acted_at, actor, action, resource, outcome, status, address, request_id, detail)
SELECT id, acted_at, actor, action, resource, outcome, status, address, request_id, detail
FROM json_to_recordset(%(rows)s::json) AS r (
    id text, acted_at timestamptz, actor text, action text, resource text, outcome text,
    status bigint, address text, request_id text, detail text)
ON CONFLICT DO NOTHING
"""


class _Key(msgspec.Struct, frozen=True):
    id: str
    name: str
    role: str
    sha256: str
    cameras: tuple[str, ...] | None
    created_by: str
    created_at: datetime


class _Revocation(msgspec.Struct, frozen=True):
    id: str
    revoked_by: str
    revoked_at: datetime


class _Audit(msgspec.Struct, frozen=True):
    id: str
    acted_at: datetime
    actor: str
    action: str
    resource: str
    outcome: str
    status: int
    address: str
    request_id: str
    detail: str


class Access:
    """Read model of keys and of the audit."""

    name = "access"
    version = 1
    streams = ("system",)
    tables = ("api_keys", "audit")

    async def apply(self, connection: Connection, envelopes: Sequence[Envelope]) -> None:
        """Insert keys and audit rows, then mark what was revoked; the first of each id counts."""
        run = Run(envelopes)
        keys = {event.key_id: _key(event) for event, _ in reversed(list(run.of(ApiKeyCreated)))}
        revoked: dict[str, _Revocation] = {}
        for event, _ in run.of(ApiKeyRevoked):
            row = _Revocation(event.key_id, event.actor, event.revoked_at)
            revoked.setdefault(event.key_id, row)
        audited = {
            envelope.id: _audit(envelope.id, event) for event, envelope in run.of(ActionAudited)
        }
        await write_rows(connection, INSERT_KEYS, list(keys.values()))
        await write_rows(connection, REVOKE_KEYS, list(revoked.values()))
        await write_rows(connection, INSERT_AUDIT, list(audited.values()))


def _key(event: ApiKeyCreated) -> _Key:
    return _Key(
        event.key_id,
        event.name,
        event.role,
        event.sha256,
        event.cameras,
        event.actor,
        event.created_at,
    )


def _audit(event_id: str, event: ActionAudited) -> _Audit:
    return _Audit(
        id=event_id,
        acted_at=event.acted_at,
        actor=event.actor,
        action=event.action,
        resource=event.resource,
        outcome=event.outcome,
        status=event.status,
        address=event.address,
        request_id=event.request_id,
        detail=event.detail,
    )
