"""Settings of who may call the API, and how often."""

import json
from ipaddress import ip_network

from pydantic import BaseModel, Field, SecretStr, field_validator

from runtime.settings_types import TextList, starts

SHORTEST_KEY = 8


class AccessControl(BaseModel):
    """API keys."""

    api_key_enabled: bool = Field(
        default=False,
        json_schema_extra=starts("API keys"),
        description="Ask every caller of the API for a key",
    )
    api_keys: SecretStr | None = Field(
        default=None,
        description="Keys of administrators, a JSON list of text; others are made by"
        " `hsi keys create`",
    )
    hsi_api_key: SecretStr | None = Field(
        default=None,
        description="Key that the commands of `hsi` show to the API; unset: the first of API_KEYS",
    )

    @field_validator("api_keys")
    @classmethod
    def _keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            keys_of(value)
        return value

    @property
    def configured_keys(self) -> tuple[str, ...]:
        """Return the keys of API_KEYS."""
        return () if self.api_keys is None else keys_of(self.api_keys)

    @property
    def own_key(self) -> str | None:
        """Return the key that this installation's commands show."""
        if self.hsi_api_key is not None:
            return self.hsi_api_key.get_secret_value()
        return next(iter(self.configured_keys), None)


def keys_of(value: SecretStr) -> tuple[str, ...]:
    """Return the keys in a JSON list; raises ValueError that shows none of them."""
    try:
        keys = json.loads(value.get_secret_value())
    except json.JSONDecodeError:
        raise ValueError('must be a JSON list of text, like ["a-long-random-key"]') from None
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError('must be a JSON list of text, like ["a-long-random-key"]')
    for number, key in enumerate(keys, 1):
        # What cannot be sent in a header could never be given.
        if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError(
                f"key {number} must have at least {SHORTEST_KEY} visible ASCII characters:"
                " make one with `openssl rand -hex 32`"
            )
    return tuple(dict.fromkeys(keys))


class RateLimits(BaseModel):
    """How often somebody may call the API within any minute."""

    rate_limit_enabled: bool = Field(
        default=True,
        json_schema_extra=starts("Rate limits"),
        description="Answer 429 to who calls too often",
    )
    rate_limit_requests_per_minute: int = Field(
        default=60, ge=1, le=10_000, description="Requests a minute, for each key and address"
    )
    rate_limit_burst: int = Field(
        default=10, ge=1, le=100, description="Requests beyond these limits that pass at once"
    )
    rate_limit_media_requests_per_minute: int = Field(
        default=120, ge=1, le=10_000, description="Pictures and videos a minute"
    )
    rate_limit_search_requests_per_minute: int = Field(
        default=30, ge=1, le=1_000, description="Searches a minute"
    )
    rate_limit_websocket_connections_per_minute: int = Field(
        default=10, ge=1, le=400, description="New WebSocket connections a minute"
    )
    rate_limit_this_machine: bool = Field(
        default=False,
        description="Limit callers on this machine, too; off: only those that come over the"
        " network or through a proxy",
    )
    trusted_proxy_ips: TextList = Field(
        default=("127.0.0.1", "::1"),
        description="Addresses or networks of proxies whose X-Forwarded-For and"
        " X-Forwarded-Proto count",
    )

    @field_validator("trusted_proxy_ips")
    @classmethod
    def _proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ip_network(text)
            except ValueError as error:
                raise ValueError(
                    f"{text!r} is no address or network: write 10.0.0.5 or 10.0.0.0/24"
                ) from error
        return value
