"""When an event is late, and when it is too old to alert anybody."""

from datetime import timedelta

import pytest
from msgspec.structs import replace
from support.logs import NOON
from support.serving import assessment, refinement

from api.messages import EventMessage, MessageBuilder
from domain.events import AssessmentRefined, RiskAssessed
from domain.lateness import is_late, why_no_alert
from streams.envelope import Envelope, Position


@pytest.mark.parametrize(
    ("age", "within", "why"),
    [
        (0.0, 60, None),
        (60.0, 60, None),
        (60.001, 60, "too_old"),
        (83 * 60.0, 3600, "too_old"),
        (83 * 60.0, 7200, None),
        (1e9, None, None),  # made before there was a limit
        (-5.0, 60, None),  # a camera's clock may be ahead
    ],
)
def test_the_limit_that_it_carries_decides(
    age: float, within: int | None, why: str | None
) -> None:
    assert why_no_alert(NOON, NOON + timedelta(seconds=age), within) == why


def test_late_begins_behind_its_limit() -> None:
    assert not is_late(NOON, NOON + timedelta(seconds=300), 300)
    assert is_late(NOON, NOON + timedelta(seconds=301), 300)


def told(event: RiskAssessed | AssessmentRefined, minutes: float) -> EventMessage:
    """Return what clients are told of an assessment so long after its last picture."""
    recorded = event.ended_at + timedelta(minutes=minutes)
    position = Position(int(recorded.timestamp() * 1000), 0)
    envelope = Envelope("e", event, "assessments", 0, position, event.ended_at, "c", "")
    message = MessageBuilder().build(envelope, "cursor")
    assert isinstance(message, EventMessage)
    return message


def test_the_models_word_is_judged_by_its_own_time() -> None:
    rules = replace(assessment("porch", 1), alert_within_seconds=3600)
    refined = replace(refinement(rules), alert_within_seconds=3600)
    assert (told(rules, 1).data.alert, told(rules, 1).data.alert_reason) == (True, None)
    assert told(refined, 59).data.alert
    late = told(refined, 61).data
    assert (late.alert, late.alert_reason) == (False, "too_old")
