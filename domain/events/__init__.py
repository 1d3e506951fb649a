"""Every event: frozen, tagged, versioned structs with names in the past tense; a module a stream.

The tag and the version are what is stored; class names and modules may change freely. Times are
timezone-aware datetimes in UTC. Pixels are counted from the top left corner of the picture.
"""

from typing import Any

import msgspec

from domain.events.access import ActionAudited, ApiKeyCreated, ApiKeyRevoked, KeyRole, Outcome
from domain.events.assessments import (
    ActivityUnverified,
    AssessmentRefined,
    BatchFacts,
    EventHeld,
    EventReviewed,
    Level,
    ObjectFact,
    RetentionApplied,
    RiskAssessed,
    Signal,
    Stage,
)
from domain.events.base import Box, Event, Moment
from domain.events.batches import (
    Baseline,
    BatchClosed,
    BatchEscalated,
    BatchMember,
    CloseReason,
    PictureBatched,
)
from domain.events.cameras import (
    CameraRegistered,
    CameraRemoved,
    CameraUpdated,
    WhenUnavailable,
)
from domain.events.detections import ObjectsDetected, PictureFiltered
from domain.events.enrichments import (
    Attribute,
    Enrichment,
    EnrichmentService,
    EventCaptioned,
    EventNotEnriched,
    ObjectAttributes,
    ObjectsDescribed,
    ObjectsEmbedded,
    Sighting,
    SightingKind,
)
from domain.events.files import (
    CapturedFrom,
    FileDuplicated,
    FileRejected,
    ImageReceived,
    VideoReceived,
)
from domain.events.parked import EntryDiscarded, EntryParked, EntryRedriven
from domain.events.system import (
    SYSTEM,
    ConfigChanged,
    GpuReading,
    GpuSampled,
    ProcessFacts,
    RetentionFinished,
    ServiceAction,
    ServiceControlRequested,
    ServiceStateChanged,
    ServiceStatus,
    SettingsApplied,
    SettingValue,
)
from domain.events.trials import CandidateCompared, PromptCompared

__all__ = [
    "EVENT_TYPES",
    "SYSTEM",
    "ActionAudited",
    "ActivityUnverified",
    "ApiKeyCreated",
    "ApiKeyRevoked",
    "AssessmentRefined",
    "Attribute",
    "Baseline",
    "BatchClosed",
    "BatchEscalated",
    "BatchFacts",
    "BatchMember",
    "Box",
    "CameraRegistered",
    "CameraRemoved",
    "CameraUpdated",
    "CandidateCompared",
    "CapturedFrom",
    "CloseReason",
    "ConfigChanged",
    "Enrichment",
    "EnrichmentService",
    "EntryDiscarded",
    "EntryParked",
    "EntryRedriven",
    "Event",
    "EventCaptioned",
    "EventHeld",
    "EventNotEnriched",
    "EventReviewed",
    "FileDuplicated",
    "FileRejected",
    "GpuReading",
    "GpuSampled",
    "ImageReceived",
    "KeyRole",
    "Level",
    "Moment",
    "ObjectAttributes",
    "ObjectFact",
    "ObjectsDescribed",
    "ObjectsDetected",
    "ObjectsEmbedded",
    "Outcome",
    "PictureBatched",
    "PictureFiltered",
    "ProcessFacts",
    "PromptCompared",
    "RetentionApplied",
    "RetentionFinished",
    "RiskAssessed",
    "ServiceAction",
    "ServiceControlRequested",
    "ServiceStateChanged",
    "ServiceStatus",
    "SettingValue",
    "SettingsApplied",
    "Sighting",
    "SightingKind",
    "Signal",
    "Stage",
    "VideoReceived",
    "WhenUnavailable",
    "to_builtins",
]

EVENT_TYPES: dict[str, type[Event]] = {
    kind.TAG: kind
    for kind in (
        ImageReceived,
        VideoReceived,
        FileDuplicated,
        FileRejected,
        ObjectsDetected,
        PictureFiltered,
        PictureBatched,
        BatchEscalated,
        BatchClosed,
        RiskAssessed,
        AssessmentRefined,
        EventReviewed,
        EventHeld,
        ActivityUnverified,
        RetentionApplied,
        RetentionFinished,
        CameraRegistered,
        CameraUpdated,
        CameraRemoved,
        GpuSampled,
        ServiceStateChanged,
        ServiceControlRequested,
        SettingsApplied,
        ConfigChanged,
        ApiKeyCreated,
        ApiKeyRevoked,
        ActionAudited,
        EntryParked,
        EntryRedriven,
        EntryDiscarded,
        EventCaptioned,
        ObjectsEmbedded,
        ObjectsDescribed,
        EventNotEnriched,
        CandidateCompared,
        PromptCompared,
    )
}


def to_builtins(event: Event) -> dict[str, Any]:
    """Return the event's payload as plain values, as it is stored."""
    value: dict[str, Any] = msgspec.to_builtins(event)
    return value
