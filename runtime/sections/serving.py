"""Settings of the API server and of its live messages."""

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


class LiveMessages(BaseModel):
    """WebSocket clients."""

    websocket_idle_timeout_seconds: int = Field(
        default=300,
        ge=30,
        le=3600,
        description="A WebSocket client that says nothing for so long is closed; a ping is enough",
    )
    websocket_ping_interval_seconds: int = Field(
        default=30,
        ge=5,
        le=120,
        description="How often a silent WebSocket client is asked whether it is still there",
    )
    websocket_max_message_size: int = Field(
        default=65_536,
        ge=1024,
        le=1_048_576,
        description="Bytes that one message of a WebSocket client may have",
    )
    websocket_max_clients: int = Field(
        default=2000,
        ge=1,
        le=15_000,
        description="WebSocket clients that one API process serves at once",
    )
