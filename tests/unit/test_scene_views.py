"""Two pictures of a camera compared, on real pictures and what can happen to a view."""

import numpy as np
import pytest
from numpy.typing import NDArray
from support.scenes import (
    Pixels,
    black,
    clipped,
    dimmed,
    elsewhere,
    infrared,
    jpeg,
    lamp,
    noise,
    rolled,
    shifted,
    somebody,
    yard,
)

from domain.errors import PermanentError
from domain.scene_changes import Look, verdict_of
from inference import scene_views
from inference.scene_views import compare, packed, ssim, unpacked, view_of

THRESHOLD = 0.90


def look(baseline: Pixels, now: Pixels) -> Look:
    found = compare(baseline, now, THRESHOLD)
    assert found is not None
    return found


def verdict(baseline: Pixels, now: Pixels) -> str:
    return verdict_of(look(baseline, now), THRESHOLD)


def by_definition(one: Pixels, other: Pixels) -> float:
    """Return the mean SSIM window by window, as Wang et al. write it down."""
    a = windows(one.astype(np.float64))
    b = windows(other.astype(np.float64))
    mean_a, mean_b = a.mean(axis=(2, 3)), b.mean(axis=(2, 3))
    variance_a, variance_b = a.var(axis=(2, 3), ddof=1), b.var(axis=(2, 3), ddof=1)
    both = (a - mean_a[..., None, None]) * (b - mean_b[..., None, None])
    covariance = both.sum(axis=(2, 3)) / (scene_views.WINDOW**2 - 1)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    below = (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return float((above / below).mean())


def windows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    side = (scene_views.WINDOW, scene_views.WINDOW)
    return np.lib.stride_tricks.sliding_window_view(values, side)


@pytest.mark.parametrize(("height", "width"), [(7, 7), (70, 33), (71, 40), (150, 64)])
def test_ssim_is_the_one_of_the_definition_however_the_strips_fall(
    height: int, width: int
) -> None:
    one = yard()[:height, :width]
    for other in (one, clipped(one + noise(one, 20)), dimmed(one, 0.4), 255 - one):
        expected = max(0.0, by_definition(one, other))
        assert ssim(one, other) == pytest.approx(expected, abs=2e-4)
    assert ssim(one, one) == pytest.approx(1.0)


@pytest.mark.parametrize("grey", [0, 90, 255])
def test_a_lens_that_shows_nothing_is_blocked(grey: int) -> None:
    for baseline in (yard(), elsewhere()):
        covered = clipped(grey + noise(baseline, 2))
        assert verdict(baseline, covered) == "view_blocked"
        assert look(baseline, covered).flat > 0.9


@pytest.mark.parametrize("baseline", [yard(), elsewhere(), elsewhere("hotel.jpg")])
def test_day_becomes_night_and_the_view_stays(baseline: Pixels) -> None:
    lights = [dimmed(baseline, 0.5), dimmed(baseline, 0.1), lamp(baseline), infrared(baseline)]
    gamma = clipped(255 * (baseline / 255) ** 2.5)
    for night in (*lights, gamma):
        found = look(baseline, night)
        assert found.similarity < THRESHOLD
        assert found.structure > 0.8
        assert verdict_of(found, THRESHOLD) == "relit"
        assert verdict(night, baseline) == "relit"


def test_people_who_walk_by_change_no_view() -> None:
    for number in range(2, 9):
        assert verdict(yard(), yard(f"yard-1-0{number}")) in ("same", "relit")
    for share in (0.2, 0.3, 0.4):
        assert verdict(yard(), somebody(yard(), share)) == "relit"


def test_a_camera_that_was_turned_looks_elsewhere() -> None:
    for now in (shifted(yard(), 60), shifted(yard(), 200), rolled(yard(), 12), rolled(yard(), 90)):
        found = look(yard(), now)
        assert found.structure < 0.3
        assert verdict_of(found, THRESHOLD) == "angle_changed"
    moved = look(yard(), shifted(yard(), 64)).moved
    assert moved == pytest.approx((64**2 + 16**2) ** 0.5 / 640, abs=0.01)
    assert verdict(yard(), shifted(yard(), 3)) == "relit"  # The wind.


def test_another_picture_before_the_lens_is_tampering() -> None:
    for name in ("hallway.png", "hotel.jpg", "lane.jpg", "astronaut.jpg"):
        found = look(yard(), elsewhere(name))
        assert found.moved is None
        assert verdict_of(found, THRESHOLD) == "view_tampered"


def test_a_baseline_that_shows_nothing_tells_no_views_apart() -> None:
    dark = black(yard())
    assert compare(dark, yard(), THRESHOLD) is None
    found = look(dark, clipped(dark + 5.0))
    assert (found.structure, found.moved) == (1.0, None)


def test_pictures_of_other_sizes_are_compared_in_the_baselines() -> None:
    data = jpeg(yard(), 95)
    small = view_of(data, "yard.jpg", 320)
    assert small.shape == (240, 320)
    assert look(yard(), small).structure > 0.9
    assert look(small, yard()).similarity > 0.95
    assert view_of(data, "yard.jpg", 1920).shape == yard().shape  # Never made larger.


def test_a_stored_view_is_nearly_the_picture() -> None:
    stored = packed(yard())
    assert len(stored) < 120_000
    assert ssim(unpacked(stored), yard()) > 0.97
    for wrong in (b"", b"no picture", stored[:100]):
        with pytest.raises(PermanentError, match="does not decode"):
            unpacked(wrong)
