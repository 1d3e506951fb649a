"""A collector of traces: OTLP over HTTP on loopback, decoded by OpenTelemetry's own messages."""

import gzip
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Collected:
    """One span as it arrived."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    role: str
    instance: str
    service: str
    attributes: dict[str, Any]
    links: tuple[str, ...]
    error: str | None


class Collector:
    """Keeps every span that was sent to it."""

    def __init__(self) -> None:
        self.spans: list[Collected] = []
        self.headers: list[dict[str, str]] = []
        self.refuses: Callable[[Collected], bool] = lambda _: False
        """A request with such a span is answered with 400, as by a strict collector."""
        self.closed = threading.Event()
        """While set, every request is answered with 503."""
        self.asked = 0

    def named(self, name: str) -> list[Collected]:
        """Return the spans of one name."""
        return [span for span in self.spans if span.name == name]

    def traces(self) -> dict[str, list[Collected]]:
        """Return the spans by trace, each by its start."""
        found: dict[str, list[Collected]] = {}
        for span in sorted(self.spans, key=lambda each: each.start_ns):
            found.setdefault(span.trace_id, []).append(span)
        return found

    def times(self) -> Counter[tuple[str, str]]:
        """Return how often each span arrived."""
        return Counter((span.trace_id, span.span_id) for span in self.spans)

    def take(self, body: bytes) -> int:
        """Take one request; answer its HTTP status."""
        self.asked += 1
        if self.closed.is_set():
            return 503
        found = list(_spans(ExportTraceServiceRequest.FromString(body)))
        if any(self.refuses(span) for span in found):
            return 400
        self.spans += found
        return 200


def _spans(request: ExportTraceServiceRequest) -> Iterator[Collected]:
    for resource in request.resource_spans:
        whose = {a.key: a.value.string_value for a in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Collected(
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    role=whose["hsi.role"],
                    instance=whose["service.instance.id"],
                    service=whose["service.name"],
                    attributes={a.key: _value(a.value) for a in span.attributes},
                    links=tuple(link.trace_id.hex() for link in span.links),
                    error=span.status.message if span.status.code == 2 else None,
                )


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


@contextmanager
def collecting(port: int = 0) -> Iterator[tuple[Collector, str]]:
    """Run a collector; give it with its URL. A port names where one was before."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.headers.append({k.lower(): v for k, v in self.headers.items()})
            known = self.path == "/v1/traces"
            status = collector.take(gzip.decompress(body)) if known else 404
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield collector, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
