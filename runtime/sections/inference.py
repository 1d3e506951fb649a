"""Settings of the models and of the GPU that they run on."""

from pathlib import Path

from pydantic import BaseModel, Field, SecretStr, ValidationInfo, field_validator

from runtime.settings_checks import check_http_url, check_one_login, check_rtdetr_url
from runtime.settings_types import EmbeddedModel, NemotronApi, Unit, starts


class DetectorService(BaseModel):
    """Who looks for objects in pictures."""

    rtdetr_url: str | None = Field(
        default=None,
        json_schema_extra=starts("Detector (RT-DETRv2)"),
        description="grpc://host:8001 is Triton, http://host:8090 a /detect service; unset: the"
        " embedded detector",
    )
    rtdetr_read_timeout: float = Field(
        default=60.0, ge=10, le=300, description="Seconds a detection may take"
    )
    rtdetr_repair: bool = Field(
        default=True,
        description="Load a Triton model anew when its process died, where the server allows model"
        " control",
    )
    detection_confidence_threshold: Unit = Field(
        default=0.5, description="Smallest score that is recorded as a detection"
    )
    ai_ca_path: Path | None = Field(
        default=None,
        description="PEM file of the authority behind https:// and grpcs:// of models' services"
        " (detector, language model, optional services, candidates); unset: the system's"
        " authorities",
    )
    ai_connect_timeout: float = Field(
        default=10.0, ge=1, le=60, description="Seconds to connect to a model's service"
    )
    ai_health_timeout: float = Field(
        default=5.0, ge=1, le=30, description="Seconds a model's health check may take"
    )
    model_hub_url: str = Field(
        default="https://huggingface.co",
        description="Model hub that `hsi models fetch` asks first",
    )
    hsi_models_dir: Path | None = Field(
        default=None,
        description="Folder for model files; unset: /var/cache/hsi/models for"
        " root, else ~/.cache/hsi/models",
    )

    @field_validator("rtdetr_url")
    @classmethod
    def _detector(cls, value: str | None) -> str | None:
        return value and check_rtdetr_url(value)

    @field_validator("model_hub_url")
    @classmethod
    def _hub(cls, value: str | None) -> str | None:
        return value and check_http_url(value)


class LanguageModel(BaseModel):
    """Who writes the assessment."""

    nemotron_url: str | None = Field(
        default=None,
        json_schema_extra=starts("Language model (Nemotron through llama.cpp)"),
        description="http://host:8091 of a llama-server; unset: the embedded model",
    )
    nemotron_api: NemotronApi = Field(
        default="chat",
        description="chat uses the model's own template, completion Nemotron-Mini's",
    )
    nemotron_api_key: SecretStr | None = Field(default=None, description="API key of NEMOTRON_URL")
    nemotron_read_timeout: float = Field(
        default=120.0, ge=30, le=600, description="Seconds an answer may take"
    )
    embedded_llm: bool = Field(
        default=True,
        description="Run the embedded model when NEMOTRON_URL is unset; off: rules alone",
    )
    embedded_llm_model: EmbeddedModel = Field(
        default="qwen2.5-coder-1.5b", description="Which embedded model"
    )

    @field_validator("nemotron_url")
    @classmethod
    def _language_model(cls, value: str | None) -> str | None:
        return value and check_http_url(value)

    @field_validator("nemotron_api_key")
    @classmethod
    def _key(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        check_one_login(info.data.get("nemotron_url"), value)
        return value


class GpuMonitoring(BaseModel):
    """How the GPU is watched."""

    gpu_poll_interval_seconds: float = Field(
        default=5.0,
        ge=1,
        le=60,
        json_schema_extra=starts("GPU monitoring"),
        description="Seconds between two readings",
    )
    gpu_stats_history_minutes: int = Field(
        default=60, ge=1, le=1440, description="Minutes of readings kept in memory"
    )
