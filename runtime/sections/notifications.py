"""Settings of who is told of events, outside of the page."""

from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, ValidationInfo, field_validator

from domain.egress import Network, networks_of, target_of
from domain.errors import HsiError
from runtime.settings_types import TextList, starts

SHORTEST_SECRET = 12
"""A shorter path, like `/alerts`, tells nothing, and would blank out ordinary words in logs."""


class Notifications(BaseModel):
    """One channel: a webhook."""

    notification_enabled: bool = Field(
        default=True,
        json_schema_extra=starts("Notifications (docs/notifications.md)"),
        description="Tell of events by the channels below",
    )
    webhook_allowed_networks: TextList = Field(
        default=(),
        description="Networks beside the public internet that DEFAULT_WEBHOOK_URL may lie in, like"
        ' ["192.168.1.0/24"]',
    )
    default_webhook_url: SecretStr | None = Field(
        default=None,
        description="https://host/path to which every alert is posted as JSON; unset: nobody is"
        " told",
    )
    webhook_timeout_seconds: int = Field(
        default=30, ge=1, le=300, description="Seconds the webhook's receiver has for its answer"
    )

    @field_validator("webhook_allowed_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        networks_of(value)
        return value

    @field_validator("default_webhook_url")
    @classmethod
    def _webhook(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        url = value.get_secret_value() if value else ""
        if not url:
            return None
        allowed = networks_of(info.data.get("webhook_allowed_networks", ()))
        try:
            target_of(url, allowed)
        except HsiError as error:
            raise ValueError(str(error)) from None
        return value

    @property
    def webhook_networks(self) -> tuple[Network, ...]:
        """Return WEBHOOK_ALLOWED_NETWORKS, read."""
        return networks_of(self.webhook_allowed_networks)

    @property
    def webhook_url(self) -> str | None:
        """Return where alerts are posted to; None: nobody is told."""
        if not self.notification_enabled or self.default_webhook_url is None:
            return None
        return self.default_webhook_url.get_secret_value()

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """Return the part of the URL that lets one post there: its path and query."""
        path = urlsplit(self.webhook_url or "")._replace(scheme="", netloc="").geturl()
        return (path,) if len(path) >= SHORTEST_SECRET else ()

    @property
    def alert_groups(self) -> tuple[str, ...]:
        """Return the consumer groups of notifications."""
        return ("alert", "notify") if self.webhook_url else ()
