"""What-if: one camera's pictures again through other settings, and the events they become. Pure.

Nothing here is appended anywhere: the fold of `domain.batching` and the rules of `domain.risk` are
asked again with the times that the log holds, and what a person would have seen is kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from domain.batching import (
    BatchPolicy,
    CameraBatches,
    decide,
    evolve,
    expire,
    main_label,
    next_deadline,
)
from domain.events import (
    BatchClosed,
    BatchEscalated,
    BatchMember,
    Event,
    Level,
    Moment,
    ObjectsDetected,
    RiskAssessed,
)
from domain.risk import Bands, CameraView, assess
from domain.rule_weights import RULES, Rules

ViewAt = Callable[[datetime], CameraView]
"""The camera as the log had described it at a moment."""


class Tunables(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that decide which events there are, named as the settings are."""

    detection_confidence_threshold: float | None = None
    """None leaves every picture the threshold it was detected with."""
    batch_window_seconds: int
    batch_idle_timeout_seconds: int
    fast_path_confidence_threshold: float
    fast_path_object_types: tuple[str, ...]
    severity_low_max: int
    severity_medium_max: int
    severity_high_max: int
    camera_timezone: str

    def knobs(self) -> "Knobs":
        """Return the settings as the core takes them; ValueError when bands do not rise."""
        zone = ZoneInfo(self.camera_timezone)
        return Knobs(
            policy=BatchPolicy(
                window=timedelta(seconds=self.batch_window_seconds),
                idle=timedelta(seconds=self.batch_idle_timeout_seconds),
                fast_path_labels=frozenset(self.fast_path_object_types),
                fast_path_score=self.fast_path_confidence_threshold,
                zone=zone,
            ),
            bands=Bands(self.severity_low_max, self.severity_medium_max, self.severity_high_max),
            threshold=self.detection_confidence_threshold,
        )


@dataclass(frozen=True, slots=True)
class Knobs:
    """What the core is asked with."""

    policy: BatchPolicy
    bands: Bands
    threshold: float | None = None
    rules: Rules = RULES


class Cover(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The picture that shows an event best, and the detection to look at."""

    picture_id: str
    uri: str
    label: str
    score: float
    x: float
    y: float
    width: float
    height: float


class Evidence(NamedTuple):
    """Digests of the canonical payloads that make up an event; empty where there is none."""

    closed: str = ""
    assessed: str = ""
    escalated: str = ""
    fast_assessed: str = ""


class EventOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event as a person would see it, small enough to keep tens of thousands of them."""

    event_id: str
    camera_id: str
    started_at: Moment
    ended_at: Moment
    score: int
    level: Level
    summary: str
    close_reason: str
    is_fast_path: bool = False
    picture_ids: tuple[str, ...]
    cover: Cover
    evidence: Evidence
    refined: bool = False
    """True when score, level and summary are the language model's."""
    canary: bool = False
    """True when they are those of a candidate on trial."""


class CameraProgress(msgspec.Struct, kw_only=True):
    """How far one camera's replay is; all that a resumed run needs."""

    camera_id: str
    state: CameraBatches
    escalated: str = ""
    fast_assessed: str = ""


class Found(NamedTuple):
    """An event that the replay came to, with the assessment behind it."""

    outcome: EventOutcome
    assessed: RiskAssessed


class CameraReplay:
    """Folds one camera's detections in log order under settings that may change on the way."""

    def __init__(self, progress: CameraProgress, view_at: ViewAt, knobs: Knobs) -> None:
        self.progress = progress
        self._view_at = view_at
        self._knobs = knobs

    def turn(self, knobs: Knobs, since: datetime) -> list[Found]:
        """Let other settings count from a moment on; returns what fell due under the old ones."""
        return self._turn(knobs, since)

    def sees(self, detected: ObjectsDetected, recorded_at: datetime, knobs: Knobs) -> list[Found]:
        """Return the events that are complete once this picture has come."""
        found = self._turn(knobs, recorded_at)
        if knobs.threshold is not None and detected.threshold != knobs.threshold:
            detected = msgspec.structs.replace(detected, threshold=knobs.threshold)
        before = self.progress.state
        events = decide(before, knobs.policy, detected, recorded_at)
        return found + self._take(events, before, knobs, recorded_at)

    def ends(self, knobs: Knobs) -> list[Found]:
        """Return the event that the log's clock completes after the last picture."""
        before = self.progress.state
        deadline = next_deadline(before, knobs.policy)
        return self._expired(knobs, deadline) if deadline is not None else []

    def _turn(self, knobs: Knobs, now: datetime) -> list[Found]:
        """Close under the old settings what they would have closed before they changed."""
        old, self._knobs = self._knobs, knobs
        if old is knobs or old.policy == knobs.policy:
            return []
        return self._expired(old, now)

    def _expired(self, knobs: Knobs, now: datetime) -> list[Found]:
        before = self.progress.state
        events = expire(before, knobs.policy, self.progress.camera_id, now)
        return self._take(events, before, knobs, now)

    def _take(
        self, events: tuple[Event, ...], before: CameraBatches, knobs: Knobs, now: datetime
    ) -> list[Found]:
        found: list[Found] = []
        for event in events:
            self.progress.state = evolve(self.progress.state, knobs.policy, event)
            if isinstance(event, BatchEscalated):
                fast = self._assessed(event, knobs, now)
                self.progress.escalated = digest(event)
                self.progress.fast_assessed = digest(fast)
            elif isinstance(event, BatchClosed):
                found.append(self._closed(event, before, knobs, now))
        return found

    def _assessed(
        self, batch: BatchEscalated | BatchClosed, knobs: Knobs, at: datetime
    ) -> RiskAssessed:
        return assess(batch, self._view_at(at), knobs.policy.zone, knobs.bands, knobs.rules)

    def _closed(
        self, closed: BatchClosed, before: CameraBatches, knobs: Knobs, now: datetime
    ) -> Found:
        # The log's clock closed it at its deadline, also when the next picture came much later.
        deadline = next_deadline(before, knobs.policy)
        at = now if deadline is None or closed.reason == "late" else min(now, deadline)
        assessed = self._assessed(closed, knobs, at)
        evidence = Evidence(digest(closed), digest(assessed))
        if closed.reason != "late":
            evidence = evidence._replace(
                escalated=self.progress.escalated, fast_assessed=self.progress.fast_assessed
            )
            self.progress.escalated = self.progress.fast_assessed = ""
        return Found(outcome_of(closed, assessed, evidence), assessed)


def digest(event: Event) -> str:
    """Return a digest of an event's payload, byte for byte as the log stores it.

    But for the limit of its age as an alert: that is said of the telling, not of what was seen.
    And but for the checksum of weights on trial, so that an event they leave alone is the same.
    """
    if isinstance(event, RiskAssessed):
        rules = event.rules_version.partition("+")[0]
        event = msgspec.structs.replace(event, alert_within_seconds=None, rules_version=rules)
    return blake2b(msgspec.json.encode(event), digest_size=12).hexdigest()


def outcome_of(closed: BatchClosed, assessed: RiskAssessed, evidence: Evidence) -> EventOutcome:
    """Return what a person would see of a closed and assessed batch."""
    return EventOutcome(
        event_id=closed.event_id,
        camera_id=closed.camera_id,
        started_at=closed.started_at,
        ended_at=closed.ended_at,
        score=assessed.score,
        level=assessed.level,
        summary=assessed.summary,
        close_reason=closed.reason,
        is_fast_path=closed.is_fast_path,
        picture_ids=tuple(member.picture_id for member in closed.members),
        cover=cover_of(closed.members),
        evidence=evidence,
    )


def cover_of(members: tuple[BatchMember, ...]) -> Cover:
    """Return the surest detection of what the batch is about, in its picture."""
    label = main_label(members)
    seen = ((box, member) for member in members for box in member.detections if box.label == label)
    box, member = max(seen, key=lambda pair: pair[0].score)
    return Cover(
        picture_id=member.picture_id,
        uri=member.uri,
        label=box.label,
        score=box.score,
        x=box.x,
        y=box.y,
        width=box.width,
        height=box.height,
    )
