"""Model control: which versions a Triton server has, and loading and unloading them.

Triton obeys only when it was started with `--model-control-mode=explicit`. A load is done when the
server says that the model is ready; whether it also infers is for an inference to say (Triton
calls a model ready whose process has died).
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from domain.errors import PermanentError, ServiceUnavailableError
from inference.triton_channel import TritonRefusedError, connect, refusals

LOAD_SECONDS = 600.0
"""A large TensorRT plan with warm-up may take minutes."""
_LOOK_SECONDS = 0.05
_NOT_ALLOWED = "explicit model load / unload is not allowed"


class ModelControlError(PermanentError):
    """The server refused to load or unload, and said why."""


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """One version of a model as the server sees it."""

    model: str
    version: str
    """Empty for a model that lies in the repository and was never loaded."""
    state: str
    """READY, LOADING, UNLOADING, UNAVAILABLE; empty when it was never loaded."""
    reason: str


class ModelControl:
    """Loads and unloads over a client that its owner opened and will close."""

    def __init__(self, client: Any, url: str, *, timeout: float = 10.0) -> None:  # noqa: ANN401 - tritonclient's
        self._client = client
        self._url = url
        self._timeout = timeout

    async def server(self) -> str:
        """Return the server's name and version."""
        with self._told("metadata"):
            told = await self._client.get_server_metadata(client_timeout=self._timeout)
        return f"{told.name} {told.version}"

    async def index(self) -> tuple[LoadedVersion, ...]:
        """Return every version that the server knows of."""
        with self._told("the repository's index"):
            reply = await self._client.get_model_repository_index(client_timeout=self._timeout)
        return tuple(
            LoadedVersion(entry.name, entry.version, entry.state, entry.reason)
            for entry in reply.models
        )

    async def ready(self, model: str) -> tuple[str, ...]:
        """Return the versions of a model that the server calls ready, lowest first."""
        found = [v.version for v in await self.index() if (v.model, v.state) == (model, "READY")]
        return tuple(sorted(found, key=int))

    async def load(self, model: str) -> tuple[str, ...]:
        """Load a model, or load it again with what changed; return the versions that are ready.

        While it loads, the versions that served before go on; they stay when it fails.
        """
        with self._told(f"loading {model}"):
            await self._client.load_model(model, client_timeout=LOAD_SECONDS)
        versions = await self.ready(model)
        if not versions:
            raise ModelControlError(f"{self._url} loaded {model}, but calls no version ready")
        return versions

    async def unload(self, model: str, *, patience: float = 30.0) -> bool:
        """Unload a model; return whether the last instance had gone within `patience` seconds.

        From now on nobody gets an answer of it. What it has in hand is finished first; where its
        process was killed, Triton waits for ever, though a load works all the same.
        """
        with self._told(f"unloading {model}"):
            await self._client.unload_model(model, client_timeout=self._timeout)
        until = monotonic() + patience
        while any(v.model == model and v.state == "UNLOADING" for v in await self.index()):
            if monotonic() >= until:
                return False
            await asyncio.sleep(_LOOK_SECONDS)
        return True

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Say what was asked when the server refuses it."""
        try:
            with refusals():
                yield
        except TritonRefusedError as error:
            if _NOT_ALLOWED in error.message:
                raise ModelControlError(
                    f"{self._url} does not load or unload on request: start tritonserver with "
                    "--model-control-mode=explicit --load-model=rtdetrv2"
                ) from error
            said = f"{self._url}: {what}: {error}"
            if error.status in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"):
                raise ServiceUnavailableError("detector", said) from error
            raise ModelControlError(said) from error


@asynccontextmanager
async def controlling(url: str, ca_path: Path | None = None) -> AsyncIterator[ModelControl]:
    """Open model control over a channel of its own until the block ends."""
    client = connect(url, ca_path)
    try:
        yield ModelControl(client, url)
    finally:
        await client.close()
