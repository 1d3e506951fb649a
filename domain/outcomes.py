"""What a handler answers about one entry; the channel settles the entry by it."""

from dataclasses import dataclass

from domain.events import Event


@dataclass(frozen=True, slots=True)
class Done:
    """Handled: append `events` to the next streams and acknowledge, in one atomic call."""

    events: tuple[Event, ...] = ()
    passed_by: bool = False
    """True when the stage's service was not asked: it proves nothing about the service."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Leave it pending and hand it out again after a back-off."""

    error: BaseException
    after: float | None = None
    """Seconds; None lets the delivery count decide."""
    model: str | None = None
    """The model whose answer could not be used, where one answered."""
    if_parked: tuple[Event, ...] = ()
    """What is told if this was the last try, and the entry is parked."""


@dataclass(frozen=True, slots=True)
class Park:
    """Move it aside with its error and acknowledge, in one atomic call."""

    error: BaseException
    model: str | None = None
    """The model that refused it and its version, where one was asked."""
    model_version: str | None = None
    events: tuple[Event, ...] = ()
    """What is told besides; a second time after a redrive."""


Outcome = Done | Retry | Park
