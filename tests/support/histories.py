"""Builders of events, and of envelopes as they would stand in the log."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from domain import ids
from domain.events import (
    SYSTEM,
    ActivityUnverified,
    AssessmentRefined,
    Baseline,
    BatchClosed,
    BatchEscalated,
    BatchFacts,
    BatchMember,
    Box,
    CameraRegistered,
    EntryParked,
    Event,
    FileDuplicated,
    FileRejected,
    GpuReading,
    GpuSampled,
    ImageReceived,
    ObjectFact,
    ObjectsDetected,
    PictureBatched,
    PictureFiltered,
    RiskAssessed,
    Signal,
    Stage,
    VideoReceived,
)
from streams.envelope import Envelope, NewEvent, Position
from streams.names import partition_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PARTITIONS = 4
PERSON = Box(label="person", score=0.91, x=10.0, y=20.0, width=30.0, height=60.0)
CAT = Box(label="cat", score=0.62, x=1.0, y=2.0, width=3.0, height=4.0)
FAINT = Box(label="dog", score=0.2, x=1.0, y=2.0, width=3.0, height=4.0)
BASELINE = Baseline(days_observed=3, same_hour=1)


def at(seconds: float) -> datetime:
    """Return a moment of event time."""
    return NOON + timedelta(seconds=seconds)


def image(
    number: int, camera: str = "front_door", *, name: str | None = None, frame_of: str = ""
) -> ImageReceived:
    """Return picture `number` of a camera; another `name` is another file with the same bytes."""
    sha256, captured = f"{number:064x}", at(number)
    path = f"{camera}/{name or number}.jpg"
    file_id = frame_of or ids.file_id(camera, path, sha256, number)
    return ImageReceived(
        camera_id=camera,
        picture_id=ids.picture_id(camera, sha256, captured),
        file_id=file_id,
        path=path,
        uri=f"frame:{file_id}/{number}.jpg" if frame_of else f"camera:{path}",
        sha256=sha256,
        size_bytes=1000 + number,
        width=640,
        height=480,
        captured_at=captured,
        captured_from="exif",
        frame=number if frame_of else 0,
    )


def video(number: int, frames: int, camera: str = "front_door") -> list[Event]:
    """Return a video and the frames taken out of it."""
    path = f"{camera}/{number}.mp4"
    file_id = ids.file_id(camera, path, f"{number:064x}", number)
    received = VideoReceived(
        camera_id=camera,
        file_id=file_id,
        path=path,
        sha256=f"{number:064x}",
        size_bytes=10_000,
        width=640,
        height=480,
        duration_seconds=2.0 * frames,
        frames=frames,
        captured_at=at(number),
        captured_from="name",
    )
    return [received, *(image(number + k, camera, frame_of=file_id) for k in range(frames))]


def duplicate(number: int, of: ImageReceived) -> FileDuplicated:
    """Return a file that is the same bytes as another."""
    path = f"{of.camera_id}/again-{number}.jpg"
    return FileDuplicated(
        camera_id=of.camera_id,
        file_id=ids.file_id(of.camera_id, path, of.sha256, number),
        path=path,
        sha256=of.sha256,
        size_bytes=of.size_bytes,
        duplicate_of=of.file_id,
    )


def rejected(number: int, camera: str = "front_door", *, file_id: str = "") -> FileRejected:
    """Return a file that cannot become a picture."""
    path = f"{camera}/{number}.jpg"
    return FileRejected(
        camera_id=camera,
        file_id=file_id or ids.file_id(camera, path, "", number),
        path=path,
        size_bytes=0,
        reason="empty",
        detail="the file has 0 bytes",
    )


def unverified(picture: ImageReceived) -> ActivityUnverified:
    """Return that a picture was told of before anybody could look at it."""
    return ActivityUnverified(
        camera_id=picture.camera_id,
        picture_id=picture.picture_id,
        file_id=picture.file_id,
        captured_at=picture.captured_at,
        service="detector",
        reason="service_away",
    )


def detected(picture: ImageReceived, *boxes: Box) -> ObjectsDetected:
    """Return what a model saw in a picture, at a threshold of 0.5."""
    return ObjectsDetected(
        camera_id=picture.camera_id,
        picture_id=picture.picture_id,
        file_id=picture.file_id,
        uri=picture.uri,
        captured_at=picture.captured_at,
        width=picture.width,
        height=picture.height,
        boxes=boxes,
        threshold=0.5,
        model="rtdetr-v2-r18",
        model_version="1",
        engine="embedded",
        inference_ms=12.5,
    )


def filtered(picture: ImageReceived) -> PictureFiltered:
    """Return that a picture's camera is disabled."""
    return PictureFiltered(
        camera_id=picture.camera_id,
        picture_id=picture.picture_id,
        file_id=picture.file_id,
        captured_at=picture.captured_at,
        reason="camera_disabled",
    )


def member(picture: ImageReceived, *boxes: Box) -> BatchMember:
    """Return a picture as a member of a batch."""
    return BatchMember(
        picture_id=picture.picture_id,
        file_id=picture.file_id,
        uri=picture.uri,
        captured_at=picture.captured_at,
        width=picture.width,
        height=picture.height,
        detections=boxes,
    )


def batched(picture: ImageReceived, first: ImageReceived) -> PictureBatched:
    """Return that a picture joined the batch that `first` opened."""
    return PictureBatched(
        camera_id=picture.camera_id,
        batch_id=ids.batch_id(first.camera_id, first.picture_id),
        member=member(picture, PERSON),
        detected_at=picture.captured_at,
    )


def closed(*pictures: ImageReceived) -> BatchClosed:
    """Return the end of a batch of pictures."""
    batch_id = ids.batch_id(pictures[0].camera_id, pictures[0].picture_id)
    return BatchClosed(
        camera_id=pictures[0].camera_id,
        batch_id=batch_id,
        event_id=ids.event_id(batch_id),
        started_at=pictures[0].captured_at,
        ended_at=pictures[-1].captured_at,
        members=tuple(member(picture, PERSON) for picture in pictures),
        reason="idle",
        baseline=BASELINE,
    )


def escalated(*pictures: ImageReceived) -> BatchEscalated:
    """Return that a batch is assessed before its end."""
    end = closed(*pictures)
    return BatchEscalated(
        camera_id=end.camera_id,
        batch_id=end.batch_id,
        event_id=end.event_id,
        started_at=end.started_at,
        ended_at=end.ended_at,
        members=end.members,
        trigger=PERSON,
        baseline=BASELINE,
    )


def assessed(
    *pictures: ImageReceived, stage: Stage = "final", score: int = 40, label: str = "person"
) -> RiskAssessed:
    """Return the rules' assessment of a batch."""
    end = closed(*pictures)
    fact = ObjectFact(label=label, most_at_once=1, pictures=len(pictures), best_score=0.91)
    return RiskAssessed(
        camera_id=end.camera_id,
        event_id=end.event_id,
        batch_id=end.batch_id,
        started_at=end.started_at,
        ended_at=end.ended_at,
        stage=stage,
        score=score,
        level="medium" if score < 60 else "high",
        floor=20,
        signals=(Signal(name="who", value=label, points=score, why=f"a {label} was seen"),),
        summary=f"rules {stage} {score}",
        reasoning="because of the rules",
        rules_version="1",
        facts=BatchFacts(
            objects=(fact,),
            picture_count=len(pictures),
            dwell_seconds=1.0,
            local_time="2026-03-01 12:00 Sunday",
            part_of_day="day",
            baseline=BASELINE,
        ),
        picture_ids=tuple(picture.picture_id for picture in pictures),
        is_fast_path=stage == "fast_path",
        close_reason="idle" if stage == "final" else None,
    )


def refined(of: RiskAssessed, *, score: int = 70) -> AssessmentRefined:
    """Return the language model's word about an assessment."""
    return AssessmentRefined(
        camera_id=of.camera_id,
        event_id=of.event_id,
        batch_id=of.batch_id,
        ended_at=of.ended_at,
        stage=of.stage,
        rule_score=of.score,
        model_score=score + 5,
        score=score,
        level="high" if score >= 60 else "medium",
        summary=f"model {of.stage} {score}",
        reasoning="because the model says so",
        model="nemotron-mini",
        prompt_version="1",
        prompt_sha256="ab" * 32,
        raw_text='{"score": 75}',
        tokens_in=900,
        tokens_out=60,
        seconds=1.5,
    )


def parked(group: str, *, picture: ImageReceived | None = None, batch: str = "") -> EntryParked:
    """Return that a group moved an entry aside."""
    return EntryParked(
        camera_id=picture.camera_id if picture else "front_door",
        source_stream="files",
        position="1-0",
        group=group,
        event_id="e_1",
        event_tag="image.received",
        event_version=1,
        payload="{}",
        cause="PermanentError",
        error="the picture cannot be decoded",
        attempts=1,
        service_version="0.1.0",
        picture_id=picture.picture_id if picture else None,
        file_id=picture.file_id if picture else None,
        batch_id=batch or None,
    )


def gpu_sample(seconds: float, *readings: GpuReading, host: str = "box") -> GpuSampled:
    """Return what a host said about its GPUs."""
    return GpuSampled(
        camera_id=SYSTEM,
        host=host,
        sampled_at=at(seconds),
        source="nvml" if readings else "none",
        gpus=readings,
    )


def registered(camera: str, *, api: bool = True, name: str = "") -> CameraRegistered:
    """Return that a camera is known from now on."""
    return CameraRegistered(
        camera_id=camera,
        name=name or camera.replace("_", " ").title(),
        folder=camera,
        source="api" if api else "folder",
    )


def news(events: Sequence[Event]) -> list[NewEvent]:
    """Return events ready to append, each with an id of its own."""
    return [NewEvent(f"e_{number}", event, "test") for number, event in enumerate(events)]


def envelopes(events: Sequence[Event]) -> list[Envelope]:
    """Return events as they would stand in the log, appended in this order."""
    ends: dict[tuple[str, int], int] = defaultdict(int)
    found = []
    for number, event in enumerate(events):
        lane = event.STREAM, partition_of(event.camera_id, PARTITIONS)
        ends[lane] += 1
        # Two entries a millisecond, so that equal times occur.
        position = Position(1_767_225_600_000 + ends[lane] // 2, ends[lane] % 2)
        found.append(
            Envelope(
                id=f"e_{number}",
                event=event,
                stream=lane[0],
                partition=lane[1],
                position=position,
                occurred_at=event.occurred_at or position.recorded_at,
                correlation_id="test",
                causation_id="",
            )
        )
    return found


def seen(event: Event) -> ObjectsDetected:
    """Return that a small detector has looked at a picture and found nothing."""
    assert isinstance(event, ImageReceived)
    return ObjectsDetected(
        camera_id=event.camera_id,
        picture_id=event.picture_id,
        file_id=event.file_id,
        uri=event.uri,
        captured_at=event.captured_at,
        width=event.width,
        height=event.height,
        boxes=(),
        threshold=0.5,
        model="tiny",
        model_version="1",
        engine="http",
        inference_ms=1.0,
    )
