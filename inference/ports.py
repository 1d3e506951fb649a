"""The ports: what the agents may ask of models and hardware, and what they get back."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from domain.errors import PermanentError
from domain.events import BatchFacts, Box, GpuReading, ModelFacts

BOX_FLOOR = 0.05
"""Every box above this score is kept in the event, so that thresholds can be tried again."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture as a detector takes it."""

    rgb: NDArray[np.uint8]
    """[height, width, 3], already reduced where that costs nothing (see inference.images)."""
    width: int
    """Width in pixels of the picture as it lies in the folder; boxes are given in these pixels."""
    height: int
    encoded: bytes
    """The file's bytes, for adapters that send the picture as it is."""
    name: str
    """File name for multipart uploads and messages; never interpreted."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model answers: stored with everything it says."""

    model: str
    version: str
    engine: str
    fallback: bool = False

    def facts(self, sha256: str | None = None) -> ModelFacts:
        """Return this as the log tells it, with the checksum of its file where that is known."""
        return ModelFacts(
            model=self.model,
            version=self.version,
            engine=self.engine,
            fallback=self.fallback,
            sha256=sha256,
        )


@dataclass(frozen=True, slots=True)
class Detected:
    """A detector's answer for one picture."""

    boxes: tuple[Box, ...]
    """Above BOX_FLOOR, by falling score, in pixels of the original picture, clipped to it."""
    identity: ModelIdentity
    inference_ms: float


class ModelRefusedError(PermanentError):
    """The model was asked, and refuses this very picture or question."""


class Detector(Protocol):
    """Finds objects in pictures.

    `detect` raises ServiceUnavailableError when the model does not answer (never an empty list),
    TransientError for what may succeed later, PermanentError for what never will.
    """

    @property
    def max_batch(self) -> int:
        """Return how many pictures one call may carry."""
        ...

    async def detect(self, pictures: list[Picture]) -> list[Detected]:
        """Return one answer a picture, in the same order."""
        ...

    async def check(self) -> ModelIdentity:
        """Ask for a sign of life; raises like `detect` when there is none."""
        ...

    async def close(self) -> None:
        """Release connections and sessions."""
        ...


@dataclass(frozen=True, slots=True)
class RiskOpinion:
    """A language model's validated answer about one batch."""

    score: int
    summary: str
    reasoning: str
    model: str
    prompt_version: str
    prompt_sha256: str
    raw_text: str
    tokens_in: int
    tokens_out: int
    seconds: float
    tokens_cached: int | None = None
    """Tokens of the question the model still had from before; None: it does not tell."""
    context_window: int | None = None
    """Tokens of context the model has for one question; None: it does not tell."""
    left_out: tuple[str, ...] = ()
    """Parts of the question that did not fit; see domain/prompt_cuts.py."""


@dataclass(frozen=True, slots=True)
class RiskQuestion:
    """What the language model is asked about: facts and the rules' verdict, no free text."""

    camera_name: str
    facts: BatchFacts
    rule_score: int
    floor: int
    signal_lines: tuple[str, ...]


class RiskModel(Protocol):
    """Writes a summary and reasoning for a batch and proposes a score.

    `assess` raises ServiceUnavailableError while the model loads or is away, TransientError when
    a reply was unusable, PermanentError when the request itself can never work.
    """

    async def assess(self, question: RiskQuestion) -> RiskOpinion:
        """Return the model's validated opinion."""
        ...

    async def check(self) -> str:
        """Return the model's name; raises like `assess` when it is not ready."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class GpuProbe(Protocol):
    """Reads every GPU of this host."""

    @property
    def source(self) -> str:
        """Return `nvml`, or `none` where there is no GPU to ask."""
        ...

    def read(self) -> tuple[GpuReading, ...]:
        """Return one reading a GPU; fields the driver does not tell are None."""
        ...

    def close(self) -> None:
        """Release the driver library."""
        ...
