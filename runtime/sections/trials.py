"""Settings of the candidates on trial: a detector, a prompt."""

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from runtime.settings_checks import check_http_url, check_one_login, check_rtdetr_url
from runtime.settings_types import Unit, starts


class Trials(BaseModel):
    """Who is on trial, for how many pictures it answers, and what takes it out again."""

    candidate_rtdetr_url: str | None = Field(
        default=None,
        json_schema_extra=starts("Candidate detector on trial (docs/trials.md)"),
        description="grpc://host:8001 or http://host:8090 of a detector to compare with the one in"
        " service; unset: no trial",
    )
    candidate_percent: int = Field(
        default=0, ge=0, le=100, description="Percent of the pictures the candidate answers for"
    )
    candidate_timeout_seconds: float = Field(
        default=2.0,
        ge=0.1,
        le=30,
        description="Seconds the candidate has; then the detector in service is asked",
    )
    candidate_window: int = Field(
        default=50,
        ge=5,
        le=10_000,
        description="Comparisons by which a candidate is judged while it answers for canaries",
    )
    candidate_min_agreement: Unit = Field(
        default=0.8,
        description="Least mean agreement over the window; below, the candidate is withdrawn",
    )
    candidate_max_error_rate: Unit = Field(
        default=0.05, description="Largest part of the window that may fail"
    )
    candidate_max_latency_ms: float = Field(
        default=2000.0,
        ge=1,
        le=60_000,
        description="Milliseconds that 95 % of the candidate's answers in the window must keep",
    )
    candidate_prompt: str | None = Field(
        default=None,
        description="Version of a prompt, or a folder with one and its manifest.json, to compare"
        " with the one in service",
    )
    candidate_prompt_percent: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Percent of the events the candidate prompt answers for",
    )
    candidate_prompt_timeout_seconds: float = Field(
        default=60.0,
        ge=1,
        le=600,
        description="Seconds the candidate prompt has; then the one in service is asked",
    )
    candidate_prompt_max_seconds: float = Field(
        default=30.0,
        ge=0.1,
        le=600,
        description="Seconds that 95 % of the candidate prompt's answers in the window must keep",
    )
    candidate_nemotron_url: str | None = Field(
        default=None,
        description="http://host:8091 of a llama-server for the candidate prompt; unset: the"
        " language model in service, while it has nothing else to do",
    )

    @field_validator("candidate_rtdetr_url")
    @classmethod
    def _candidate(cls, value: str | None) -> str | None:
        return value and check_rtdetr_url(value)

    @field_validator("candidate_nemotron_url")
    @classmethod
    def _candidate_model(cls, value: str | None, info: ValidationInfo) -> str | None:
        check_one_login(value, info.data.get("nemotron_api_key"))
        return value and check_http_url(value)
