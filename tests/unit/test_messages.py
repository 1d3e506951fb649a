"""What clients are told of a refinement whose assessment came before this process."""

from msgspec.structs import replace
from support.logs import NOON
from support.serving import refinement, story

from api.messages import EventMessage, MessageBuilder
from domain.events import AssessmentRefined, RiskAssessed
from streams.envelope import Envelope, Position


def told(event: AssessmentRefined) -> EventMessage:
    envelope = Envelope("e", event, "assessments", 0, Position(1, 0), NOON, "c", "")
    message = MessageBuilder().build(envelope, "cursor")
    assert isinstance(message, EventMessage)
    return message


def test_a_refinement_says_when_its_event_began_also_after_a_restart() -> None:
    of = story("front")
    (assessed,) = (each for each in of.events if isinstance(each, RiskAssessed))
    refined = replace(
        refinement(assessed),
        started_at=assessed.started_at,
        is_fast_path=assessed.is_fast_path,
        picture_ids=assessed.picture_ids[:1],
    )
    data = told(refined).data
    assert (data.started_at, data.is_fast_path) == (assessed.started_at, assessed.is_fast_path)
    assert data.picture_id == of.picture_id
    older = told(refinement(assessed)).data
    assert (older.started_at, older.picture_id) == (None, None)
