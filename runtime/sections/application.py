"""Settings of the product as a whole, and of the two servers it stands on."""

from pathlib import Path

from pydantic import BaseModel, Field, SecretStr, ValidationInfo, field_validator

from runtime.masking import url_password
from runtime.settings_checks import check_database_url, check_redis_url, with_authority
from runtime.settings_types import starts

DEVELOPMENT_DATABASE_PASSWORD = "security_dev_password"  # noqa: S105 - the one to refuse


class Application(BaseModel):
    """The product itself."""

    production: bool = Field(
        default=False,
        json_schema_extra=starts("Application"),
        description="Refuse what is only fit for development: the known database password,"
        " the fall-back detector, AI services on other machines without TLS",
    )
    allow_plain_http_ai: bool = Field(
        default=False,
        description="With PRODUCTION=true, let pictures go unencrypted to AI services on other"
        " machines",
    )
    app_name: str = Field(default="Home Security Intelligence", description="Display name")
    app_version: str = Field(
        default="0.1.0", description="Version shown by health and `hsi version`"
    )
    debug: bool = Field(default=False, description="Show stack traces in errors")


class Storage(BaseModel):
    """PostgreSQL and Redis."""

    database_url: str | None = Field(
        default=None,
        json_schema_extra=starts("PostgreSQL"),
        description="postgresql://user:password@host:port/database (postgresql+asyncpg:// is"
        " accepted); unset: an embedded PostgreSQL",
    )
    database_ca_path: Path | None = Field(
        default=None,
        description="PEM file of the authority of PostgreSQL's certificate: DATABASE_URL then"
        " needs TLS and that host name",
    )
    postgres_password: SecretStr | None = Field(
        default=None, description="Password for DATABASE_URL, if it is not in the URL"
    )
    redis_ca_path: Path | None = Field(
        default=None,
        json_schema_extra=starts("Redis"),
        description="PEM file of the authority behind rediss:// in REDIS_URL; unset: the system's"
        " authorities",
    )
    redis_url: str | None = Field(
        default=None,
        description="redis://host:port/0, rediss:// or unix://; unset: an embedded Valkey",
    )
    redis_password: SecretStr | None = Field(
        default=None, description="Password for REDIS_URL, if it is not in the URL"
    )
    stream_partitions: int = Field(
        default=4, ge=1, le=64, description="Partitions of the log; fixed at the first start"
    )

    @field_validator("postgres_password")
    @classmethod
    def _password(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        known = value is not None and value.get_secret_value() == DEVELOPMENT_DATABASE_PASSWORD
        if known and info.data.get("production"):
            raise ValueError("is the published development password: choose a secret one")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str | None, info: ValidationInfo) -> str | None:
        return value and with_authority(check_redis_url(value), info.data.get("redis_ca_path"))

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        check_database_url(value)
        if info.data.get("production") and url_password(value) == DEVELOPMENT_DATABASE_PASSWORD:
            raise ValueError("carries the published development password: choose a secret one")
        return value
