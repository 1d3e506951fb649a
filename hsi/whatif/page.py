"""A run's result as one HTML file that needs nothing else: styles and pictures are inside."""

from collections.abc import Iterator
from html import escape
from itertools import islice
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from domain.difference import KINDS, Change, Kind
from domain.errors import HsiError
from domain.whatif import EventOutcome
from hsi.whatif.pictures import data_uri
from hsi.whatif.result import Changes, Result
from hsi.whatif.table import clock, summary_lines, verdict, what
from inference.pictures import PictureStore

PICTURES: Final = 60
"""Changes shown with a picture: about 1 MB."""
ROWS: Final = 2000
"""Changes listed at all; the JSON has every one."""

_TITLES: Final[dict[Kind, str]] = {
    "gained": "Gained",
    "lost": "Lost",
    "level": "Other level",
    "score": "Other score",
    "details": "Other details",
}
_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881}
body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:1100px;padding:24px}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:32px 0 8px}p{margin:4px 0}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:20px 0}
.tile{border:1px solid var(--line);border-radius:8px;padding:10px 16px;min-width:96px}
.tile b{display:block;font-size:26px}
table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid var(--line);padding:4px 10px 4px 0}
td,th{text-align:left;vertical-align:top}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(240px,1fr));gap:14px}
.card{border:1px solid var(--line);border-radius:8px;overflow:hidden}
.card img,.none{display:block;width:100%;aspect-ratio:16/9;object-fit:contain;background:#000}
.none{color:#bbb;display:grid;place-items:center}
.card div.text{padding:8px 10px}.muted{opacity:.7}
.kind{border-radius:4px;padding:1px 7px;color:#fff;background:#667;font-size:13px}
.gained{background:#1a7f37}.lost{background:#b3261e}.level{background:#9a6700}
.score{background:#0b5c8a}
"""


def write_page(
    path: Path, result: Result, changes: Changes, zone: ZoneInfo, store: PictureStore
) -> None:
    """Write the report; raises HsiError when the file cannot be written."""
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(_page(result, changes, zone, store))
    except OSError as error:
        raise HsiError(f"--report {path} cannot be written: {error.strerror}") from error


def _page(result: Result, changes: Changes, zone: ZoneInfo, store: PictureStore) -> Iterator[str]:
    title = f"What if: {escape(result.name)}"
    yield "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
    yield '<meta name=viewport content="width=device-width,initial-scale=1">'
    yield f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
    for line in (*summary_lines(result, zone), *result.notes):
        yield f"<p>{escape(line)}</p>"
    yield '<div class=tiles data-kind="counts">'
    for kind in KINDS:
        count = result.counts[kind]
        yield f'<div class=tile data-count="{kind}"><b>{count}</b>{_TITLES[kind]}</div>'
    yield f'<div class=tile data-count="same"><b>{result.same}</b>The same</div></div>'
    yield from _settings(result)
    order = changes.by_weight(result.counts)
    if result.changed:
        yield "<h2>Changes</h2><div class=cards>"
        for change in islice(order, PICTURES):
            yield _card(change, zone, data_uri(store, change.shown.cover))
        yield "</div>"
    yield from _rest(order, result.changed - PICTURES, zone)
    yield "</body></html>\n"


def _settings(result: Result) -> Iterator[str]:
    yield "<h2>Settings</h2><table><tr><th>Setting<th>As it was<th>In this run</tr>"
    for setting in result.settings:
        name, before, after = map(escape, (setting.name, setting.before, setting.after))
        strong = f"<b>{after}</b>" if before != after else after
        yield f"<tr><td>{name}<td>{before}<td>{strong}</tr>"
    yield "</table>"


def _card(change: Change, zone: ZoneInfo, picture: str | None) -> str:
    alt = escape(f"{change.shown.camera_id}: {change.shown.cover.label}")
    image = (
        f'<img alt="{alt}" src="{picture}">'
        if picture is not None
        else "<div class=none>the picture is gone</div>"
    )
    return (
        f'<div class=card data-event="{escape(change.shown.event_id)}">{image}<div class=text>'
        f"<span class='kind {change.kind}'>{_TITLES[change.kind]}</span> "
        f"<b>{_moved(change.before, change.after)}</b><p>{escape(what(change))}</p>"
        f"<p class=muted>{escape(clock(change.started_at, zone))}</p></div></div>"
    )


def _rest(changes: Iterator[Change], count: int, zone: ZoneInfo) -> Iterator[str]:
    if count <= 0:
        return
    yield "<h2>More changes</h2><table><tr><th>Change<th>Time<th>Camera<th>Score<th>What</tr>"
    for change in islice(changes, ROWS):
        when, camera = clock(change.started_at, zone), change.shown.camera_id
        yield (
            f'<tr data-event="{escape(change.shown.event_id)}"><td>{_TITLES[change.kind]}'
            f"<td>{escape(when)}<td>{escape(camera)}<td>{_moved(change.before, change.after)}"
            f"<td>{escape(what(change))}</tr>"
        )
    yield "</table>"
    if count > ROWS:
        yield f"<p>{count - ROWS} more are in the JSON.</p>"


def _moved(before: EventOutcome | None, after: EventOutcome | None) -> str:
    return f"{escape(verdict(before))} → {escape(verdict(after))}"
