"""What log records are about: the ids of the entries that a step has in hand."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager

from domain.outcomes import Outcome, Park, Retry
from domain.trace import trace_id
from runtime.context import correlation
from streams.consumer import Delivery
from streams.envelope import Envelope

logger = logging.getLogger(__name__)


def about(*envelopes: Envelope) -> AbstractContextManager[None]:
    """Mark what is logged inside with what these entries have in common, if anything.

    A run of pictures has no correlation id of its own: what is said of one of them is marked where
    it is said.
    """
    if len(envelopes) == 1:
        return correlation(envelopes[0].correlation_id, trace_id(envelopes[0].traceparent))
    identities = {envelope.correlation_id for envelope in envelopes}
    traces = {trace_id(envelope.traceparent) for envelope in envelopes}
    return correlation(
        identities.pop() if len(identities) == 1 else "", traces.pop() if len(traces) == 1 else ""
    )


def say_parked(name: str, settlements: Sequence[tuple[Delivery, Outcome]]) -> None:
    """Log what is given up, each with its own ids."""
    for delivery, outcome in settlements:
        if isinstance(outcome, Park | Retry):
            with about(delivery.envelope):
                logger.warning(
                    "%s: entry %s is parked after %d attempts (%s: %s)",
                    name,
                    delivery.envelope.position,
                    delivery.attempts,
                    type(outcome.error).__name__,
                    outcome.error,
                    extra={"action": "parked"},
                )
