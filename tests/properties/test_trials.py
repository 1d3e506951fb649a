"""Agreement is one of sets, canaries are a function of the picture, and a window is a bound."""

from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st

from domain.events import Box
from domain.trials import Compared, Limits, agreement, breach, is_canary

SIDE = st.integers(1, 40).map(float)
BOX = st.builds(
    Box,
    label=st.sampled_from(["person", "car"]),
    score=st.sampled_from([0.3, 0.5, 0.7, 0.9]),
    x=SIDE,
    y=SIDE,
    width=SIDE,
    height=SIDE,
)
BOXES = st.lists(BOX, max_size=8)
SHARES = st.floats(0, 1)
OUTCOME = st.one_of(
    st.just(Compared(failed=True)),
    st.builds(
        Compared, failed=st.just(False), share=SHARES, latency_ms=st.sampled_from([1.0, 900.0])
    ),
)


@given(BOXES, BOXES, st.randoms())
def test_the_order_of_the_boxes_means_nothing(
    left: list[Box], right: list[Box], random: Random
) -> None:
    first = agreement(left, right, 0.5)
    random.shuffle(left)
    random.shuffle(right)
    again = agreement(left, right, 0.5)
    assert (again.matched, again.missing, again.surplus) == (
        first.matched,
        first.missing,
        first.surplus,
    )


@given(BOXES, BOXES)
def test_agreement_counts_each_object_once_and_alike_from_both_sides(
    left: list[Box], right: list[Box]
) -> None:
    one, other = agreement(left, right, 0.5), agreement(right, left, 0.5)
    assert one.matched + one.missing == sum(box.score >= 0.5 for box in left)
    assert one.matched + one.surplus == sum(box.score >= 0.5 for box in right)
    assert (one.matched, one.missing, one.surplus) == (other.matched, other.surplus, other.missing)
    assert one.share == other.share
    assert 0 <= one.share <= 1
    assert agreement(left, left, 0.5).share == 1.0


@given(st.text(min_size=1), st.integers(0, 99))
def test_a_canary_stays_one_when_the_percentage_rises(picture: str, percent: int) -> None:
    assert is_canary(picture, 0) is False
    assert is_canary(picture, 100) is True
    assert not is_canary(picture, percent) or is_canary(picture, percent + 1)


def test_the_share_of_canaries_is_what_was_asked() -> None:
    chosen = sum(is_canary(f"pic_{number:024x}", 10) for number in range(10_000))
    assert 900 < chosen < 1100


@given(st.lists(OUTCOME, max_size=60), st.integers(5, 20))
def test_a_full_window_is_judged_by_its_figures_alone(
    compared: list[Compared], window: int
) -> None:
    limits = Limits(window, 0.8, 0.1, 500.0)
    last = compared[-window:]
    answered = [each.share for each in last if each.share is not None]
    failed = sum(each.failed for each in last)
    slow = sum((each.latency_ms or 0) > 500 for each in last)
    mean_with_hope = 1 - sum(1 - share for share in answered) / window
    assume(abs(mean_with_hope - 0.8) > 1e-6)
    bad = failed > 0.1 * window or slow > 0.05 * window or mean_with_hope < 0.8
    assert (breach(limits, compared) is not None) == bad
    if len(last) == window and answered and not failed and sum(answered) / window < 0.79:
        assert breach(limits, compared) is not None
