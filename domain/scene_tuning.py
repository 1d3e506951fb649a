"""What other thresholds would have said of the pictures that were checked: no pixels needed.

Every check keeps its figures, so the rules can be asked again. What cannot be asked again is taken
as it was: which picture was the baseline, and whether a view was searched for elsewhere.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from domain.events import (
    Event,
    SceneBaselineSet,
    SceneChangeAcknowledged,
    SceneChanged,
    SceneChangeType,
    SceneChecked,
    SceneView,
)
from domain.scene_changes import Look, SceneState, decide, folded

THRESHOLDS: Final = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)


class Trial:
    """One camera under one threshold."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.said: list[SceneChangeType] = []
        self._state = SceneState()

    def sees(self, event: Event) -> None:
        """Take in the next event of the camera's stream `scenes`."""
        match event:
            case SceneChecked():
                self._check(event)
            case SceneBaselineSet() | SceneChangeAcknowledged():
                self._state = SceneState()  # From here on it was compared with another picture.
            case _:
                return

    def _check(self, event: SceneChecked) -> None:
        view = SceneView(
            picture_id=event.picture_id,
            file_id="",
            path="",
            uri="",
            captured_at=event.captured_at,
        )
        look = Look(event.similarity, event.structure, event.flat, event.moved)
        # As young as the picture, the baseline is never replaced by what is only asked here.
        state = msgspec.structs.replace(self._state, baseline=view)
        found = decide(state, event.camera_id, view, look, self.threshold)
        self._state = folded(state, found)
        self.said += [each.change_type for each in found if isinstance(each, SceneChanged)]


class CameraTrials:
    """One camera under every threshold."""

    def __init__(self, thresholds: Iterable[float] = THRESHOLDS) -> None:
        self.trials = [Trial(threshold) for threshold in thresholds]
        self.checked = 0
        self.lowest_similarity = 1.0
        self.lowest_structure = 1.0

    def sees(self, event: Event) -> None:
        """Take in the next event of the camera's stream `scenes`."""
        if isinstance(event, SceneChecked):
            self.checked += 1
            self.lowest_similarity = min(self.lowest_similarity, event.similarity)
            self.lowest_structure = min(self.lowest_structure, event.structure)
        for trial in self.trials:
            trial.sees(event)
