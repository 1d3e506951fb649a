"""Stream `enrichments`: what optional services added to an event, or why one of them did not."""

from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from domain.events.base import Box, Event, Moment

EnrichmentService = Literal["florence", "clip", "enrichment"]
SightingKind = Literal["person", "vehicle"]


class Enrichment(Event, frozen=True, kw_only=True):
    """What every word of an optional service about one event says."""

    STREAM: ClassVar[str] = "enrichments"

    event_id: str
    batch_id: str
    ended_at: Moment
    closed_at: Moment
    """When the log took in the batch's end: retention goes by that."""

    @property
    def occurred_at(self) -> datetime:
        return self.ended_at


class EventCaptioned(Enrichment, frozen=True, kw_only=True):
    """A sentence about the picture that shows most. Untrusted text: it never reaches a prompt."""

    TAG: ClassVar[str] = "event.captioned"

    picture_id: str
    caption: str
    model: str
    model_version: str
    seconds: float


class Sighting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One object that was cut out of a picture, as a point in a model's space of looks."""

    detection_id: str
    picture_id: str
    captured_at: Moment
    kind: SightingKind
    box: Box
    vector: bytes
    """Of length one, times 32,767; whole numbers of 16 bits, little end first."""


class ObjectsEmbedded(Enrichment, frozen=True, kw_only=True):
    """How the people and vehicles of an event look, and when two looks count as the same one."""

    TAG: ClassVar[str] = "objects.embedded"

    sightings: tuple[Sighting, ...]
    threshold: float
    """Least cosine similarity to an earlier sighting that makes both one entity."""
    window_hours: float
    """How much earlier that one may be."""
    model: str
    model_version: str
    seconds: float


class Attribute(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was said of an object. Untrusted text, like a caption."""

    name: str
    value: str
    confidence: float | None = None


class ObjectAttributes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was said of one object of an event."""

    detection_id: str
    picture_id: str
    label: str
    attributes: tuple[Attribute, ...]


class ObjectsDescribed(Enrichment, frozen=True, kw_only=True):
    """Attributes of the people and vehicles of an event."""

    TAG: ClassVar[str] = "objects.described"

    objects: tuple[ObjectAttributes, ...]
    model: str
    model_version: str
    seconds: float


class EventNotEnriched(Enrichment, frozen=True, kw_only=True):
    """A service was to add something and could not; the event stands without it."""

    TAG: ClassVar[str] = "event.not_enriched"

    service: EnrichmentService
    code: Literal["nothing_to_look_at", "picture_gone", "refused", "bad_answer"]
    why: str
    model: str | None = None
    model_version: str | None = None
