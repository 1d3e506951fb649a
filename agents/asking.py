"""Opens the client of a language model as the settings name it."""

from domain.prompt import Prompt
from inference.llm import LlamaRiskModel, Timeouts
from runtime.settings import Settings


def open_risk_model(settings: Settings, url: str, prompt: Prompt | None = None) -> LlamaRiskModel:
    """Return a client of the model at `url`; nothing is connected yet.

    `prompt` None takes the one in service. Raises PermanentError for an unusable AI_CA_PATH.
    """
    s = settings
    return LlamaRiskModel(
        url,
        api=s.nemotron_api,
        api_key=s.nemotron_api_key.get_secret_value() if s.nemotron_api_key else None,
        timeouts=Timeouts(s.ai_connect_timeout, s.nemotron_read_timeout, s.ai_health_timeout),
        prompt=prompt,
        ca_path=s.ai_ca_path,
    )
