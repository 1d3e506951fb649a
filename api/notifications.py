"""Routes of notifications: which channel there is, and a message to try it."""

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import uuid4

import msgspec
from aiohttp import web

from api.problems import ProblemError
from api.routing import Routes
from api.services import SERVICES, answer
from domain.egress import Target, target_of
from domain.errors import HsiError, ServiceUnavailableError
from domain.events import Channel
from domain.ids import notification_id
from domain.notification_message import trial_message
from runtime.settings import Settings
from runtime.webhook import Webhook, status_of

routes = Routes("notifications")


class NotificationConfig(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/notification/config."""

    notification_enabled: bool
    available_channels: list[Channel]
    webhook_configured: bool
    webhook_target: str | None
    """Scheme, host and port alone: a webhook's path is its secret."""
    webhook_timeout_seconds: int
    webhook_allowed_networks: list[str]
    waiting: Annotated[int, msgspec.Meta(ge=0)]
    """Assessments nobody has decided about yet, and messages that are not sent yet."""


class NotificationTest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /api/notification/test."""

    channel: Channel


class NotificationTested(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a message that was really sent."""

    channel: Channel
    success: bool
    result: Literal["taken", "away", "refused"]
    """away: nobody takes anything there at present; refused: it was answered, and not taken, or
    its address is not called."""
    status: int | None
    """HTTP status of the answer; its body is not read."""
    seconds: float | None
    message: str


@routes.get("/api/notification/config", NotificationConfig)
async def notification_config(request: web.Request) -> web.Response:
    """Answer which channels there are, without what would let one use them."""
    services = request.app[SERVICES]
    settings = services.live.current
    target = _target(settings)
    groups = settings.alert_groups
    backlog = await services.log.backlog() if groups else []
    return answer(
        NotificationConfig(
            notification_enabled=settings.notification_enabled,
            available_channels=["webhook"] if groups else [],
            webhook_configured=target is not None,
            webhook_target=None if target is None else target.shown,
            webhook_timeout_seconds=settings.webhook_timeout_seconds,
            webhook_allowed_networks=list(settings.webhook_allowed_networks),
            waiting=sum(group.left for group in backlog if group.group in groups),
        )
    )


@routes.post(
    "/api/notification/test", NotificationTested, problems=["notification_not_configured"]
)
async def notification_test(request: web.Request, body: NotificationTest) -> web.Response:
    """Send a message that says that it is a test, and answer what came of it."""
    settings = request.app[SERVICES].live.current
    if settings.webhook_url is None:
        raise ProblemError(
            "notification_not_configured",
            f"the channel {body.channel} is not set up: set DEFAULT_WEBHOOK_URL, leave"
            " NOTIFICATION_ENABLED on, and restart",
        )
    webhook = Webhook(
        settings.webhook_url,
        allowed=settings.webhook_networks,
        timeout_seconds=settings.webhook_timeout_seconds,
    )
    try:
        return answer(await _tested(webhook, body.channel, settings.app_name))
    finally:
        await webhook.close()


async def _tested(webhook: Webhook, channel: Channel, app_name: str) -> NotificationTested:
    message_id = notification_id(f"test {uuid4().hex}", channel)
    body = trial_message(message_id, app_name, datetime.now(UTC))
    try:
        taken = await webhook.send(message_id, body)
    except HsiError as error:
        return NotificationTested(
            channel=channel,
            success=False,
            result="away" if isinstance(error, ServiceUnavailableError) else "refused",
            status=status_of(error),
            seconds=None,
            message=str(error),
        )
    return NotificationTested(
        channel=channel,
        success=True,
        result="taken",
        status=taken.status,
        seconds=taken.seconds,
        message=f"{webhook.target.shown} answered {taken.status}",
    )


def _target(settings: Settings) -> Target | None:
    """Return where messages go, also while they are switched off."""
    secret = settings.default_webhook_url
    if secret is None:
        return None
    return target_of(secret.get_secret_value(), settings.webhook_networks)
