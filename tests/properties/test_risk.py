"""What holds for any facts, any camera and any reply: score, level, floor, a living parser."""

import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from support.risk_scenes import BANDS, assessed

from domain.events import Baseline, BatchFacts, ObjectFact
from domain.names import CAMERA_NAME_LIMIT, clean_name, clean_text, strip_control_tokens
from domain.prompt import (
    REASONING_LIMIT,
    SUMMARY_LIMIT,
    Reply,
    UnusableReplyError,
    parse_reply,
    question_text,
    signal_lines,
)
from domain.risk import MODEL_MOVE, Bands, CameraView, bounded_score, level_of, summary_of
from domain.risk_rules import judge
from domain.scene import PARTS_OF_DAY
from inference.prompts import load_prompt

LABELS = st.sampled_from(["person", "car", "truck", "cat", "bear", "knife", "bench", "x|y>"])
TEXT = st.text(alphabet=st.characters(), max_size=200)
FACTS = st.builds(
    BatchFacts,
    objects=st.lists(
        st.builds(
            ObjectFact,
            label=LABELS | st.text(max_size=40),
            most_at_once=st.integers(1, 300),
            pictures=st.integers(1, 1000),
            best_score=st.floats(0, 1),
        ),
        max_size=6,
        unique_by=lambda fact: fact.label,
    ).map(tuple),
    picture_count=st.integers(0, 1000),
    dwell_seconds=st.floats(0, 1e7),
    local_time=st.just("2026-06-02 13:00 Tuesday"),
    part_of_day=st.sampled_from(PARTS_OF_DAY),
    baseline=st.builds(
        Baseline, days_observed=st.integers(0, 5000), same_hour=st.integers(0, 10_000)
    ),
)
BANDS_ANY = (
    st.lists(st.integers(0, 99), min_size=3, max_size=3, unique=True)
    .map(sorted)
    .map(lambda edges: Bands(*edges))
)


def read(text: str) -> Reply | None:
    try:
        return parse_reply(text)
    except UnusableReplyError:
        return None


@given(FACTS, st.booleans())
def test_points_add_up_to_a_score_on_the_scale(facts: BatchFacts, entry_point: bool) -> None:
    verdict = judge(facts, entry_point=entry_point)
    assert 0 <= verdict.floor <= verdict.score <= 100
    assert sum(signal.points for signal in verdict.signals) == verdict.score
    assert judge(facts, entry_point=entry_point) == verdict
    names = [signal.name for signal in verdict.signals]
    assert len(names) == len(set(names))


@given(FACTS)
def test_a_way_into_the_house_never_lowers_the_score(facts: BatchFacts) -> None:
    assert judge(facts, entry_point=True).score >= judge(facts, entry_point=False).score


@given(FACTS, st.booleans(), st.integers(-(10**9), 10**9))
def test_no_model_moves_a_score_out_of_its_bounds(
    facts: BatchFacts, entry_point: bool, answer: int
) -> None:
    rules = assessed(facts, entry_point=entry_point)
    score = bounded_score(rules.score, rules.floor, answer)
    assert max(0, rules.floor) <= score <= 100
    assert abs(score - rules.score) <= MODEL_MOVE


@given(BANDS_ANY, st.integers(0, 100), st.integers(0, 100))
def test_a_higher_score_never_has_a_lower_level(bands: Bands, one: int, other: int) -> None:
    order = ("low", "medium", "high", "critical")
    low, high = sorted((one, other))
    assert order.index(level_of(low, bands)) <= order.index(level_of(high, bands))
    assert level_of(bands.high_max + 1, bands) == "critical"


@given(TEXT)
def test_a_cleaned_name_is_short_and_plain(name: str) -> None:
    cleaned = clean_name(name)
    assert 0 < len(cleaned) <= CAMERA_NAME_LIMIT
    assert clean_name(cleaned) == cleaned
    assert cleaned.encode()
    assert not set(cleaned) & set('<>|[]{}"\\\n\r\x00')


@given(st.lists(st.sampled_from(["<", "|", ">", "a", "im_end", "<|", "|>", "</s>", " "])))
def test_no_control_token_survives(parts: list[str]) -> None:
    stripped = strip_control_tokens("".join(parts))
    assert "</s>" not in stripped
    assert strip_control_tokens(stripped) == stripped


@given(FACTS, TEXT, st.booleans())
def test_a_question_can_always_be_asked(facts: BatchFacts, name: str, entry_point: bool) -> None:
    verdict = judge(facts, entry_point=entry_point)
    lines = signal_lines(verdict.signals)
    text = question_text(name, facts, verdict.score, verdict.floor, lines)
    assert len(text) < 2_500
    assert text.count("\n") == 4 + len(lines)
    assert msgspec.json.encode([m.content for m in load_prompt().conversation(text)])
    assert summary_of(facts, CameraView(name, entry_point)).isprintable()


@given(
    TEXT | st.recursive(st.none() | st.integers() | TEXT, st.lists, max_leaves=5).map(json.dumps)
)
def test_no_text_breaks_the_parser(text: str) -> None:
    reply = read(text)
    assert reply is None or 0 <= reply.risk_score <= 100


@given(
    st.integers(-5, 105),
    st.text(alphabet=st.characters(), max_size=SUMMARY_LIMIT + 5),
    st.text(alphabet=st.characters(), max_size=REASONING_LIMIT + 5),
    st.booleans(),
    st.integers(0, 40),
)
@settings(max_examples=200)
def test_every_reply_is_either_clean_or_refused(
    score: int, summary: str, reasoning: str, ascii_only: bool, cut: int
) -> None:
    answer = {"risk_score": score, "summary": summary, "reasoning": reasoning}
    text = json.dumps(answer, ensure_ascii=ascii_only)
    text = text[: len(text) - cut]
    reply = read(text)
    if reply is None:
        return
    assert cut == 0
    assert reply.risk_score == score
    assert reply.summary == clean_text(summary)
    assert reply.summary.isprintable()
    assert level_of(reply.risk_score, BANDS)
