"""Retry or park: what an error means, how long to wait, what a parked entry carries."""

import pytest
from support.logs import NOON, received

from domain.errors import PermanentError, ServiceUnavailableError, TransientError
from domain.outcomes import Done, Park, Retry
from domain.prompt import UnusableReplyError
from streams.codec import UndecodableError
from streams.deadletter import (
    BACKOFF_CAP_SECONDS,
    MAX_ATTEMPTS,
    MAX_DELIVERIES,
    NeverAnsweredError,
    backoff_seconds,
    bounded,
    is_outage,
    outcome_of,
    outcome_unasked,
    parked,
)
from streams.envelope import Envelope, Position, UnreadableEntry

AWAY = ServiceUnavailableError("detector", "no answer", retry_after=3.0)


@pytest.mark.parametrize(
    ("attempts", "base"),
    [(0, 1.0), (1, 1.0), (2, 2.0), (3, 4.0), (5, 16.0), (6, 30.0), (1000, 30.0)],
)
def test_the_wait_doubles_up_to_its_cap_with_a_quarter_of_jitter(
    attempts: int, base: float
) -> None:
    assert backoff_seconds(attempts, 0.0) == base
    assert backoff_seconds(attempts, 1.0) == base * 1.25
    assert all(base <= backoff_seconds(attempts) <= base * 1.25 for _ in range(20))
    assert backoff_seconds(attempts, 1.0) <= BACKOFF_CAP_SECONDS * 1.25


def test_the_class_of_an_error_says_what_to_do() -> None:
    permanent, transient, bug = PermanentError("no"), TransientError("later"), KeyError("bug")
    assert outcome_of(permanent) == Park(permanent)
    assert outcome_of(transient) == Retry(transient, None)
    assert outcome_of(AWAY) == Retry(AWAY, 3.0)
    assert outcome_of(bug) == Retry(bug)


def test_only_an_absent_service_is_an_outage() -> None:
    assert is_outage(Retry(AWAY))
    assert not is_outage(Retry(TransientError("later")))
    assert not is_outage(Park(AWAY))
    assert not is_outage(Done())


def test_attempts_are_bounded_but_an_outage_charges_none() -> None:
    error = TransientError("later")
    assert bounded(Retry(error), MAX_ATTEMPTS - 1) == Retry(error)
    assert bounded(Retry(error), MAX_ATTEMPTS) == Park(error)
    assert bounded(Retry(AWAY), 1000) == Retry(AWAY)
    assert bounded(Done(), 1000) == Done()


def envelope_of(event: UnreadableEntry | None = None) -> Envelope:
    return Envelope("e1", event or received("a"), "files", 0, Position(5, 1), NOON, "cor", "cau")


def test_a_parked_entry_carries_what_a_later_try_needs() -> None:
    event = parked(envelope_of(), "detect", ValueError("x" * 5000 + "\udcff"), 4)
    assert (event.event_id, event.source_stream, event.position) == ("e1", "files", "5-1")
    assert (event.cause, event.attempts, len(event.error)) == ("ValueError", 4, 2000)
    assert (event.picture_id, event.file_id, event.batch_id) == ("a", "file-a", None)
    assert '"picture_id":"a"' in event.payload


def test_what_a_model_said_instead_is_kept_with_its_name() -> None:
    error = UnusableReplyError("not_json", "no JSON", "The risk is low.\udcff" + "x" * 5000)
    outcome = bounded(Retry(error, model="tiny"), MAX_ATTEMPTS)
    assert outcome == Park(error, "tiny")
    event = parked(envelope_of(), "refine", error, MAX_ATTEMPTS)
    assert event.answer is not None
    assert event.answer.startswith("The risk is low.\\udcffxxx")
    assert len(event.answer) == 2000
    assert parked(envelope_of(), "refine", PermanentError("no"), 1).answer is None


def test_an_unreadable_entry_is_parked_with_its_bytes() -> None:
    event = UnreadableEntry(
        camera_id="", stored_tag="x.y", stored_version=7, stored_payload="{", error="why"
    )
    envelope = envelope_of(event)
    outcome = outcome_unasked(envelope, 1)
    assert isinstance(outcome, Park)
    assert isinstance(outcome.error, UndecodableError)
    made = parked(envelope, "detect", outcome.error, 1)
    assert (made.event_tag, made.event_version, made.payload, made.error) == ("x.y", 7, "{", "why")
    assert outcome_unasked(envelope_of(), MAX_DELIVERIES) is None


def test_an_entry_that_nobody_lives_to_answer_for_is_parked_unseen() -> None:
    outcome = outcome_unasked(envelope_of(), MAX_DELIVERIES + 1)
    assert isinstance(outcome, Park)
    assert isinstance(outcome.error, NeverAnsweredError)
    assert "handed out 10 times without an answer" in str(outcome.error)
