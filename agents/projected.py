"""When an assessment could be read: spans of what the read model `timeline` has committed."""

import time
from collections.abc import Sequence
from typing import Final

from agents.roles import Roles
from domain.events import AssessmentRefined, RiskAssessed
from runtime.span_outbox import SpanOutbox
from runtime.tracing import open_exporter
from streams.envelope import Envelope
from streams.spans import step_span

READ_MODEL: Final = "timeline"
"""The one that events are read from."""


class ProjectedSpans:
    """Is told every run that was committed."""

    def __init__(self, outbox: SpanOutbox, instance: str) -> None:
        self._outbox = outbox
        self._facts = {"service.instance.id": instance, "hsi.read_model": READ_MODEL}

    def __call__(self, envelopes: Sequence[Envelope]) -> None:
        """Tell of the assessments among them."""
        now = time.time_ns()
        for envelope in envelopes:
            if isinstance(envelope.event, RiskAssessed | AssessmentRefined):
                span = step_span(envelope, "project", now, self._facts)
                if span is not None:
                    self._outbox.add(span)


def add_projected_spans(roles: Roles) -> ProjectedSpans | None:
    """Let the process send these spans, where a collector is configured."""
    exporter = open_exporter(roles.settings, "project")
    if exporter is None:
        return None
    roles.contexts.callback(exporter.close)
    outbox = SpanOutbox(exporter)
    roles.sides["project spans"] = outbox.run
    return ProjectedSpans(outbox, exporter.instance)
