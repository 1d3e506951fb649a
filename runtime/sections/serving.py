"""Settings of the API server."""

from pydantic import BaseModel, Field, field_validator

from runtime.settings_checks import check_origins
from runtime.settings_types import TextList, starts


class ApiServer(BaseModel):
    """REST and WebSocket."""

    api_host: str = Field(
        default="0.0.0.0",  # noqa: S104 - the reference's default; `make run` says how to narrow it
        json_schema_extra=starts("API server"),
        description="Address to bind",
    )
    api_port: int = Field(
        default=8000,
        ge=0,
        le=65535,
        description="Port of REST and WebSocket; 0 takes any free one",
    )
    cors_origins: TextList = Field(
        default=("http://localhost:3000", "http://localhost:5173"),
        description="Origins that browsers may call from",
    )

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_origins(value)
