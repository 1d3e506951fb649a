"""What is left out when the context is short: the least useful first, the facts never."""

from support.risk_scenes import facts

from domain.prompt import signal_lines
from domain.prompt_cuts import whole_to_shortest
from domain.risk_rules import judge
from inference.ports import RiskQuestion
from inference.prompts import load_prompt

PROMPT = load_prompt()


def asked(*labels: str) -> RiskQuestion:
    scene = facts(*labels, part="night", dwell=40, days=9)
    verdict = judge(scene, entry_point=True)
    lines = signal_lines(verdict.signals)
    return RiskQuestion("Back Door", scene, verdict.score, verdict.floor, lines)


def test_the_first_is_whole() -> None:
    first = next(whole_to_shortest(PROMPT, asked("person")))
    assert first.left_out == ()
    assert first.prefix == PROMPT.prefix()


def test_examples_go_first_then_objects_then_history_then_signs() -> None:
    *_, last = whole_to_shortest(PROMPT, asked("person", "car", "dog", "cat"))
    by_use = sorted(PROMPT.examples, key=lambda example: example.keep)
    assert last.left_out == (
        *(f"example {example.name}" for example in by_use),
        "objects beyond 3",
        "history",
        "signs",
    )


def test_each_is_shorter_than_the_one_before() -> None:
    sizes = [
        sum(len(message.content) for message in each.messages)
        for each in whole_to_shortest(PROMPT, asked("person", "car", "dog", "cat"))
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes) == 10


def test_what_counts_most_is_in_every_one() -> None:
    for each in whole_to_shortest(PROMPT, asked("person", "car", "dog", "cat")):
        question = each.messages[-1].content
        assert each.messages[0].content == PROMPT.system
        assert 'Camera: "Back Door"' in question
        assert "Time: 2026-06-02 03:12 Tuesday (night)" in question
        assert "1 person in 4 of 4" in question
        assert "In view for: 40 seconds" in question
        assert "not below 70" in question


def test_nothing_is_said_to_be_left_out_that_was_not_there() -> None:
    scene = facts("cat")
    *_, last = whole_to_shortest(PROMPT, RiskQuestion("Garden", scene, 3, 0, ()))
    assert all(part.startswith("example ") for part in last.left_out)
