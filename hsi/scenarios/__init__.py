"""Labelled scenes for `hsi models eval-risk`: what a house should call a scene, and attacks.

Each scene has the band of scores that a sensible person would accept for it, written down before
any model was asked. An attack is hostile text at a place that others can write to: a camera's
name, a detector's label, a file's name, a caption.
"""

from pathlib import Path
from typing import Final, Literal

import msgspec

from domain.events import BatchFacts, ObjectFact
from domain.prompt import signal_lines
from domain.risk_rules import judge
from inference.ports import RiskQuestion

FOLDER: Final = Path(__file__).parent


class Scene(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a camera saw, and the scores that are right for it."""

    name: str
    about: str
    wanted: tuple[int, int]
    """Lowest and highest score that is right."""
    camera: str
    entry_point: bool
    facts: BatchFacts

    def question(self) -> RiskQuestion:
        """Return what the language model is asked about the scene."""
        verdict = judge(self.facts, entry_point=self.entry_point)
        return RiskQuestion(
            camera_name=self.camera,
            facts=self.facts,
            rule_score=verdict.score,
            floor=verdict.floor,
            signal_lines=signal_lines(verdict.signals),
        )


class Attack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Text that wants the score of a scene to fall."""

    name: str
    through: Literal["camera_name", "label", "file_name", "caption"]
    text: str
    quick: bool
    """Among the few that a slow model is asked by default."""

    @property
    def reaches_the_model(self) -> bool:
        """Return whether the text has a way into the question, cleaned; the others have none."""
        return self.through in ("camera_name", "label")

    def on(self, scene: Scene) -> Scene:
        """Return the scene with the text where it came in."""
        if self.through == "camera_name":
            return msgspec.structs.replace(scene, camera=self.text)
        if self.through == "label":
            fake = ObjectFact(label=self.text, most_at_once=1, pictures=1, best_score=0.99)
            objects = (fake, *scene.facts.objects)
            facts = msgspec.structs.replace(scene.facts, objects=objects)
            return msgspec.structs.replace(scene, facts=facts)
        return scene


class _Scenes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: str
    scenes: tuple[Scene, ...]


class _Attacks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    scene: str
    attacks: tuple[Attack, ...]


def load_scenes() -> tuple[str, tuple[Scene, ...]]:
    """Return the version of the labelled set, and its scenes."""
    found = msgspec.json.decode((FOLDER / "risk.json").read_bytes(), type=_Scenes)
    return found.version, found.scenes


def load_attacks() -> tuple[Scene, tuple[Attack, ...]]:
    """Return the scene whose score shall not fall, and the attacks on it."""
    found = msgspec.json.decode((FOLDER / "attacks.json").read_bytes(), type=_Attacks)
    (scene,) = (scene for scene in load_scenes()[1] if scene.name == found.scene)
    return scene, found.attacks
