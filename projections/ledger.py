"""The ledger: every file that reached a folder, its pictures, and how far each got."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from domain.events import (
    BatchClosed,
    BatchEscalated,
    Event,
    FileDuplicated,
    FileRejected,
    ImageReceived,
    ObjectsDetected,
    PictureBatched,
    PictureFiltered,
    RiskAssessed,
    VideoReceived,
)
from projections.database import Connection
from projections.ledger_parked import (
    INSERT_PARKED,
    RESOLVE_PARKED,
    parked_rows,
    resolved_rows,
)
from projections.read_model import Run, Write, write_run
from projections.redaction import MARK_FILES, MARK_PICTURES, ledger_writes, redact
from streams.envelope import Envelope

# A file is told once. What was rejected (say, as not readable) may still become a picture or a
# video later under the same id; that then counts.
UPSERT_FILES: Final = """
INSERT INTO files (
    file_id, camera_id, path, sha256, size_bytes, media, captured_at, captured_from, received_at,
    width, height, duration_seconds, frames, duplicate_of, rejected_reason, rejected_detail,
    picture_ids)
SELECT
    file_id, camera_id, path, sha256, size_bytes, media, captured_at, captured_from, received_at,
    width, height, duration_seconds, frames, duplicate_of, rejected_reason, rejected_detail,
    picture_ids
FROM json_to_recordset(%(rows)s::json) AS r (
    file_id text, camera_id text, path text, sha256 text, size_bytes bigint, media text,
    captured_at timestamptz, captured_from text, received_at timestamptz, width bigint,
    height bigint, duration_seconds double precision, frames bigint, duplicate_of text,
    rejected_reason text, rejected_detail text, picture_ids text[])
ON CONFLICT (file_id) DO UPDATE SET
    path = EXCLUDED.path, sha256 = EXCLUDED.sha256, size_bytes = EXCLUDED.size_bytes,
    media = EXCLUDED.media, captured_at = EXCLUDED.captured_at,
    captured_from = EXCLUDED.captured_from, received_at = EXCLUDED.received_at,
    width = EXCLUDED.width, height = EXCLUDED.height,
    duration_seconds = EXCLUDED.duration_seconds, frames = EXCLUDED.frames,
    duplicate_of = NULL, rejected_reason = NULL, rejected_detail = NULL,
    picture_ids = EXCLUDED.picture_ids
WHERE files.media IS NULL AND EXCLUDED.media IS NOT NULL
"""

# The frames of a video come behind it, in the same partition of the same stream.
ADD_FRAMES: Final = """
WITH new AS (
    SELECT f.file_id, array_agg(r.picture_id ORDER BY r.frame) AS picture_ids
    FROM json_to_recordset(%(rows)s::json) AS r (file_id text, picture_id text, frame bigint)
    JOIN files f ON f.file_id = r.file_id AND r.picture_id <> ALL (f.picture_ids)
    GROUP BY f.file_id)
UPDATE files SET picture_ids = files.picture_ids || new.picture_ids
FROM new WHERE files.file_id = new.file_id
"""

# Each step of a picture fills its own columns, once; whatever comes again changes nothing.
UPSERT_PICTURES: Final = """
INSERT INTO pictures AS p (
    picture_id, camera_id, file_id, uri, captured_at, frame, width, height, received_at,
    detected_at, detection_count, model, model_version, batch_id, event_id, assessed_at,
    filtered_reason)
SELECT
    picture_id, camera_id, file_id, uri, captured_at, frame, width, height, received_at,
    detected_at, detection_count, model, model_version, batch_id, event_id, assessed_at,
    filtered_reason
FROM json_to_recordset(%(rows)s::json) AS r (
    picture_id text, camera_id text, file_id text, uri text, captured_at timestamptz,
    frame bigint, width bigint, height bigint, received_at timestamptz,
    detected_at timestamptz, detection_count integer, model text, model_version text,
    batch_id text, event_id text, assessed_at timestamptz, filtered_reason text)
ON CONFLICT (picture_id) DO UPDATE SET
    file_id = COALESCE(p.file_id, EXCLUDED.file_id),
    uri = COALESCE(p.uri, EXCLUDED.uri),
    captured_at = COALESCE(p.captured_at, EXCLUDED.captured_at),
    frame = COALESCE(p.frame, EXCLUDED.frame),
    width = COALESCE(p.width, EXCLUDED.width),
    height = COALESCE(p.height, EXCLUDED.height),
    received_at = COALESCE(p.received_at, EXCLUDED.received_at),
    detected_at = COALESCE(p.detected_at, EXCLUDED.detected_at),
    detection_count = COALESCE(p.detection_count, EXCLUDED.detection_count),
    model = COALESCE(p.model, EXCLUDED.model),
    model_version = COALESCE(p.model_version, EXCLUDED.model_version),
    batch_id = COALESCE(p.batch_id, EXCLUDED.batch_id),
    event_id = COALESCE(p.event_id, EXCLUDED.event_id),
    assessed_at = COALESCE(p.assessed_at, EXCLUDED.assessed_at),
    filtered_reason = COALESCE(p.filtered_reason, EXCLUDED.filtered_reason)
"""


class _File(msgspec.Struct, kw_only=True, omit_defaults=True):
    file_id: str
    camera_id: str
    path: str
    sha256: str | None = None
    size_bytes: int
    media: str | None = None
    captured_at: datetime | None = None
    captured_from: str | None = None
    received_at: datetime
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None
    frames: int | None = None
    duplicate_of: str | None = None
    rejected_reason: str | None = None
    rejected_detail: str | None = None
    picture_ids: tuple[str, ...]


class _Frame(msgspec.Struct, frozen=True):
    file_id: str
    picture_id: str
    frame: int


class _Picture(msgspec.Struct, omit_defaults=True, gc=False):
    """What one run tells about one picture; the same first-one-counts rule as the statement."""

    picture_id: str
    camera_id: str
    file_id: str | None = None
    uri: str | None = None
    captured_at: datetime | None = None
    frame: int | None = None
    width: int | None = None
    height: int | None = None
    received_at: datetime | None = None
    detected_at: datetime | None = None
    detection_count: int | None = None
    model: str | None = None
    model_version: str | None = None
    batch_id: str | None = None
    event_id: str | None = None
    assessed_at: datetime | None = None
    filtered_reason: str | None = None

    def receive(self, event: ImageReceived, at: datetime) -> None:
        if self.received_at is None:
            self.file_id = event.file_id
            self.uri = event.uri
            self.captured_at = event.captured_at
            self.frame = event.frame
            self.width = event.width
            self.height = event.height
            self.received_at = at

    def detect(self, event: ObjectsDetected, at: datetime) -> None:
        if self.detected_at is None:
            threshold = event.threshold
            self.detected_at = at
            self.detection_count = len([1 for box in event.boxes if box.score >= threshold])
            self.model = event.model
            self.model_version = event.model_version

    def filter(self, event: PictureFiltered) -> None:
        if self.filtered_reason is None:
            self.filtered_reason = event.reason

    def join(self, batch_id: str) -> None:
        if self.batch_id is None:
            self.batch_id = batch_id

    def assess(self, event: RiskAssessed, at: datetime) -> None:
        if self.assessed_at is None:
            self.event_id = event.event_id
            self.assessed_at = at


class Ledger:
    """Read model of files, pictures and what was parked; `file_states` derives the states."""

    name = "ledger"
    version = 1
    streams = ("files", "detections", "batches", "assessments", "parked")
    tables = (
        "files",
        "pictures",
        "parked_entries",
        "file_redactions",
        "redacted_files",
        "redacted_pictures",
    )

    async def apply(self, connection: Connection, envelopes: Sequence[Envelope]) -> None:
        """Write what follows from `envelopes`."""
        await write_run(connection, self, envelopes)
        await redact(connection, envelopes, MARK_FILES, MARK_PICTURES)

    def writes(self, run: Run) -> list[Write]:
        """Return the files first, so that the frames of a video find it."""
        return [
            Write(UPSERT_FILES, _files(run), "files"),
            Write(ADD_FRAMES, _frames(run)),
            Write(UPSERT_PICTURES, _pictures(run), "pictures"),
            Write(INSERT_PARKED, parked_rows(run), "parked_entries"),
            Write(RESOLVE_PARKED, resolved_rows(run)),
            *ledger_writes(run),
        ]


def _files(run: Run) -> list[_File]:
    """Return one row a file: what became a picture or a video, else what was told first."""
    told = [_image(e, at.recorded_at) for e, at in run.of(ImageReceived) if not _is_frame(e)]
    told += [_video(e, at.recorded_at) for e, at in run.of(VideoReceived)]
    for envelope in run.in_order(FileDuplicated, FileRejected):
        match envelope.event:
            case FileDuplicated() as event:
                told.append(_duplicate(event, envelope.recorded_at))
            case FileRejected() as event:
                told.append(_rejected(event, envelope.recorded_at))
    files: dict[str, _File] = {}
    for file in told:
        files.setdefault(file.file_id, file)
    return list(files.values())


def _is_frame(event: ImageReceived) -> bool:
    return event.uri.startswith("frame:")


def _image(event: ImageReceived, received_at: datetime) -> _File:
    return _File(
        file_id=event.file_id,
        camera_id=event.camera_id,
        path=event.path,
        sha256=event.sha256,
        size_bytes=event.size_bytes,
        media="image",
        captured_at=event.captured_at,
        captured_from=event.captured_from,
        received_at=received_at,
        width=event.width,
        height=event.height,
        picture_ids=(event.picture_id,),
    )


def _video(event: VideoReceived, received_at: datetime) -> _File:
    return _File(
        file_id=event.file_id,
        camera_id=event.camera_id,
        path=event.path,
        sha256=event.sha256,
        size_bytes=event.size_bytes,
        media="video",
        captured_at=event.captured_at,
        captured_from=event.captured_from,
        received_at=received_at,
        width=event.width,
        height=event.height,
        duration_seconds=event.duration_seconds,
        frames=event.frames,
        picture_ids=(),
    )


def _duplicate(event: FileDuplicated, received_at: datetime) -> _File:
    return _File(
        file_id=event.file_id,
        camera_id=event.camera_id,
        path=event.path,
        sha256=event.sha256,
        size_bytes=event.size_bytes,
        received_at=received_at,
        duplicate_of=event.duplicate_of,
        picture_ids=(),
    )


def _rejected(event: FileRejected, received_at: datetime) -> _File:
    return _File(
        file_id=event.file_id,
        camera_id=event.camera_id,
        path=event.path,
        size_bytes=event.size_bytes,
        received_at=received_at,
        rejected_reason=event.reason,
        rejected_detail=event.detail,
        picture_ids=(),
    )


def _frames(run: Run) -> list[_Frame]:
    frames = {
        (event.file_id, event.picture_id): _Frame(event.file_id, event.picture_id, event.frame)
        for event, _ in run.of(ImageReceived)
        if _is_frame(event)
    }
    return list(frames.values())


class _Pictures(dict[str, _Picture]):
    """One row a picture, with everything a run tells about it."""

    def of(self, picture_id: str, camera_id: str) -> _Picture:
        picture = self.get(picture_id)
        if picture is None:
            picture = self[picture_id] = _Picture(picture_id, camera_id)
        return picture


def _pictures(run: Run) -> list[_Picture]:
    pictures = _Pictures()
    for image, envelope in run.of(ImageReceived):
        pictures.of(image.picture_id, image.camera_id).receive(image, envelope.recorded_at)
    for detected, envelope in run.of(ObjectsDetected):
        picture = pictures.of(detected.picture_id, detected.camera_id)
        picture.detect(detected, envelope.recorded_at)
    for filtered, _ in run.of(PictureFiltered):
        pictures.of(filtered.picture_id, filtered.camera_id).filter(filtered)
    for envelope in run.in_order(PictureBatched, BatchEscalated, BatchClosed):
        _join(pictures, envelope.event)
    for assessed, envelope in run.of(RiskAssessed):
        for picture_id in assessed.picture_ids:
            picture = pictures.of(picture_id, assessed.camera_id)
            picture.assess(assessed, envelope.recorded_at)
    return list(pictures.values())


def _join(pictures: _Pictures, event: Event) -> None:
    match event:
        case PictureBatched():
            pictures.of(event.member.picture_id, event.camera_id).join(event.batch_id)
        case BatchEscalated() | BatchClosed():
            for member in event.members:
                pictures.of(member.picture_id, event.camera_id).join(event.batch_id)
        case _:
            pass
