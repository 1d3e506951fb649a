"""Settings of traces: where they go, if anywhere. The names are those of OpenTelemetry."""

from pathlib import Path
from urllib.parse import unquote

from pydantic import BaseModel, Field, SecretStr, field_validator

from runtime.settings_checks import check_http_url
from runtime.settings_types import starts


class Telemetry(BaseModel):
    """Traces by OTLP over HTTP, off unless an endpoint is given."""

    otel_exporter_otlp_endpoint: str | None = Field(
        default=None,
        json_schema_extra=starts("Traces"),
        description="Base URL of an OTLP collector, like http://collector:4318; unset: no traces"
        " are sent",
    )
    otel_exporter_otlp_headers: SecretStr | None = Field(
        default=None,
        description="Headers for the collector, as name=value,name=value (values may be"
        " percent-encoded)",
    )
    otel_exporter_otlp_certificate: Path | None = Field(
        default=None,
        description="PEM file of the authority behind an https:// collector; unset: the system's"
        " authorities",
    )
    otel_service_name: str = Field(
        default="hsi", min_length=1, max_length=255, description="service.name of every span"
    )

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        return value and check_http_url(value)

    @field_validator("otel_exporter_otlp_headers")
    @classmethod
    def _headers(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            otlp_headers(value.get_secret_value())
        return value


def otlp_headers(text: str) -> dict[str, str]:
    """Read `name=value,name=value`; raises ValueError that does not repeat what may be secret."""
    found = {}
    for number, pair in enumerate(filter(None, text.split(",")), start=1):
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"header {number} is not name=value")
        found[name.strip().lower()] = unquote(value.strip())
    return found
