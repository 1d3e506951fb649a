"""Whether this process sends spans; what that takes is loaded only when it does."""

from typing import TYPE_CHECKING

from runtime.sections.telemetry import otlp_headers
from runtime.settings import Settings

if TYPE_CHECKING:
    from runtime.otlp import OtlpExporter


def open_exporter(settings: Settings, role: str) -> "OtlpExporter | None":
    """Return the exporter of this process, None where no collector is configured."""
    endpoint = settings.otel_exporter_otlp_endpoint
    if endpoint is None:
        return None
    # 12 MiB of libraries that a process without traces does not carry.
    from runtime.otlp import OtlpExporter, OtlpOptions

    headers = settings.otel_exporter_otlp_headers
    options = OtlpOptions(
        endpoint=endpoint,
        headers=otlp_headers(headers.get_secret_value()) if headers else {},
        certificate=settings.otel_exporter_otlp_certificate,
        service=settings.otel_service_name,
        version=settings.app_version,
    )
    return OtlpExporter(options, role)
