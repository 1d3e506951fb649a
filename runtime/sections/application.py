"""Settings of the product as a whole, and of the two servers it stands on."""

from pydantic import BaseModel, Field, SecretStr, ValidationInfo, field_validator

from runtime.masking import url_password
from runtime.settings_checks import check_database_url, check_redis_url
from runtime.settings_types import starts

DEVELOPMENT_DATABASE_PASSWORD = "security_dev_password"  # noqa: S105 - the one to refuse


class Application(BaseModel):
    """The product itself."""

    production: bool = Field(
        default=False,
        json_schema_extra=starts("Application"),
        description="Refuse what is only fit for development: the known database password,"
        " the fall-back detector",
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
    redis_url: str | None = Field(
        default=None,
        json_schema_extra=starts("Redis"),
        description="redis://host:port/0, rediss:// or unix://; unset: an embedded Valkey",
    )
    redis_password: SecretStr | None = Field(
        default=None, description="Password for REDIS_URL, if it is not in the URL"
    )
    stream_partitions: int = Field(
        default=4, ge=1, le=64, description="Partitions of the log; fixed at the first start"
    )

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str | None) -> str | None:
        return value and check_redis_url(value)

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        check_database_url(value)
        if info.data.get("production") and url_password(value) == DEVELOPMENT_DATABASE_PASSWORD:
            raise ValueError("carries the published development password: choose a secret one")
        return value
