"""What the present task works on, for every log record that is written meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

correlation_id: ContextVar[str] = ContextVar("correlation_id", default="")
trace_id: ContextVar[str] = ContextVar("trace_id", default="")


@contextmanager
def correlation(identity: str, trace: str = "") -> Iterator[None]:
    """Mark every record written inside, also by tasks started inside, with what it is about."""
    token, trace_token = correlation_id.set(identity), trace_id.set(trace)
    try:
        yield
    finally:
        trace_id.reset(trace_token)
        correlation_id.reset(token)
