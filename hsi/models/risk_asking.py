"""Asks a language model about the labelled scenes and attacks, as the pipeline would."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from domain.errors import HsiError, ServiceUnavailableError, TransientError
from domain.prompt import UnusableReplyError
from domain.risk import bounded_score
from hsi.scenarios import Attack, Scene
from inference.ports import RiskModel, RiskOpinion

TRIES: Final = 3
"""Questions about one scene before it stands by the rules."""


@dataclass(frozen=True, slots=True)
class Said:
    """What came of one scene."""

    scene: Scene
    rule_score: int
    floor: int
    opinion: RiskOpinion | None
    """None: no usable reply came, or no model was asked; the rules' score stands."""
    unusable: int = 0
    """Replies that could not be used."""

    @property
    def score(self) -> int:
        """Return the score that would be in force."""
        if self.opinion is None:
            return self.rule_score
        return bounded_score(self.rule_score, self.floor, self.opinion.score)

    @property
    def model_score(self) -> int:
        """Return what the model said, before any bound."""
        return self.rule_score if self.opinion is None else self.opinion.score


@dataclass(frozen=True, slots=True)
class Attacked:
    """What came of one attack."""

    attack: Attack
    said: Said


async def ask(
    model: RiskModel | None, scenes: Sequence[Scene], tell: Callable[[str], None]
) -> list[Said]:
    """Ask about every scene in turn; without a model the rules speak alone."""
    said = []
    for scene in scenes:
        tell(scene.name)
        said.append(await _ask(model, scene))
    return said


async def attack_all(
    model: RiskModel | None,
    scene: Scene,
    attacks: Sequence[Attack],
    tell: Callable[[str], None],
) -> list[Attacked]:
    """Ask about the attacked scene once an attack."""
    done = []
    for attack in attacks:
        tell(f"attack {attack.name}")
        done.append(Attacked(attack, await _ask(model, attack.on(scene))))
    return done


async def _ask(model: RiskModel | None, scene: Scene) -> Said:
    question = scene.question()
    unusable = 0
    opinion: RiskOpinion | None = None
    while model is not None and opinion is None and unusable < TRIES:
        try:
            opinion = await model.assess(question)
        except UnusableReplyError:
            unusable += 1
        except ServiceUnavailableError:
            raise
        except TransientError as error:
            raise HsiError(f"the evaluation ends at {scene.name}: {error}") from error
    return Said(scene, question.rule_score, question.floor, opinion, unusable)
