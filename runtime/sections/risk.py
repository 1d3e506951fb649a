"""Settings that decide what becomes an event and how serious it is."""

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from runtime.settings_types import Score, TextList, Unit, starts


class Risk(BaseModel):
    """Batches, fast path, levels."""

    batch_window_seconds: int = Field(
        default=90,
        ge=1,
        le=3600,
        json_schema_extra=starts("Batches, fast path and risk"),
        description="Longest time from a batch's first picture to its last",
    )
    batch_idle_timeout_seconds: int = Field(
        default=30, ge=1, le=3600, description="A gap of more seconds closes the batch"
    )
    fast_path_confidence_threshold: Unit = Field(
        default=0.90, description="Score from which an object is assessed at once"
    )
    fast_path_object_types: TextList = Field(
        default=("person",), description="Objects that may be assessed at once"
    )
    severity_low_max: Score = Field(default=29, description="Highest score that is still low")
    severity_medium_max: Score = Field(
        default=59, description="Highest score that is still medium"
    )
    severity_high_max: Score = Field(default=84, description="Highest score that is still high")
    late_after_seconds: int = Field(
        default=300,
        ge=30,
        le=86_400,
        description="An event assessed so many seconds after its last picture is marked late",
    )
    late_alert_max_age_seconds: int = Field(
        default=3600,
        ge=60,
        le=604_800,
        description="An event assessed later than this after its last picture alerts nobody",
    )

    @field_validator("severity_medium_max", "severity_high_max")
    @classmethod
    def _rising(cls, value: int, info: ValidationInfo) -> int:
        below = (
            "severity_low_max"
            if info.field_name == "severity_medium_max"
            else "severity_medium_max"
        )
        floor = info.data.get(below)
        if floor is not None and value <= floor:
            raise ValueError(f"must be above {below.upper()}, which is {floor}")
        return value
