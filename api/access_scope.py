"""Which routes a key for some cameras may call: those that tell of single cameras only.

Their queries leave out what belongs to other cameras (projections/scope.py), so other cameras are
not found; so are live messages (api/websocket.py). Everything else (sums over all cameras,
entities, settings, the state of the system) is refused: a route that nobody has thought about is
refused, too.
"""

from typing import Final

SCOPED: Final = frozenset(
    {
        "list_cameras",
        "get_camera",
        "snapshot",
        "change_camera",
        "list_scene_changes",
        "acknowledge_scene_change",
        "list_events",
        "get_event",
        "event_detections",
        "event_enrichments",
        "event_lineage",
        "review_event",
        "list_detections",
        "get_detection",
        "detection_image",
        "detection_crop",
        "detection_video",
        "detection_video_thumbnail",
        "camera_file",
        "event_clip",
        "generate_clip",
        "clip_file",
        "export_events",
        "search_events",
        "event_stats",
        "list_unverified",
        "list_files",
        "get_file",
        "file_lineage",
        "picture_image",
        "picture_thumbnail",
        "live",
    }
)
"""Names of operations."""
