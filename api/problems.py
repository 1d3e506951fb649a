"""Errors as clients see them: problem+json with stable codes, in one table."""

from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web

from domain.errors import HsiError

CODES: Final = {
    "bad_request": (400, "The request cannot be read"),
    "invalid_parameter": (400, "A query parameter has a value that is not allowed"),
    "unknown_parameter": (400, "A query parameter that this route does not know"),
    "invalid_json": (400, "The body is not JSON"),
    "invalid_cursor": (400, "The page cursor cannot be used"),
    "key_missing": (401, "Send a key"),
    "wrong_key": (401, "This key does not count"),
    "role_too_low": (403, "The key's role may not do this"),
    "outside_scope": (403, "The key is for some cameras only"),
    "csrf_token_missing": (403, "The session's change token is missing"),
    "origin_not_allowed": (403, "Requests from this origin are not allowed"),
    "file_not_served": (403, "This file is not given out"),
    "no_such_route": (404, "No such route"),
    "key_not_found": (404, "No such key"),
    "audit_not_found": (404, "No such line of the audit"),
    "camera_not_found": (404, "No such camera"),
    "event_not_found": (404, "No such event"),
    "detection_not_found": (404, "No such detection"),
    "picture_not_found": (404, "No such picture"),
    "file_not_found": (404, "No such file"),
    "log_not_found": (404, "No such log record"),
    "entity_not_found": (404, "No such entity"),
    "service_not_found": (404, "No such service"),
    "circuit_breaker_not_found": (404, "No such circuit breaker"),
    "model_not_found": (404, "No such model"),
    "clip_not_found": (404, "No such clip"),
    "video_not_found": (404, "This detection does not come from a video"),
    "queue_not_found": (404, "No such queue of dead letters"),
    "dead_letter_not_found": (404, "No such parked entry"),
    "scene_change_not_found": (404, "This camera has no such scene change"),
    "no_picture_yet": (404, "This camera has not sent a picture yet"),
    "request_timeout": (408, "The body did not arrive in time"),
    "method_not_allowed": (405, "This route does not have that method"),
    "confirmation_needed": (409, "So many entries need a confirmation"),
    "request_in_progress": (409, "The request with this idempotency key is not answered yet"),
    "cleanup_running": (409, "A cleanup runs already"),
    "key_exists": (409, "A key of this name counts already"),
    "too_many_keys": (409, "There are too many keys"),
    "key_is_a_setting": (409, "The key stands in API_KEYS"),
    "camera_exists": (409, "The folder belongs to a camera already"),
    "service_not_supervised": (409, "The service cannot be controlled here"),
    "service_disabled": (409, "The service is disabled"),
    "service_failed": (409, "The service has failed too often"),
    "stage_not_heard_of": (409, "No process has told of the stage yet"),
    "clip_without_pictures": (409, "No picture of that time can be read"),
    "notification_not_configured": (409, "This channel of notifications is not set up"),
    "restart_needed": (409, "This setting counts after a restart only"),
    "picture_gone": (410, "The picture's file is no longer there"),
    "picture_changed": (410, "The picture's file holds other bytes than those recorded"),
    "picture_redacted": (410, "The picture was deleted by retention"),
    "body_too_large": (413, "The body is too large"),
    "not_json_content": (415, "Send the body as application/json"),
    "range_not_satisfiable": (416, "The file does not have that part"),
    "invalid_body": (422, "The body has a value that is not allowed"),
    "folder_outside": (422, "The folder does not lie in the camera base folder"),
    "picture_unreadable": (422, "The picture's file does not decode"),
    "idempotency_key_reused": (422, "The idempotency key was used for another request"),
    "upgrade_required": (426, "This route speaks WebSocket"),
    "too_many_requests": (429, "Too many requests"),
    "http_error": (400, "The request cannot be served"),
    "internal_error": (500, "The server made a mistake"),
    "too_many_clients": (503, "Too many live connections"),
    "database_unavailable": (503, "PostgreSQL does not answer"),
    "redis_unavailable": (503, "Redis does not answer"),
    "service_unavailable": (503, "A service does not answer"),
    "history_missing": (503, "The archive does not have what the log no longer has"),
    "service_action_failed": (502, "The service is not as it was asked for"),
    "supervisor_silent": (504, "The supervisor did not answer in time"),
    "stage_silent": (504, "No process of the stage answered in time"),
    "starting": (503, "The server is starting"),
}
"""Code → HTTP status and title. Codes are part of the API: they may be added, never changed."""


class ProblemError(HsiError):
    """An answer that is an error; raised anywhere below a handler."""

    def __init__(self, code: str, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.status, self.title = CODES[code]
        self.detail = detail
        self.headers = headers or {}


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of an error answer (RFC 9457), with our stable code."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str = ""
    trace: str = ""
    """Only with DEBUG=true."""


def problem_response(
    problem: ProblemError, *, request_id: str = "", trace: str = "", status: int | None = None
) -> web.Response:
    """Return the answer for `problem`."""
    status = status or problem.status
    body = Problem(
        type=f"urn:hsi:problem:{problem.code}",
        title=problem.title if status == problem.status else HTTPStatus(status).phrase,
        status=status,
        detail=problem.detail,
        code=problem.code,
        request_id=request_id,
        trace=trace,
    )
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        content_type="application/problem+json",
        headers=problem.headers,
    )
