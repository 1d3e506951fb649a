"""Spans by OTLP over HTTP, in the form that every collector reads; imported only when it is on.

What is sent is built by the OpenTelemetry SDK. Its exporter blocks, so it works in a thread; how
a call ended is its boolean answer, and why is what it logs, which is kept for our own words.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from domain.spans import Span

TIMEOUT_SECONDS: Final = 5.0
"""How long one export may take, its own tries again included."""

_LOGGER: Final = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
_FLAGS: Final = TraceFlags(TraceFlags.SAMPLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpOptions:
    """Where spans go, and whose they are."""

    endpoint: str
    """Base URL of the collector; `/v1/traces` is added."""
    headers: Mapping[str, str]
    certificate: Path | None
    """PEM file of the authority of an https:// collector; None: the system's."""
    service: str
    version: str


class OtlpExporter:
    """Sends spans of one process."""

    def __init__(self, options: OtlpOptions, role: str) -> None:
        logging.getLogger(_LOGGER).addFilter(_REASON)
        self.instance = f"{socket.gethostname()}-{os.getpid()}"
        """Names this process in every span that it sends."""
        self._resource = Resource(
            {
                "service.name": options.service,
                "service.version": options.version,
                "service.instance.id": self.instance,
                "hsi.role": role,
            }
        )
        self._scope = InstrumentationScope("hsi", options.version)
        certificate = str(options.certificate) if options.certificate else None
        self._exporter = OTLPSpanExporter(
            endpoint=f"{options.endpoint}/v1/traces",
            certificate_file=certificate,
            headers=dict(options.headers),
            timeout=TIMEOUT_SECONDS,
            compression=Compression.Gzip,
        )

    @property
    def reason(self) -> str:
        """Return why the last export that failed did."""
        return _REASON.text

    async def send(self, spans: Sequence[Span]) -> bool:
        """Send spans; False when they were not taken. An empty run asks whether it lives."""
        made = [self._made(span) for span in spans]
        result = await asyncio.to_thread(self._exporter.export, made)
        return result is SpanExportResult.SUCCESS

    def close(self) -> None:
        """End: an export that waits for its next try gives up."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK's

    def _made(self, span: Span) -> ReadableSpan:
        parent = _context(span.trace_id, span.parent_id) if span.parent_id else None
        status = Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET)
        return ReadableSpan(
            name=span.name,
            context=_context(span.trace_id, span.span_id),
            parent=parent,
            resource=self._resource,
            attributes=dict(span.attributes),
            links=[Link(_context(*link)) for link in span.links],
            kind=SpanKind.INTERNAL,
            status=status,
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )


def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=_FLAGS)


class _Reason(logging.Filter):
    """Keeps the exporter's last words instead of logging them: its user says more, and once."""

    text = ""

    def filter(self, record: logging.LogRecord) -> bool:
        self.text = record.getMessage()
        return False


_REASON: Final = _Reason()
"""One for all exporters of a process: they share the logger."""
