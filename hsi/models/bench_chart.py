"""Charts of `hsi models bench`: a bar for the terminal, and an SVG without a library."""

from collections.abc import Sequence
from html import escape
from typing import Protocol

BAR_WIDTH = 30
_EIGHTHS = " ▏▎▍▌▋▊▉"
_LEFT, _TOP, _ROW, _BAR, _WIDTH = 130, 60, 22, 420, 760


class Measured(Protocol):
    """What the chart shows of one point."""

    @property
    def batch(self) -> int: ...
    @property
    def concurrency(self) -> int: ...
    @property
    def pictures_per_s(self) -> float: ...
    @property
    def p50_ms(self) -> float: ...
    @property
    def p99_ms(self) -> float: ...


def bar(share: float, width: int = BAR_WIDTH) -> str:
    """Return a bar of `share` (0 to 1) of the width, exact to an eighth of a character."""
    eighths = round(share * width * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def svg(title: str, points: Sequence[Measured]) -> str:
    """Return a bar chart: a bar for each point by pictures a second, its latency beside it."""
    most = max(point.pictures_per_s for point in points) or 1.0
    height = _TOP + _ROW * len(points) + 20
    rows = "\n".join(_row(index, point, most) for index, point in enumerate(points))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" \
font-family="sans-serif" font-size="13">
<title>{escape(title)}</title>
<rect width="100%" height="100%" fill="#fff"/>
<text x="16" y="24" font-size="16" font-weight="bold">{escape(title)}</text>
<text x="16" y="46" fill="#555">pictures a second by batch × calls at the same time; \
p50 and p99 of a call</text>
{rows}
</svg>
"""


def _row(index: int, point: Measured, most: float) -> str:
    y = _TOP + index * _ROW
    length = round(_BAR * point.pictures_per_s / most)
    label = f"batch {point.batch} × {point.concurrency}"
    told = f"{point.pictures_per_s:,.1f}/s · {point.p50_ms:,.1f} / {point.p99_ms:,.1f} ms"
    return (
        f'<text x="{_LEFT - 10}" y="{y + 15}" text-anchor="end">{label}</text>'
        f'<rect x="{_LEFT}" y="{y + 3}" width="{length}" height="16" fill="#2a6fb0"/>'
        f'<text x="{_LEFT + length + 6}" y="{y + 15}" fill="#333">{told}</text>'
    )
