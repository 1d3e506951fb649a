"""Queries about keys and the audit."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from psycopg.sql import SQL

from domain.events import KeyRole, Outcome
from projections.cursor import Cursor
from projections.paging import page_conditions, page_of, page_values
from projections.reading import Reader
from projections.rows import Page, Row

KEYS: Final = SQL(
    """SELECT id, name, role, sha256, cameras, created_by, created_at, revoked_by, revoked_at
    FROM api_keys ORDER BY created_at, id"""
)

COLUMNS: Final = SQL(
    "id, acted_at, actor, action, resource, outcome, status, address, request_id, detail"
)

AUDIT_PAGE: Final = SQL(
    """SELECT {columns} FROM audit WHERE {conditions}
    ORDER BY acted_at DESC, id DESC LIMIT %(limit)s"""
)

AUDIT_ROW: Final = SQL("SELECT {} FROM audit WHERE id = %(id)s").format(COLUMNS)

CONDITIONS: Final = {
    "actor": SQL("actor = %(actor)s"),
    "action": SQL("action = %(action)s"),
    "resource": SQL("starts_with(resource, %(resource)s)"),
    "outcome": SQL("outcome = %(outcome)s"),
    "start": SQL("acted_at >= %(start)s"),
    "end": SQL("acted_at < %(end)s"),
    "after_id": SQL("(acted_at, id) < (%(after_at)s, %(after_id)s)"),
}

AUDIT_COUNTS: Final = SQL(
    """SELECT actor, action, outcome, count(*) AS count, max(acted_at) AS last_at
    FROM audit GROUP BY actor, action, outcome ORDER BY count DESC, actor, action, outcome"""
)


class KeyRow(Row, frozen=True, kw_only=True):
    """A key that was given out; its hash, never the key."""

    id: str
    name: str
    role: KeyRole
    sha256: str
    cameras: list[str] | None
    created_by: str
    created_at: datetime
    revoked_by: str | None
    revoked_at: datetime | None


class AuditRow(Row, frozen=True, kw_only=True):
    """What somebody did, or tried."""

    id: str
    acted_at: datetime
    actor: str
    action: str
    resource: str
    outcome: Outcome
    status: int
    address: str
    request_id: str
    detail: str


class AuditCount(Row, frozen=True, kw_only=True):
    """How often somebody did something."""

    actor: str
    action: str
    outcome: Outcome
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which audit rows to list; None leaves a condition out."""

    actor: str | None = None
    action: str | None = None
    resource: str | None = None
    """What the path begins with."""
    outcome: str | None = None
    start: datetime | None = None
    end: datetime | None = None


class AccessQueries(Reader):
    """Reads of keys and audit rows."""

    async def api_keys(self) -> list[KeyRow]:
        """Return every key that was ever given out, the oldest first."""
        return await self._all(KeyRow, KEYS)

    async def audit(
        self, wanted: AuditFilter, *, limit: int, after: str | None = None
    ) -> Page[AuditRow]:
        """Return a page of audit rows, the newest first."""
        values = page_values(asdict(wanted), limit, after)
        statement = AUDIT_PAGE.format(
            columns=COLUMNS, conditions=page_conditions(CONDITIONS, values)
        )
        rows = await self._all(AuditRow, statement, values)
        return page_of(rows, limit, lambda row: Cursor(row.acted_at, row.id))

    async def audit_row(self, wanted: str) -> AuditRow | None:
        """Return one audit row."""
        return await self._first(AuditRow, AUDIT_ROW, {"id": wanted})

    async def audit_counts(self) -> list[AuditCount]:
        """Return how often whom did what, the most frequent first."""
        return await self._all(AuditCount, AUDIT_COUNTS)
