"""Ports of the optional services: what the enrich stage may ask, and what it gets back.

Every call raises ServiceUnavailableError while the service does not answer, BadAnswerError for an
answer that breaks the contract, PermanentError for what it refuses for good.
"""

from dataclasses import dataclass
from typing import Protocol

from domain.errors import PermanentError
from domain.events import Attribute
from inference.ports import ModelIdentity


class BadAnswerError(PermanentError):
    """A service answered something that its contract does not know."""


@dataclass(frozen=True, slots=True)
class Captioned:
    """A caption as it may be shown, and who wrote it."""

    text: str
    identity: ModelIdentity


@dataclass(frozen=True, slots=True)
class Embedded:
    """A point in a model's space of looks (see `Sighting.vector`), and whose space it is."""

    vector: bytes
    identity: ModelIdentity


@dataclass(frozen=True, slots=True)
class Described:
    """Attributes of one object, and who told them."""

    attributes: tuple[Attribute, ...]
    identity: ModelIdentity


class OptionalService(Protocol):
    """What all of them have."""

    async def check(self) -> ModelIdentity:
        """Ask for a sign of life and which model answers."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class Captioner(OptionalService, Protocol):
    """Writes a sentence about a picture."""

    async def caption(self, jpeg: bytes) -> Captioned:
        """Return the caption of a picture."""
        ...


class Embedder(OptionalService, Protocol):
    """Says how an object looks, as numbers that can be compared."""

    async def embed(self, jpeg: bytes) -> Embedded:
        """Return the embedding of one object, cut out of its picture."""
        ...


class Describer(OptionalService, Protocol):
    """Tells attributes of an object."""

    async def describe(self, jpeg: bytes, label: str) -> Described:
        """Return the attributes of one object, cut out of its picture."""
        ...


class Pressure(Protocol):
    """Asked before every call: may an optional model run now?"""

    async def excuse(self) -> str | None:
        """Return why it may not; None when it may."""
        ...
