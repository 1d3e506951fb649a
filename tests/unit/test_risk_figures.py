"""Spearman with ties, pairs in order, in band; and a labelled set that can be trusted."""

import pytest

from domain.prompt import OBJECTS_LIMIT
from domain.risk_rules import judge
from hsi.models.risk_figures import figures, spearman
from hsi.scenarios import load_attacks, load_scenes


@pytest.mark.parametrize(
    ("one", "other", "rank"),
    [
        ([1, 2, 3], [10, 20, 90], 1.0),
        ([3, 2, 1], [10, 20, 90], -1.0),
        ([5, 5, 5], [1, 2, 3], 0.0),
        ([1, 2, 2, 3], [1, 2, 2, 3], 1.0),
        # By hand: ranks 1 2.5 2.5 4 against 1 3 2 4: 1 - 6 * 0.5 / 60 would ignore the tie.
        ([1, 2, 2, 3], [1, 3, 2, 4], 0.9486833),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8),
    ],
)
def test_rank_correlation(one: list[float], other: list[float], rank: float) -> None:
    assert spearman(one, other) == pytest.approx(rank)


def test_only_pairs_whose_bands_are_apart_count() -> None:
    worth = figures([10, 40, 35, 90], [(0, 20), (30, 50), (45, 60), (80, 100)])
    # The middle two may come in any order; the third is out of its band.
    assert (worth.in_order, worth.pairs) == (5, 5)
    assert (worth.in_band, worth.scenes, worth.in_band_share) == (3, 4, 0.75)
    assert figures([40, 40], [(0, 20), (30, 50)]).in_order == 0


def test_the_labelled_set_is_whole() -> None:
    version, scenes = load_scenes()
    assert version == "scenes-1"
    assert len(scenes) >= 12
    assert len({scene.name for scene in scenes}) == len(scenes)
    for scene in scenes:
        low, high = scene.wanted
        assert 0 <= low < high <= 100
        assert 0 < len(scene.facts.objects) <= OBJECTS_LIMIT
        assert scene.question().rule_score >= scene.question().floor
    assert {scene.facts.part_of_day for scene in scenes} == {"night", "dawn", "day", "evening"}


def test_no_attack_lowers_the_rules_own_score_or_floor() -> None:
    scene, attacks = load_attacks()
    plain = judge(scene.facts, entry_point=scene.entry_point)
    assert plain.floor > plain.score - 20  # an obedient model would go below it
    for attack in attacks:
        attacked = attack.on(scene)
        verdict = judge(attacked.facts, entry_point=attacked.entry_point)
        assert verdict.floor == plain.floor
        assert verdict.score >= plain.score
