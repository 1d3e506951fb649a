"""Whatever is handed out twice, late or after a crash: the same changes, each said once."""

from collections.abc import Sequence
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from support.scenes import view_at

from domain.events import Event, SceneChangeAcknowledged, SceneChanged, SceneRestored
from domain.scene_changes import Look, SceneState, decide, folded, is_due

INTERVAL = timedelta(seconds=5)
LOOKS = st.sampled_from(
    [
        Look(0.97, 1.0, 0.0),
        Look(0.4, 0.9, 0.0),
        Look(0.4, 0.5, 0.0),
        Look(0.02, 0.0, 1.0),
        Look(0.3, 0.1, 0.0, moved=0.2),
        Look(0.3, 0.05, 0.1),
    ]
)
PICTURES = st.lists(st.tuples(st.integers(1, 12), LOOKS), min_size=1, max_size=40)
"""Seconds since the picture before, and how it compares."""


class Role:
    """The stage as it handles entries; what it knows is a fold of what it has said."""

    def __init__(self) -> None:
        self.said: list[Event] = []

    def handle(self, at: int, look: Look) -> None:
        """Handle one picture; every time as a process that has just been started."""
        state = folded(SceneState(), self.said)
        view = view_at(at)
        if is_due(state, view.captured_at, INTERVAL):
            self.said += decide(state, "yard", view, look, 0.90)

    @property
    def changes(self) -> list[SceneChanged]:
        return [event for event in self.said if isinstance(event, SceneChanged)]


def placed(pictures: Sequence[tuple[int, Look]]) -> list[tuple[int, Look]]:
    """Return the pictures with the second at which each was taken."""
    at, found = 0, []
    for seconds, look in pictures:
        at += seconds
        found.append((at, look))
    return found


@settings(max_examples=15, deadline=None)
@given(pictures=PICTURES, back=st.integers(1, 10))
def test_redelivery_says_nothing_twice(pictures: list[tuple[int, Look]], back: int) -> None:
    once, again = Role(), Role()
    handed = placed(pictures)
    for number, (at, look) in enumerate(handed):
        once.handle(at, look)
        again.handle(at, look)
        # Any of those before, up to an hour old: their consumer died, or they come late.
        for old, seen in handed[max(0, number - back) : number + 1]:
            again.handle(old, seen)
    assert again.said == once.said
    ids = [change.change_id for change in once.changes]
    assert len(set(ids)) == len(ids)


@settings(max_examples=15, deadline=None)
@given(pictures=PICTURES, seen=st.sets(st.integers(0, 40)))
def test_a_change_that_lasts_is_said_once_a_kind(
    pictures: list[tuple[int, Look]], seen: set[int]
) -> None:
    role = Role()
    for number, (at, look) in enumerate(placed(pictures)):
        role.handle(at, look)
        if number in seen and role.changes:
            last = role.changes[-1].change_id
            role.said.append(SceneChangeAcknowledged(camera_id="yard", change_id=last))
    lasting: list[bool] = []
    for event in role.said:
        match event:
            case SceneChanged():
                blocked = event.change_type == "view_blocked"
                assert blocked not in lasting
                lasting.append(blocked)
            case SceneRestored():
                assert lasting
                lasting = []
            case SceneChangeAcknowledged():
                lasting = []
