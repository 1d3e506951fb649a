"""Settings of the optional services that add to an event what it can do without."""

from pydantic import BaseModel, Field, field_validator

from runtime.settings_checks import check_http_url
from runtime.settings_types import Unit, starts


class EnrichmentServices(BaseModel):
    """Who writes captions, recognises who was seen before, and tells attributes."""

    florence_url: str | None = Field(
        default=None,
        json_schema_extra=starts("Optional services (docs/enrichment.md)"),
        description="http://host:8092 of a caption service (Florence-2); unset: no captions",
    )
    clip_url: str | None = Field(
        default=None,
        description="http://host:8093 of an embedding service (CLIP); unset: no entities",
    )
    enrichment_url: str | None = Field(
        default=None,
        description="http://host:8094 of an attribute service; unset: no attributes",
    )
    reid_similarity_threshold: Unit = Field(
        default=0.85,
        description="Cosine similarity from which two sightings are one entity",
    )
    reid_window_hours: float = Field(
        default=24.0, ge=1, le=720, description="Hours over which two sightings are compared"
    )

    @field_validator("florence_url", "clip_url", "enrichment_url")
    @classmethod
    def _service(cls, value: str | None) -> str | None:
        return value and check_http_url(value)
