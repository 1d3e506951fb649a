"""Settings of the camera folders."""

from pathlib import Path

from pydantic import BaseModel, Field, field_validator

from runtime.settings_checks import check_timezone, system_timezone
from runtime.settings_types import starts


class CameraFolders(BaseModel):
    """Where pictures come from and how they are taken in."""

    foscam_base_path: Path = Field(
        default=Path("/export/foscam"),
        json_schema_extra=starts("Camera folders"),
        description="Folder that holds one folder a camera",
    )
    file_watcher_polling: bool = Field(
        default=False,
        description="Poll instead of native events (network and Docker Desktop mounts)",
    )
    file_watcher_polling_interval: float = Field(
        default=1.0, ge=0.1, le=30, description="Seconds between two polls"
    )
    dedupe_ttl_seconds: int = Field(
        default=300,
        ge=60,
        le=3600,
        description="Seconds in which the same bytes count once a camera",
    )
    video_frame_interval_seconds: float = Field(
        default=2.0,
        ge=0.1,
        le=60,
        description="One picture is taken from a video every so many seconds",
    )
    video_max_frames: int = Field(
        default=30, ge=1, le=300, description="At most so many pictures from one video"
    )
    camera_timezone: str = Field(
        default_factory=system_timezone,
        description="IANA zone of the cameras' clocks, like Europe/Berlin; unset: this machine's"
        " zone, or UTC where it cannot be told",
    )

    @field_validator("camera_timezone")
    @classmethod
    def _timezone(cls, value: str) -> str:
        return check_timezone(value)
