"""The retry-or-park decision, and what a parked entry carries."""

import random
from importlib.metadata import version

import msgspec

from domain.errors import HsiError, PermanentError, ServiceUnavailableError, TransientError
from domain.events import EntryParked
from domain.outcomes import Done, Outcome, Park, Retry
from streams.codec import UndecodableError
from streams.envelope import Envelope, UnreadableEntry

MAX_ATTEMPTS = 5
"""Deliveries after which an entry that keeps failing is parked."""

MAX_DELIVERIES = 10
"""Deliveries after which an entry that nobody lived to answer for is parked unseen."""

MOST_SAID = 2000
"""Characters of an error, and of an answer that could not be used, that are kept."""

BACKOFF_BASE_SECONDS = 1.0
BACKOFF_CAP_SECONDS = 30.0
BACKOFF_JITTER = 0.25

SERVICE_VERSION = version("home-security-intelligence")


def backoff_seconds(attempts: int, jitter: float | None = None) -> float:
    """Return the wait before the next try: 1 s, doubled each time, at most 30 s, plus 0 to 25 %.

    `jitter` (0 to 1) is drawn at random unless it is given.
    """
    base = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0 ** min(max(attempts - 1, 0), 20))
    draw = random.random() if jitter is None else jitter  # noqa: S311 - spreads load, no secret
    return base * (1 + BACKOFF_JITTER * draw)


class NeverAnsweredError(PermanentError):
    """Every process that was given the entry ended before it answered."""


def outcome_of(error: Exception) -> Park | Retry:
    """Return what an error means: its class says what to do, an unknown one is tried again."""
    if isinstance(error, PermanentError):
        return Park(error)
    if isinstance(error, TransientError):
        return Retry(error, error.retry_after)
    return Retry(error)


def is_outage(outcome: Outcome) -> bool:
    """Say whether the stage must pause: a service is away, and no entry is to blame."""
    return isinstance(outcome, Retry) and isinstance(outcome.error, ServiceUnavailableError)


def bounded(outcome: Outcome, attempts: int) -> Outcome:
    """Turn a retry that has used up its attempts into a park; an outage charges no attempt."""
    if isinstance(outcome, Retry) and attempts >= MAX_ATTEMPTS and not is_outage(outcome):
        return Park(outcome.error, outcome.model, events=outcome.if_parked)
    return outcome


def parked(
    envelope: Envelope,
    group: str,
    error: BaseException,
    attempts: int,
    model: tuple[str | None, str | None] = (None, None),
) -> EntryParked:
    """Return the event that says an entry was moved aside, with all a later try needs.

    `model` is the name and version of the model that refused it, where one was asked.
    """
    event = envelope.event
    if isinstance(event, UnreadableEntry):
        tag, stored_version, payload = (
            event.stored_tag,
            event.stored_version,
            event.stored_payload,
        )
    else:
        tag, stored_version = event.TAG, event.VERSION
        payload = msgspec.json.encode(event).decode()
    return EntryParked(
        camera_id=event.camera_id,
        source_stream=envelope.stream,
        position=str(envelope.position),
        group=group,
        event_id=envelope.id,
        event_tag=tag,
        event_version=stored_version,
        payload=payload,
        cause=type(error).__name__,
        error=_storable(str(error))[:MOST_SAID],
        attempts=attempts,
        service_version=SERVICE_VERSION,
        model=model[0],
        model_version=model[1],
        answer=_answer_in(error),
        picture_id=getattr(event, "picture_id", None),
        file_id=getattr(event, "file_id", None),
        batch_id=getattr(event, "batch_id", None),
    )


def _answer_in(error: BaseException) -> str | None:
    answer = error.answer if isinstance(error, HsiError) else None
    return None if answer is None else _storable(answer)[:MOST_SAID]


def _storable(text: str) -> str:
    """Return text as UTF-8 can hold it: a lone surrogate (from a file name) is escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def outcome_unasked(envelope: Envelope, attempts: int, group: str = "") -> Outcome | None:
    """Return the outcome of an entry that no handler is to see, None for every other.

    That is one that was redriven for another group, which is passed by; one that does not decode;
    and one that was handed out so often, without an answer, that it must be what ends the
    processes.
    """
    if envelope.only_for not in ("", group):
        return Done(passed_by=True)
    if isinstance(envelope.event, UnreadableEntry):
        return Park(UndecodableError(envelope.event.error))
    if attempts > MAX_DELIVERIES:
        return Park(
            NeverAnsweredError(
                f"handed out {attempts - 1} times without an answer (limit {MAX_DELIVERIES}): it "
                "may be what ends the processes that handle it"
            )
        )
    return None
