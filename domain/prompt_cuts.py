"""What is left out of a question, and in which order, when the model's context is too short.

The least useful goes first: worked examples by their `keep`, then objects beyond the first few,
then what is usual there, then the signs. Camera, time, what was seen, for how long, the rules'
score and its floor are never left out, nor are the instructions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Protocol

import msgspec

from domain.events import BatchFacts
from domain.prompt import HISTORY, SIGN, Message, Prompt, question_text

FEW_OBJECTS: Final = 3


class Question(Protocol):
    """What a question is made of."""

    @property
    def camera_name(self) -> str: ...

    @property
    def facts(self) -> BatchFacts: ...

    @property
    def rule_score(self) -> int: ...

    @property
    def floor(self) -> int: ...

    @property
    def signal_lines(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A conversation, and what it does not say."""

    messages: tuple[Message, ...]
    left_out: tuple[str, ...] = ()
    """`example NAME`, `objects beyond 3`, `history`, `signs`; in the order of leaving out."""

    @property
    def prefix(self) -> tuple[Message, ...]:
        """Return the part before the question."""
        return self.messages[:-1]


def whole_to_shortest(prompt: Prompt, question: Question) -> Iterator[Asked]:
    """Return the whole conversation and then ever shorter ones."""
    facts, lines = question.facts, question.signal_lines

    def asked() -> Asked:
        text = question_text(
            question.camera_name, facts, question.rule_score, question.floor, lines
        )
        return Asked(prompt.conversation(text), tuple(left_out))

    left_out: list[str] = []
    yield asked()
    for example in sorted(prompt.examples, key=lambda each: each.keep):
        rest = tuple(each for each in prompt.examples if each is not example)
        prompt = replace(prompt, examples=rest)
        left_out.append(f"example {example.name}")
        yield asked()
    if len(facts.objects) > FEW_OBJECTS:
        facts = msgspec.structs.replace(facts, objects=facts.objects[:FEW_OBJECTS])
        left_out.append(f"objects beyond {FEW_OBJECTS}")
        yield asked()
    for start, name in ((HISTORY, "history"), (SIGN, "signs")):
        kept = tuple(line for line in lines if not line.startswith(start))
        if kept != lines:
            lines = kept
            left_out.append(name)
            yield asked()
