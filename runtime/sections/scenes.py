"""Settings of scene changes: whether a camera still looks at what it looked at."""

from pydantic import BaseModel, Field

from runtime.settings_types import starts


class SceneChanges(BaseModel):
    """How a camera's pictures are compared with its baseline."""

    scene_change_enabled: bool = Field(
        default=True,
        json_schema_extra=starts("Scene changes (docs/scene-changes.md)"),
        description="Compare each camera's pictures with what it looked at before",
    )
    scene_change_threshold: float = Field(
        default=0.90,
        ge=0.5,
        le=1.0,
        description="Similarity (SSIM) below which a view may have changed; a camera may have one"
        " of its own",
    )
    scene_change_width: int = Field(
        default=640, ge=128, le=1920, description="Pictures are compared at so many pixels width"
    )
    scene_change_interval_seconds: int = Field(
        default=5,
        ge=1,
        le=3600,
        description="One picture a camera is compared in so many seconds of capture time",
    )

    @property
    def scene_groups(self) -> tuple[str, ...]:
        """Return the consumer group of the stage, where it is wanted."""
        return ("scene",) if self.scene_change_enabled else ()
