"""How `hsi why` shows who was to be told, and what came of it."""

from datetime import UTC, datetime
from io import StringIO
from zoneinfo import ZoneInfo

from msgspec.structs import replace
from rich.console import Console

from api.lineage_schemas import Entry, EventLineage, NotificationFact
from hsi.lineage_view import show_event

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENTRY = Entry(
    stream="alerts",
    partition=0,
    position="1-0",
    id="e_1",
    type="notification.requested/1",
    recorded_at=AT,
    correlation_id="c",
    causation_id="e_0",
)
WAITING = NotificationFact(
    notification_id="ntf_1",
    channel="webhook",
    late=False,
    outcome="waiting",
    status=None,
    seconds=None,
    reason=None,
    attempted_at=None,
    requested=ENTRY,
    entry=None,
)
ENDED = replace(WAITING, attempted_at=AT, entry=ENTRY)


def shown(*notifications: NotificationFact) -> str:
    out = StringIO()
    lineage = EventLineage(
        event_id="evt_1",
        camera_id="porch",
        notifications=list(notifications),
        reviews=[],
        assessments=[],
        batch=None,
        pictures=[],
        files=[],
        parked=[],
        missing=[],
    )
    show_event(Console(file=out, width=200), lineage, ZoneInfo("Europe/Berlin"))
    return out.getvalue()


def test_a_notification_is_shown_with_what_came_of_it() -> None:
    assert shown() == ""
    assert shown(WAITING) == (
        "Notification ntf_1 by webhook waits since 2026-03-01 13:00:00: the receiver has not"
        " taken it\n"
    )
    sent = replace(ENDED, outcome="sent", status=204, seconds=0.0312)
    assert shown(sent) == (
        "Notification ntf_1 by webhook sent at 2026-03-01 13:00:00, answered 204 in 0.03 s\n"
    )
    failed = replace(ENDED, outcome="failed", status=410, reason="answered \x1b[31m410")
    assert "given up at 2026-03-01 13:00:00: answered" in shown(failed)
    assert "\x1b" not in shown(failed)
