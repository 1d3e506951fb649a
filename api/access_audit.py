"""Who did what: every change and every refusal as an event of the stream `system`."""

import logging
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final
from uuid import uuid4

from aiohttp import web

from api.limits import LocalWindows
from api.middleware import REQUEST_ID
from api.problems import ProblemError
from api.routing import Operation
from domain.errors import TransientError
from domain.events import SYSTEM, ActionAudited, Outcome
from streams.envelope import NewEvent
from streams.log import EventLog

logger = logging.getLogger(__name__)

ACTIONS: Final = {
    "add_camera": "camera_created",
    "change_camera": "camera_updated",
    "remove_camera": "camera_deleted",
    "review_event": "event_updated",
    "create_key": "key_created",
    "revoke_key": "key_revoked",
    "begin_session": "session_begun",
    "end_session": "session_ended",
}
"""Operation → what the audit calls it; any other write is called by its operation."""

UNAUDITED: Final = frozenset({"log_of_browser"})
"""Operations that write something, but change nothing."""

REFUSALS_A_MINUTE: Final = 20
"""Refusals that are kept of one client: a flood of them is one fact, not thousands."""

_MOST_PATH: Final = 300


class Audit:
    """Writes the audit into the log."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._refusals = LocalWindows()

    async def done(
        self, request: web.Request, operation: Operation, who: tuple[str, str], status: int
    ) -> None:
        """Note that somebody (name and address) changed something."""
        if status < HTTPStatus.BAD_REQUEST and operation.name not in UNAUDITED:
            await self._note(request, operation, who, "success", status, "")

    async def refused(
        self, request: web.Request, operation: Operation, who: tuple[str, str], why: ProblemError
    ) -> None:
        """Note that somebody was not let in."""
        if (await self._refusals.hit(" ".join(who), REFUSALS_A_MINUTE)).accepted:
            await self._note(request, operation, who, "refused", why.status, why.detail)

    async def _note(
        self,
        request: web.Request,
        operation: Operation,
        who: tuple[str, str],
        outcome: Outcome,
        status: int,
        detail: str,
    ) -> None:
        actor, address = who
        event = ActionAudited(
            camera_id=SYSTEM,
            actor=actor,
            action=ACTIONS.get(operation.name, operation.name),
            resource=request.path[:_MOST_PATH],
            outcome=outcome,
            status=status,
            address=address,
            request_id=request.get(REQUEST_ID, ""),
            detail=detail,
            acted_at=datetime.now(UTC),
        )
        new_id = f"audit_{uuid4().hex}"
        try:
            await self._log.append(NewEvent(id=new_id, event=event, correlation_id=new_id))
        except TransientError as error:
            # The change itself stands in the log already, or was refused.
            logger.error(
                "the audit lacks a line, Redis is away (%s): %s %s %s of %s: %s",
                error,
                actor,
                event.action,
                event.resource,
                address,
                outcome,
                extra={"action": "audit_lost"},
            )
