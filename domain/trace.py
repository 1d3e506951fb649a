"""W3C trace context that follows from what it is about, like every other identity here.

The trace of a picture is that of its file, the trace of a batch that of its first picture's file:
so a redelivery and a replay stand in the same trace, and whoever reads the log can tell it.
"""

from hashlib import blake2b

from domain.events import BatchClosed, BatchEscalated, Event

_PARTS = 4


def trace_id_of(identity: str) -> str:
    """Return the trace of a file, a batch or a command: 32 hexadecimal digits."""
    return blake2b(identity.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def span_id_of(identity: str) -> str:
    """Return the span that stands for an entry, by its id: 16 hexadecimal digits."""
    return blake2b(identity.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def traceparent(identity: str) -> str:
    """Return the `traceparent` of what begins with a file, a batch or a command."""
    return f"00-{trace_id_of(identity)}-{span_id_of(identity)}-01"


def trace_id(parent: str) -> str:
    """Return the trace that a `traceparent` names, empty for none."""
    parts = parent.split("-")
    return parts[1] if len(parts) == _PARTS else ""


def traceparent_of(event: Event, cause: str) -> str:
    """Return the `traceparent` of an event that follows from one with `cause`."""
    if isinstance(event, BatchClosed | BatchEscalated) and event.members:
        # The picture before which a batch closes belongs to the next one.
        return traceparent(event.members[0].file_id)
    return cause
