"""Trials: how far two detectors agree, what are canaries, and when to stop."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from domain.events import Box

MATCH_IOU = 0.5
"""Overlap (intersection over union) from which two boxes of one label are the same object."""
SLOW_SHARE = 0.05
"""Part of a window that may be slower than the limit: the limit is one of the 95th percentile."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What two detectors saw in one picture, compared as sets."""

    matched: int
    missing: int
    """Objects that only the reference saw."""
    surplus: int
    """Objects that only the candidate saw."""
    drift: float | None
    """Mean of the candidate's score less the reference's over what matched; None: nothing did."""

    @property
    def share(self) -> float:
        """Return the part of all objects that both saw; 1 when both saw nothing."""
        objects = self.matched + self.missing + self.surplus
        return self.matched / objects if objects else 1.0


def agreement(reference: Sequence[Box], candidate: Sequence[Box], threshold: float) -> Agreement:
    """Compare what reaches the threshold; a box matches at most one, the nearest pairs first."""
    left = [box for box in reference if box.score >= threshold]
    right = [box for box in candidate if box.score >= threshold]
    pairs = [
        (i, j)
        for i, a in enumerate(left)
        for j, b in enumerate(right)
        if a.label == b.label and iou(a, b) >= MATCH_IOU
    ]
    pairs.sort(key=lambda pair: _rank(left[pair[0]], right[pair[1]]))
    taken_left: set[int] = set()
    taken_right: set[int] = set()
    drifts: list[float] = []
    for i, j in pairs:
        if i not in taken_left and j not in taken_right:
            taken_left.add(i)
            taken_right.add(j)
            drifts.append(right[j].score - left[i].score)
    matched = len(drifts)
    drift = round(sum(drifts) / matched, 5) if matched else None
    return Agreement(matched, len(left) - matched, len(right) - matched, drift)


def iou(one: Box, other: Box) -> float:
    """Return how much two boxes overlap: intersection over union."""
    right = min(one.x + one.width, other.x + other.width)
    bottom = min(one.y + one.height, other.y + other.height)
    shared = max(0.0, right - max(one.x, other.x)) * max(0.0, bottom - max(one.y, other.y))
    union = one.width * one.height + other.width * other.height - shared
    return shared / union if union > 0 else 0.0


def _rank(one: Box, other: Box) -> tuple[float, list[tuple[float, ...]]]:
    """Return what puts the nearest pair first, whatever order the boxes came in."""
    return -iou(one, other), sorted((_row(one), _row(other)))


def _row(box: Box) -> tuple[float, ...]:
    return (box.x, box.y, box.width, box.height, box.score)


def is_canary(subject_id: str, percent: int) -> bool:
    """Say whether a picture or event is among the `percent` that the candidate answers for.

    The same one always falls on the same side, and stays a canary when the percentage rises.
    """
    digest = blake2b(subject_id.encode(), digest_size=8, person=b"canary").digest()
    return int.from_bytes(digest, "big") % 100 < percent


@dataclass(frozen=True, slots=True)
class Limits:
    """What a candidate may do within a window of comparisons and stay in use."""

    window: int
    min_agreement: float
    max_error_rate: float
    max_latency_ms: float
    what: str = "pictures"
    """What a window is counted in."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One picture or event of a window."""

    failed: bool
    share: float | None = None
    latency_ms: float | None = None


def breach(limits: Limits, compared: Sequence[Compared]) -> str | None:
    """Return which limit the last window breaks, None while none is broken.

    What is still to come counts as perfect: a limit is broken as soon as a window that
    holds what is known cannot keep it, and at the latest when it is full.
    """
    last = compared[-limits.window :]
    seen = f"over {len(last)} of {limits.window} {limits.what}"
    failed = sum(each.failed for each in last)
    if failed > limits.max_error_rate * limits.window:
        return f"{failed} failures {seen}, above an error rate of {limits.max_error_rate:g}"
    shares = [each.share for each in last if each.share is not None]
    lost = sum(1.0 - share for share in shares)
    if lost > (1.0 - limits.min_agreement) * limits.window + 1e-9:
        mean = sum(shares) / len(shares)
        return f"agreement of {mean:.2f} {seen}, below {limits.min_agreement:g}"
    slow = sum((each.latency_ms or 0.0) > limits.max_latency_ms for each in last)
    if slow > SLOW_SHARE * limits.window:
        return f"{slow} answers {seen} took more than {limits.max_latency_ms:g} ms"
    return None
