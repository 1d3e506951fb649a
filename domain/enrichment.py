"""What of a batch is shown to the optional services, and how their words are made harmless."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from domain.events import Attribute, BatchClosed, BatchMember, Box, SightingKind
from domain.ids import detection_id
from domain.names import clean_text
from domain.scene import kind_of

KINDS: Final[tuple[SightingKind, ...]] = ("person", "vehicle")
MOST_OBJECTS: Final = 4
"""Objects of one kind that are shown at most."""
CAPTION_LIMIT: Final = 500
VALUE_LIMIT: Final = 80
MOST_ATTRIBUTES: Final = 24

EnrichmentGroup = Literal["enrich_florence", "enrich_clip", "enrich_attributes"]
GROUP_OF: Final[dict[str, EnrichmentGroup]] = {
    "florence": "enrich_florence",
    "clip": "enrich_clip",
    "enrichment": "enrich_attributes",
}
"""Optional service → the consumer group that asks it."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True)
class Seen:
    """One object of a batch, in the picture that shows it."""

    detection_id: str
    kind: SightingKind
    box: Box
    member: BatchMember


def objects_of(batch: BatchClosed) -> tuple[Seen, ...]:
    """Return the people and vehicles of a batch: of each kind those of one picture.

    That is the picture with most of them (then the surest, then the first), so that one who is in
    ten pictures is shown once, and two who are in one picture are shown as two.
    """
    found: list[Seen] = []
    for kind in KINDS:
        of_kind = [_seen(member, kind) for member in batch.members]
        best = max(of_kind, key=lambda seen: (len(seen), _best(seen)), default=[])
        found += best[:MOST_OBJECTS]
    return tuple(found)


def _seen(member: BatchMember, kind: SightingKind) -> list[Seen]:
    # Detections stand by falling score, as the boxes do of which they are the first.
    return [
        Seen(detection_id(member.picture_id, index), kind, box, member)
        for index, box in enumerate(member.detections)
        if kind_of(box.label) == kind
    ]


def _best(seen: list[Seen]) -> float:
    return max((each.box.score for each in seen), default=0.0)


def telling_picture(batch: BatchClosed) -> BatchMember | None:
    """Return the picture that a caption is to be about: a person's, else a vehicle's, else any."""
    if shown := objects_of(batch):
        return shown[0].member
    surest = max(batch.members, key=lambda member: _score(member), default=None)
    return surest


def _score(member: BatchMember) -> float:
    return max((box.score for box in member.detections), default=0.0)


def clean_caption(text: str) -> str:
    """Return a caption on one line without control tokens, cut at a word; it may be empty."""
    plain = clean_text(text[: 4 * CAPTION_LIMIT])
    if len(plain) <= CAPTION_LIMIT:
        return plain
    return plain[: CAPTION_LIMIT - 1].rpartition(" ")[0] + "…"


def clean_attributes(given: Iterable[tuple[str, str, float | None]]) -> tuple[Attribute, ...]:
    """Return attributes with plain names and short values, the first of each name."""
    found: dict[str, Attribute] = {}
    for name, value, confidence in given:
        plain = clean_text(value[: 4 * VALUE_LIMIT])[:VALUE_LIMIT].strip()
        if _NAME.fullmatch(name) and plain and name not in found:
            found[name] = Attribute(name=name, value=plain, confidence=confidence)
    return tuple(found.values())[:MOST_ATTRIBUTES]
