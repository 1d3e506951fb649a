"""Routes of the audit: who did what, and who was refused."""

from collections import Counter

from aiohttp import web

from api.access_schemas import AuditAnswer, AuditQuery, AuditStats
from api.parse import path_id
from api.problems import ProblemError
from api.routing import Routes
from api.services import SERVICES, answer
from projections.access_queries import AuditFilter, AuditRow
from projections.cursor import BadCursorError

routes = Routes("audit")


@routes.get("/api/audit", AuditAnswer, role="admin", problems=["invalid_cursor"])
async def list_audit(request: web.Request, query: AuditQuery) -> web.Response:
    """Answer who did what, the newest first."""
    which = AuditFilter(
        actor=query.actor,
        action=query.action,
        resource=query.resource,
        outcome=query.outcome,
        start=query.start_date,
        end=query.end_date,
    )
    queries = request.app[SERVICES].queries
    try:
        page = await queries.audit(which, limit=query.limit, after=query.cursor)
    except BadCursorError as error:
        raise ProblemError("invalid_cursor", str(error)) from error
    return answer(
        AuditAnswer(
            entries=page.items,
            count=len(page.items),
            limit=query.limit,
            next_cursor=page.next_cursor,
        )
    )


@routes.get("/api/audit/stats", AuditStats, role="admin")
async def audit_stats(request: web.Request) -> web.Response:
    """Answer how often whom did what."""
    counts = await request.app[SERVICES].queries.audit_counts()
    outcomes: Counter[str] = Counter()
    actions: Counter[str] = Counter()
    actors: Counter[str] = Counter()
    for row in counts:
        outcomes[row.outcome] += row.count
        actions[row.action] += row.count
        actors[row.actor] += row.count
    return answer(
        AuditStats(
            total=outcomes.total(),
            by_outcome=dict(outcomes.most_common()),
            by_action=dict(actions.most_common()),
            by_actor=dict(actors.most_common()),
            counts=counts,
        )
    )


@routes.get("/api/audit/{id}", AuditRow, role="admin", problems=["audit_not_found"])
async def get_audit(request: web.Request) -> web.Response:
    """Answer one line of the audit."""
    wanted = path_id(request, "audit_not_found")
    row = await request.app[SERVICES].queries.audit_row(wanted)
    if row is None:
        raise ProblemError("audit_not_found", f"there is no line {wanted!r} in the audit")
    return answer(row)
