"""How good scores are against labelled bands: rank correlation, pairs in order, in band."""

from collections.abc import Sequence
from dataclasses import dataclass

Band = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a set of scores is worth."""

    spearman: float
    in_order: int
    pairs: int
    """Pairs of scenes whose bands don't overlap: one must score above the other."""
    in_band: int
    scenes: int

    @property
    def in_band_share(self) -> float:
        """Return the share of scores within their bands."""
        return self.in_band / self.scenes


def figures(scores: Sequence[int], bands: Sequence[Band]) -> Figures:
    """Compare one score a scene with its band."""
    wanted = [(low + high) / 2 for low, high in bands]
    apart = [
        (i, j)
        for i, first in enumerate(bands)
        for j, second in enumerate(bands)
        if first[1] < second[0]
    ]
    within = [low <= s <= high for s, (low, high) in zip(scores, bands, strict=True)]
    return Figures(
        spearman=spearman(scores, wanted),
        in_order=sum(scores[i] < scores[j] for i, j in apart),
        pairs=len(apart),
        in_band=sum(within),
        scenes=len(within),
    )


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the rank correlation, ties sharing their mean rank; 0 when one side is constant."""
    a, b = _ranks(one), _ranks(other)
    middle = (len(a) + 1) / 2
    together = sum((x - middle) * (y - middle) for x, y in zip(a, b, strict=True))
    spread_a = sum((x - middle) ** 2 for x in a)
    spread_b = sum((y - middle) ** 2 for y in b)
    if not spread_a or not spread_b:
        return 0.0
    return float(together / (spread_a * spread_b) ** 0.5)


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    first = {value: ordered.index(value) for value in set(values)}
    return [first[v] + (ordered.count(v) + 1) / 2 for v in values]
