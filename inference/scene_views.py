"""Two pictures of one camera compared: SSIM, then what of the view's structure is in its place.

Everything here is grey and small. The functions are pure and take milliseconds of CPU, nearly all
of it outside Python's lock: call them in a thread.
"""

from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from domain.errors import PermanentError
from domain.scene_changes import Look, is_suspect
from inference import images

WINDOW: Final = 7
"""Side of the square over which SSIM compares, in pixels."""
STRIP: Final = 64
"""Rows compared at once: a whole picture's sums would take ten times the memory."""
STRUCTURE_WIDTH: Final = 320
"""Edges are compared at this width, where leaves and noise make none."""
SMOOTHING: Final = 1.5
BLOCK: Final = 32
"""Side of the squares of which each has kept its structure or has not."""
TEXTURE: Final = 1.0
"""Mean square of the gradient (grey levels a pixel) from which a block has structure."""
FEWEST_BLOCKS: Final = 6
"""A picture with fewer blocks of structure shows too little to tell views apart."""
IN_PLACE: Final = 0.30
"""Correlation of a block's edges from which they count as the same edges."""
FLAT_SHARE: Final = 0.02
"""Below this share of its baseline's energy a block shows nothing."""
JPEG_QUALITY: Final = 95

_C1: Final = (0.01 * 255) ** 2
_C2: Final = (0.03 * 255) ** 2
_FEATURES: Final = 500
_DISTINCT: Final = 0.75
"""A feature's best match must be so much nearer than its second best."""
_MOST_OFF_PIXELS: Final = 4.0
_FEWEST_MATCHES: Final = 20
_LEAST_AGREEING: Final = 0.4
_LEAST_SCALE, _MOST_SCALE = 0.5, 2.0

Pixels = NDArray[np.uint8]
Field = NDArray[np.float32]


def view_of(data: bytes, name: str, width: int) -> Pixels:
    """Return the picture in `data` in grey and at most `width` wide.

    Raises PermanentError for bytes that are no picture.
    """
    picture = images.decode(data, name, target=width)
    grey = cv2.cvtColor(picture.rgb, cv2.COLOR_RGB2GRAY)
    width = max(WINDOW, min(width, grey.shape[1]))
    height = max(WINDOW, round(grey.shape[0] * width / grey.shape[1]))
    small: Pixels = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    return small


def packed(view: Pixels) -> bytes:
    """Return a view as a small file."""
    _, encoded = cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes(encoded)


def unpacked(data: bytes) -> Pixels:
    """Return the view that was packed; raises PermanentError for other bytes."""
    view = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    if view is None:
        raise PermanentError("a stored view does not decode")
    return np.asarray(view, np.uint8)


def compare(baseline: Pixels, now: Pixels, threshold: float) -> Look | None:
    """Return what a picture has in common with its baseline.

    None when the baseline shows too little to compare anything with, and the picture does not.
    """
    if baseline.shape != now.shape:
        size = baseline.shape[1], baseline.shape[0]
        now = np.asarray(cv2.resize(now, size, interpolation=cv2.INTER_AREA), np.uint8)
    similarity = round(ssim(baseline, now), 4)
    before, after = _edges(baseline), _edges(now)
    textured = before.energy > TEXTURE
    if textured.sum() < FEWEST_BLOCKS:
        shows = int((after.energy > TEXTURE).sum()) >= FEWEST_BLOCKS
        return None if shows else Look(similarity, structure=1.0, flat=0.0)
    in_place = before.agreement(after) > IN_PLACE
    nothing = (after.energy < FLAT_SHARE * before.energy) & ~in_place
    structure = round(float(in_place[textured].mean()), 4)
    flat = round(float(nothing[textured].mean()), 4)
    suspect = is_suspect(similarity, structure, threshold)
    return Look(similarity, structure, flat, moved(baseline, now) if suspect else None)


def ssim(one: Pixels, other: Pixels) -> float:
    """Return the mean structural similarity of two grey pictures of one size, 0 to 1.

    As Wang et al. define it, over every whole window of 7 x 7 pixels, each weighing the same.
    """
    total, count = 0.0, 0
    for a, b in _strips(one, other):
        found = _ssim_map(a, b)
        total += float(found.sum(dtype=np.float64))
        count += found.size
    return min(1.0, max(0.0, total / count))


def _strips(one: Pixels, other: Pixels) -> Iterator[tuple[Field, Field]]:
    """Give rows that overlap by what a window needs, so that each window comes once."""
    for top in range(0, one.shape[0] - WINDOW + 1, STRIP):
        rows = slice(top, top + STRIP + WINDOW - 1)
        yield one[rows].astype(np.float32), other[rows].astype(np.float32)


def _ssim_map(a: Field, b: Field) -> Field:
    mean_a, mean_b = _means(a), _means(b)
    # Of a sample, not of everything: n / (n - 1) times what the window's pixels have.
    sample = WINDOW**2 / (WINDOW**2 - 1)
    variances = sample * (_means(a * a) + _means(b * b) - mean_a * mean_a - mean_b * mean_b)
    covariance = sample * (_means(a * b) - mean_a * mean_b)
    above = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    below = (mean_a * mean_a + mean_b * mean_b + _C1) * (variances + _C2)
    found: Field = above / below
    return found


def _means(values: Field) -> Field:
    """Return the mean of every whole window."""
    margin = WINDOW // 2
    means: Field = cv2.boxFilter(values, cv2.CV_32F, (WINDOW, WINDOW))
    return means[margin : values.shape[0] - margin, margin : values.shape[1] - margin]


class _Edges:
    """Where a view has edges, and which way they run: light may turn one inside out."""

    def __init__(self, along: Field, across: Field) -> None:
        self.along, self.across = along, across
        """The gradient with its angle doubled, so that dark-to-bright and its reverse agree."""
        self.energy = _blocks(along * along + across * across)

    def agreement(self, other: "_Edges") -> Field:
        """Return the correlation of both in every block, -1 to 1."""
        product = _blocks(self.along * other.along + self.across * other.across)
        found: Field = product / np.sqrt(self.energy * other.energy + 1e-6)
        return found


def _edges(view: Pixels) -> _Edges:
    width = min(STRUCTURE_WIDTH, view.shape[1])
    height = max(1, round(view.shape[0] * width / view.shape[1]))
    small = cv2.resize(view, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    smooth = cv2.GaussianBlur(small, (0, 0), SMOOTHING)
    right = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    strength = np.sqrt(right * right + down * down) + np.float32(1e-6)
    return _Edges((right * right - down * down) / strength, 2 * right * down / strength)


def _blocks(values: Field) -> Field:
    """Return the mean of each block."""
    height, width = values.shape
    size = max(1, round(width / BLOCK)), max(1, round(height / BLOCK))
    means: Field = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    return means


def moved(baseline: Pixels, now: Pixels) -> float | None:
    """Return how far the baseline's view lies elsewhere in a picture, in widths; None: nowhere.

    Turned, shifted and zoomed views are found by features that many places share.
    """
    finder = cv2.ORB_create(_FEATURES)  # type: ignore[attr-defined]  # cv2's stubs lack it
    places, features = finder.detectAndCompute(baseline, None)
    others, known = finder.detectAndCompute(now, None)
    if features is None or known is None or len(others) < 2:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(features, known, k=2)
    best = [two[0] for two in pairs if len(two) == 2 and _is_distinct(*two)]
    if len(best) < _FEWEST_MATCHES:
        return None
    origins = np.array([places[match.queryIdx].pt for match in best], np.float32)
    targets = np.array([others[match.trainIdx].pt for match in best], np.float32)
    return _displacement(origins, targets, baseline)


def _is_distinct(best: cv2.DMatch, second: cv2.DMatch) -> bool:
    return best.distance < _DISTINCT * second.distance


def _displacement(origins: Field, targets: Field, baseline: Pixels) -> float | None:
    found, agreeing = cv2.estimateAffinePartial2D(
        origins, targets, method=cv2.RANSAC, ransacReprojThreshold=_MOST_OFF_PIXELS
    )
    if found is None or agreeing.sum() < max(_FEWEST_MATCHES, _LEAST_AGREEING * len(origins)):
        return None
    scale = float(np.hypot(found[0, 0], found[1, 0]))
    if not _LEAST_SCALE <= scale <= _MOST_SCALE:
        return None
    height, width = baseline.shape
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float32)
    away = corners @ found[:, :2].T + found[:, 2] - corners
    mean = float(np.linalg.norm(away, axis=1).mean())
    return round(mean / int(width), 4)
