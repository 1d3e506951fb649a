"""Every event: frozen, tagged, versioned structs with names in the past tense; a module a stream.

The tag and the version are what is stored; class names and modules may change freely. Times are
timezone-aware datetimes in UTC. Pixels are counted from the top left corner of the picture.
"""

from typing import Any

import msgspec

from domain.events.assessments import (
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
from domain.events.cameras import CameraRegistered, CameraRemoved, CameraUpdated
from domain.events.detections import ObjectsDetected, PictureFiltered
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
    GpuReading,
    GpuSampled,
    RetentionFinished,
    ServiceStateChanged,
    ServiceStatus,
    SettingsApplied,
)

__all__ = [
    "EVENT_TYPES",
    "SYSTEM",
    "AssessmentRefined",
    "Baseline",
    "BatchClosed",
    "BatchEscalated",
    "BatchFacts",
    "BatchMember",
    "Box",
    "CameraRegistered",
    "CameraRemoved",
    "CameraUpdated",
    "CapturedFrom",
    "CloseReason",
    "EntryDiscarded",
    "EntryParked",
    "EntryRedriven",
    "Event",
    "EventHeld",
    "EventReviewed",
    "FileDuplicated",
    "FileRejected",
    "GpuReading",
    "GpuSampled",
    "ImageReceived",
    "Level",
    "Moment",
    "ObjectFact",
    "ObjectsDetected",
    "PictureBatched",
    "PictureFiltered",
    "RetentionApplied",
    "RetentionFinished",
    "RiskAssessed",
    "ServiceStateChanged",
    "ServiceStatus",
    "SettingsApplied",
    "Signal",
    "Stage",
    "VideoReceived",
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
        RetentionApplied,
        RetentionFinished,
        CameraRegistered,
        CameraUpdated,
        CameraRemoved,
        GpuSampled,
        ServiceStateChanged,
        SettingsApplied,
        EntryParked,
        EntryRedriven,
        EntryDiscarded,
    )
}


def to_builtins(event: Event) -> dict[str, Any]:
    """Return the event's payload as plain values, as it is stored."""
    value: dict[str, Any] = msgspec.to_builtins(event)
    return value
