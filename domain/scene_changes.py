"""Scene changes: when a camera no longer looks at what it looked at. Rules alone, no pixels.

A picture is compared with the camera's baseline twice. First by SSIM: at the threshold or above,
nothing changed. Below it, most often the light did, or somebody stands there: so the second look
asks how much of the baseline's structure (edges and where they point) is still in its place,
which neither a lamp nor a cloud changes. Decision 0035 has the figures behind the limits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec

from domain.events import (
    BaselineReason,
    Event,
    SceneBaselineSet,
    SceneChangeAcknowledged,
    SceneChanged,
    SceneChangeType,
    SceneChecked,
    SceneRestored,
    SceneSeverity,
    SceneVerdict,
    SceneView,
)
from domain.ids import scene_change_id

STRUCTURE_BELOW_THRESHOLD: Final = 0.45
"""So much below the threshold for SSIM lies the one for structure: 0.45 at the default of 0.90."""
RESTORED_ABOVE: Final = 0.10
"""A view that was changed is back only with so much more structure than what counts as changed."""
BLOCKED_FLAT: Final = 0.75
"""Share of the baseline's structure that must be flat for a view to count as blocked."""
MOVED_LEAST: Final = 0.03
"""A view found elsewhere by less than this share of the picture's width is in its place."""
GONE: Final = 0.30
"""With no more structure than this nothing of the old view is left."""
ADOPT_STRUCTURE: Final = 0.60
"""A picture with so much of the baseline's structure may become the baseline."""
ADOPT_AFTER: Final = timedelta(minutes=10)
"""So old is a baseline at least before another light replaces it."""
RENEW_AFTER: Final = timedelta(days=1)
"""An older baseline is replaced by any picture of the same view."""
CLOCK_BACK: Final = timedelta(hours=1)
"""A picture so much older than the last one checked tells of a clock that was set back."""
SURE: Final[frozenset[SceneVerdict]] = frozenset({"view_blocked", "angle_changed"})
"""Said at the first picture; anything else must show in two checked pictures in a row."""

_SEVERITY: Final[dict[SceneChangeType, SceneSeverity]] = {
    "view_blocked": "high",
    "angle_changed": "medium",
    "view_tampered": "high",
    "unknown": "medium",
}


@dataclass(frozen=True, slots=True)
class Look:
    """What a comparison of a picture with its camera's baseline found."""

    similarity: float
    structure: float
    flat: float
    moved: float | None = None


class OpenChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change that lasts and that nobody has acknowledged."""

    change_id: str
    change_type: SceneChangeType
    view: SceneView


class SceneState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one camera's view: a fold of the stream `scenes`."""

    baseline: SceneView | None = None
    checked_at: datetime | None = None
    """When the last picture that was checked was taken."""
    doubted: bool = False
    """Whether that picture did not show the baseline's view."""
    open: tuple[OpenChange, ...] = ()

    @property
    def views(self) -> tuple[SceneView, ...]:
        """Return the views that comparisons may still need."""
        kept = (self.baseline,) if self.baseline else ()
        return (*kept, *(change.view for change in self.open))


def structure_limit(threshold: float) -> float:
    """Return the share of structure below which a view counts as changed."""
    return threshold - STRUCTURE_BELOW_THRESHOLD


def is_suspect(similarity: float, structure: float, threshold: float) -> bool:
    """Say whether both looks found another view."""
    return similarity < threshold and structure < structure_limit(threshold)


def verdict_of(look: Look, threshold: float) -> SceneVerdict:
    """Return what a comparison means at a threshold."""
    if look.similarity >= threshold:
        return "same"
    if not is_suspect(look.similarity, look.structure, threshold):
        return "relit"
    if look.moved is not None and look.moved < MOVED_LEAST:
        return "relit"
    if look.flat >= BLOCKED_FLAT:
        return "view_blocked"
    if look.moved is not None:
        return "angle_changed"
    return "view_tampered" if look.structure <= GONE else "unknown"


def is_due(state: SceneState, captured_at: datetime, interval: timedelta) -> bool:
    """Say whether a picture is to be checked: at most one an interval, by capture time."""
    last = state.checked_at
    if last is None:
        return True
    return captured_at >= last + interval or captured_at <= last - CLOCK_BACK


def begin(camera_id: str, view: SceneView, *, lost: bool = False) -> tuple[Event, ...]:
    """Return what makes a picture the baseline that there is none of."""
    reason: BaselineReason = "lost" if lost else "first"
    return (SceneBaselineSet(camera_id=camera_id, view=view, reason=reason),)


def decide(
    state: SceneState, camera_id: str, view: SceneView, look: Look, threshold: float
) -> tuple[Event, ...]:
    """Return what one checked picture leads to; the state must have a baseline."""
    baseline = state.baseline
    if baseline is None:
        return begin(camera_id, view)
    verdict = verdict_of(look, threshold)
    checked = SceneChecked(
        camera_id=camera_id,
        picture_id=view.picture_id,
        baseline_picture_id=baseline.picture_id,
        captured_at=view.captured_at,
        similarity=look.similarity,
        structure=look.structure,
        flat=look.flat,
        moved=look.moved,
        threshold=threshold,
        verdict=verdict,
    )
    if verdict == "same" or verdict == "relit":
        return (checked, *_still(state, checked, baseline, view))
    if not _is_news(state, verdict):
        return (checked,)
    changed = SceneChanged(
        camera_id=camera_id,
        change_id=scene_change_id(camera_id, view.picture_id),
        change_type=verdict,
        severity=_SEVERITY[verdict],
        similarity=look.similarity,
        structure=look.structure,
        threshold=threshold,
        view=view,
        baseline=baseline,
    )
    return (checked, changed)


def _is_news(state: SceneState, verdict: SceneChangeType) -> bool:
    """Say whether a change is to be said: one that is sure, and of a kind that does not last.

    There are two kinds: the view is blocked, or another one. Within one a change may look now
    like this and now like that, and is still the same change.
    """
    if verdict not in SURE and not state.doubted:
        return False
    blocked = verdict == "view_blocked"
    return all((change.change_type == "view_blocked") != blocked for change in state.open)


def _still(
    state: SceneState, checked: SceneChecked, baseline: SceneView, view: SceneView
) -> tuple[Event, ...]:
    """Return what follows from a picture that shows the baseline's view."""
    if state.open:
        clearly = structure_limit(checked.threshold) + RESTORED_ABOVE
        if checked.verdict == "relit" and checked.structure < clearly:
            return ()
        restored = SceneRestored(
            camera_id=checked.camera_id,
            change_ids=tuple(change.change_id for change in state.open),
            picture_id=view.picture_id,
            captured_at=view.captured_at,
        )
        return (restored,)
    age = abs(view.captured_at - baseline.captured_at)
    in_light = checked.verdict == "relit" and age >= ADOPT_AFTER
    if (in_light or age >= RENEW_AFTER) and checked.structure >= ADOPT_STRUCTURE:
        event = SceneBaselineSet(camera_id=checked.camera_id, view=view, reason="light")
        return (event,)
    return ()


def evolve(state: SceneState, event: Event) -> SceneState:
    """Return the state after one event of the stream `scenes`."""
    match event:
        case SceneBaselineSet(view=view):
            return SceneState(baseline=view, checked_at=view.captured_at)
        case SceneChecked():
            doubted = event.verdict not in ("same", "relit")
            return msgspec.structs.replace(state, checked_at=event.captured_at, doubted=doubted)
        case SceneChanged():
            change = OpenChange(
                change_id=event.change_id, change_type=event.change_type, view=event.view
            )
            return msgspec.structs.replace(state, open=(*state.open, change))
        case SceneRestored():
            return msgspec.structs.replace(state, open=())
        case SceneChangeAcknowledged():
            return _acknowledged(state, event.change_id)
        case _:
            return state


def _acknowledged(state: SceneState, change_id: str) -> SceneState:
    """Return the state once a change is seen: one that lasts is the baseline from now on."""
    adopted = next((each for each in state.open if each.change_id == change_id), None)
    if adopted is None:
        return state
    return msgspec.structs.replace(state, baseline=adopted.view, doubted=False, open=())


def folded(state: SceneState, events: Sequence[Event]) -> SceneState:
    """Return the state after several events."""
    for event in events:
        state = evolve(state, event)
    return state
