"""Span: one step of a trace, as OpenTelemetry has it, without any of its libraries."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Attribute = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What was done between two moments, and what led to it.

    Its id follows from what it is about, so whoever gets it twice can tell.
    """

    name: str
    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    parent_id: str = ""
    """Span that led to this one; empty for the first of a trace."""
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    links: tuple[tuple[str, str], ...] = ()
    """Trace and span of what it puts together besides its own trace."""
    error: str = ""
    """Why it failed; empty when it did not."""
