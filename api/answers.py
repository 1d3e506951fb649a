"""From rows to answers: links, the specification's names, and who made what is in force."""

from typing import Any

from msgspec.structs import asdict

from api.camera_schemas import CameraAnswer, CameraStatus
from api.enrichment_schemas import EnrichedEventAnswer, EnrichmentAnswer
from api.schemas import (
    DetectionAnswer,
    EventAnswer,
    FileAnswer,
    FileDetailAnswer,
    PictureAnswer,
)
from domain.lateness import is_late, why_no_alert
from projections.rows import (
    CameraRow,
    DetectionRow,
    EventDetail,
    EventRow,
    FileDetail,
    FileRow,
    PictureRow,
)


def camera_status(row: CameraRow) -> CameraStatus:
    """Return what people decided about a camera."""
    if row.removed_at is not None:
        return "removed"
    if not row.confirmed:
        return "unregistered"
    return "active" if row.enabled else "disabled"


def camera_answer(row: CameraRow) -> CameraAnswer:
    """Return a camera as the API shows it."""
    url = f"/api/cameras/{row.id}"
    return CameraAnswer(
        id=row.id,
        name=row.name,
        folder_path=row.folder,
        status=camera_status(row),
        enabled=row.enabled,
        entry_point=row.entry_point,
        when_unavailable=row.when_unavailable,
        scene_change_threshold=row.scene_change_threshold,
        confirmed=row.confirmed,
        source=row.source,
        created_at=row.created_at,
        removed_at=row.removed_at,
        last_seen_at=row.last_seen_at,
        last_file_at=row.last_file_at,
        links={
            "self": url,
            "snapshot": f"{url}/snapshot",
            "scene_changes": f"{url}/scene-changes",
            "events": f"/api/events?camera_id={row.id}",
            "detections": f"/api/detections?camera_id={row.id}",
        },
    )


def event_answer(row: EventRow, late_after_seconds: float) -> EventAnswer:
    """Return an event as lists show it."""
    return EventAnswer(**_event_fields(row, late_after_seconds))


def _event_fields(row: EventRow, late_after_seconds: float) -> dict[str, Any]:
    fields = asdict(row)
    fields["late"] = is_late(row.ended_at, row.assessed_at, late_after_seconds)
    no_alert = why_no_alert(row.ended_at, row.assessed_at, row.alert_within_seconds)
    fields |= {"alert": no_alert is None, "alert_reason": no_alert}
    fields["engine"] = "rules+model" if row.model_stage == row.stage else "rules"
    fields["links"] = _event_links(row)
    return fields


def _event_links(row: EventRow) -> dict[str, str]:
    links = {
        "self": f"/api/events/{row.id}",
        "detections": f"/api/events/{row.id}/detections",
        "camera": f"/api/cameras/{row.camera_id}",
    }
    if row.picture_ids:
        links["image"] = f"/api/pictures/{row.picture_ids[0]}/image"
        links["thumbnail"] = f"/api/pictures/{row.picture_ids[0]}/thumbnail"
    return links


def event_detail_answer(
    detail: EventDetail, enrichments: list[EnrichmentAnswer], late_after_seconds: float
) -> EnrichedEventAnswer:
    """Return an event with its chain back to the files, and what was added to it."""
    detections = [detection_answer(row) for row in detail.detections]
    return EnrichedEventAnswer(
        **_event_fields(detail.event, late_after_seconds),
        detection_count=len(detections),
        detection_ids=[detection.id for detection in detections],
        pictures=[picture_answer(row) for row in detail.pictures],
        detections=detections,
        files=[file_answer(row) for row in detail.files],
        enrichments=enrichments,
    )


def detection_answer(row: DetectionRow) -> DetectionAnswer:
    """Return a detection in the specification's names."""
    return DetectionAnswer(
        id=row.id,
        camera_id=row.camera_id,
        picture_id=row.picture_id,
        file_id=row.file_id,
        detected_at=row.captured_at,
        object_type=row.label,
        confidence=row.confidence,
        bbox_x=row.x,
        bbox_y=row.y,
        bbox_width=row.width,
        bbox_height=row.height,
        model=row.model,
        model_version=row.model_version,
        fallback=row.fallback,
        links={
            "self": f"/api/detections/{row.id}",
            "image": f"/api/detections/{row.id}/image",
            "crop": f"/api/detections/{row.id}/crop",
            "picture": f"/api/pictures/{row.picture_id}/image",
            "file": f"/api/files/{row.file_id}",
            "camera": f"/api/cameras/{row.camera_id}",
        },
    )


def picture_answer(row: PictureRow) -> PictureAnswer:
    """Return a picture with links to its bytes and to what came of it."""
    links = {
        "image": f"/api/pictures/{row.picture_id}/image",
        "thumbnail": f"/api/pictures/{row.picture_id}/thumbnail",
        "file": f"/api/files/{row.file_id}",
        "camera": f"/api/cameras/{row.camera_id}",
    }
    if row.event_id is not None and row.state == "assessed":
        links["event"] = f"/api/events/{row.event_id}"
    return PictureAnswer(**asdict(row), links=links)


def file_answer(row: FileRow) -> FileAnswer:
    """Return a file with the link to what it is a duplicate of, if it is one."""
    links = {"self": f"/api/files/{row.file_id}", "camera": f"/api/cameras/{row.camera_id}"}
    if row.duplicate_of is not None:
        links["duplicate_of"] = f"/api/files/{row.duplicate_of}"
    return FileAnswer(**asdict(row), links=links)


def file_detail_answer(detail: FileDetail) -> FileDetailAnswer:
    """Return a file with everything that came of it."""
    file = file_answer(detail.file)
    return FileDetailAnswer(
        **asdict(file),
        pictures=[picture_answer(row) for row in detail.pictures],
        duplicates=[file_answer(row) for row in detail.duplicates],
    )
