"""What the language model was used for since this process began: questions, tokens, context."""

from dataclasses import dataclass

from domain.events import AssessmentRefined
from streams.envelope import Envelope


@dataclass(slots=True)
class Usage:
    """Sums over the refinements of one model."""

    questions: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    seconds: float = 0.0
    shortened: int = 0
    """Questions of which something was left out."""
    context_use: float | None = None
    """Share of the context that the newest question took; None: the server does not tell."""


class ModelUsage:
    """Hears the log's tail; every refinement counts once."""

    def __init__(self) -> None:
        self.models: dict[str, Usage] = {}

    def hear(self, envelope: Envelope) -> None:
        """Count the envelope's refinement, if it is one."""
        event = envelope.event
        if not isinstance(event, AssessmentRefined):
            return
        usage = self.models.setdefault(event.model, Usage())
        usage.questions += 1
        usage.tokens_in += event.tokens_in
        usage.tokens_out += event.tokens_out
        usage.tokens_cached += event.tokens_cached or 0
        usage.seconds += event.seconds
        usage.shortened += bool(event.left_out)
        window = event.context_window
        usage.context_use = event.tokens_in / window if window else None
