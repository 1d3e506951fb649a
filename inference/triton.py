"""Detector on NVIDIA Triton over gRPC: one channel a process, batches up to the model's limit.

The contract with the model repository (triton_models/rtdetrv2/config.pbtxt):

    images             UINT8 [N, 3, 640, 640]  RGB, stretched; the graph divides by 255 itself
    orig_target_sizes  INT64 [N, 2]            width, height of each picture
    labels             INT64 [N, 300]          index of the class in inference.labels
    boxes              FP32  [N, 300, 4]       left, top, right, bottom in the picture's pixels
    scores             FP32  [N, 300]

UINT8 travels in a quarter of the bytes that FP32 takes (2.5 instead of 26 ms a picture), and the
names and the layout are those of RT-DETR's deploy graph, which a TensorRT plan is built from.

Pictures of several cameras that are asked for at the same time share a request
(inference.gathering). A request is not tried again here: what may succeed later raises
ServiceUnavailableError, and the stage's gate, which is its breaker, probes with the same pictures.
"""

import asyncio
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import aio as grpc_aio

from domain.errors import HsiError, PermanentError, ServiceUnavailableError, TransientError
from inference.boxes import to_boxes
from inference.gathering import Gathering, Limits
from inference.images import square
from inference.model_control import ModelControl
from inference.ports import Detected, ModelIdentity, ModelRefusedError, Picture
from inference.triton_channel import TritonRefusedError, connect, refusals
from inference.triton_request import InferRequests

logger = logging.getLogger(__name__)

SIDE = 640
REPAIR_PAUSE_SECONDS = 30.0
"""Between two repairs: a model whose process dies at once again is not loaded in a circle."""
_REPAIR_SPREAD_SECONDS = 1.0
_PROBES = 4
"""Inferences that must succeed in a row before a model with a dead process counts as whole."""
_DEAD_PROCESS = "Stub process"
"""What Triton's Python backend says, with INTERNAL, once a model's process has died."""
_INPUTS = {"images": ("UINT8", [3, SIDE, SIDE]), "orig_target_sizes": ("INT64", [2])}
_OUTPUTS = {"labels": "INT64", "boxes": "FP32", "scores": "FP32"}

Answer = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonOptions:
    """How the detector uses its server."""

    model: str = "rtdetrv2"
    max_batch: int = 16
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    """Seconds for one call, waiting for company and for a free request included."""
    health_timeout: float = 5.0
    limits: Limits = field(default_factory=Limits)
    ca_path: Path | None = None
    """PEM file of the authority behind a grpcs:// server; None takes the system's."""
    repair: bool = True
    """Unload and load the model when its process died, where the server lets itself be told."""


@dataclass(frozen=True, slots=True)
class _Served:
    """What the server says about the model."""

    limit: int
    """Pictures that one request may carry."""
    weights: dict[str, str]
    """Version → parameter `weights` of its configuration: which weights it was made from."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A picture and the moment (monotonic) at which nobody waits for its answer any more."""

    picture: Picture
    until: float


class TritonDetector:
    """Detector over one Triton server; construct it inside the running event loop."""

    def __init__(self, url: str, options: TritonOptions | None = None) -> None:
        self._url = url
        self._options = options or TritonOptions()
        self._model = self._options.model
        self._served: _Served | None = None
        self._asking = asyncio.Lock()
        self._dead_process = False
        """A request met a model whose process has died; health has not seen it whole since."""
        self._not_repaired_before = 0.0
        self._client = connect(url, self._options.ca_path)
        self._control = ModelControl(self._client, url, timeout=self._options.health_timeout)
        self._requests = InferRequests(self._client, self._model, tuple(_OUTPUTS))
        self._gathering: Gathering[_Asked, Detected] = Gathering(
            self._request, lambda: self.max_batch, self._options.limits
        )

    @property
    def max_batch(self) -> int:
        most = self._options.max_batch
        return min(most, self._served.limit) if self._served else most

    async def detect(self, pictures: list[Picture]) -> list[Detected]:
        await self._ask(self._options.connect_timeout)
        until = monotonic() + self._options.read_timeout
        return await self._gathering.submit([_Asked(picture, until) for picture in pictures])

    async def check(self) -> ModelIdentity:
        """Infer on a grey picture: a server whose model's process died still calls it ready.

        Where that happened, have the server load the model anew, if it lets itself be told.
        """
        try:
            identity = await self._probe()
        except ServiceUnavailableError:
            if not self._dead_process:
                raise
        else:
            if not self._dead_process:
                return identity
        return await self._repaired()

    async def close(self) -> None:
        await self._gathering.close()
        await self._client.close()

    # --- health ---------------------------------------------------------------------------------

    async def _probe(self) -> ModelIdentity:
        await self._ask(self._options.health_timeout)
        grey = Picture(np.full((SIDE, SIDE, 3), 127, np.uint8), SIDE, SIDE, b"", "health check")
        # Not gathered with others, nor behind what waits: what is checked is the server, now.
        (answer,) = await self._infer([grey], self._options.health_timeout, first=True)
        if isinstance(answer, HsiError):
            raise answer
        return answer.identity

    async def _repaired(self) -> ModelIdentity:
        """Unload and load the model, unless somebody else did so just now; return who answers."""
        # Every process that uses the server has noticed: the first to wake repairs it for all.
        await asyncio.sleep(random.uniform(0, _REPAIR_SPREAD_SECONDS))  # noqa: S311 - no secret
        self._dead_process = False
        try:
            # One of several instances may be the dead one: the probes go to them in turn.
            return [await self._probe() for _ in range(_PROBES)][-1]
        except ServiceUnavailableError as error:
            if not self._dead_process or not self._may_repair():
                raise
            logger.warning("%s Its process died: loading the model anew.", error)
        try:
            await self._control.unload(self._model, patience=0)
            await self._control.load(self._model)
        except PermanentError as error:
            raise self._away(f"lost its process and was not loaded anew: {error}") from error
        identity = await self._probe()
        self._dead_process = False
        logger.warning("Triton at %s: loaded %s anew", self._url, self._model)
        return identity

    def _may_repair(self) -> bool:
        """Say whether a repair may be tried now, and count it as tried."""
        now = monotonic()
        if not self._options.repair or now < self._not_repaired_before:
            return False
        self._not_repaired_before = now + REPAIR_PAUSE_SECONDS
        return True

    # --- inference ------------------------------------------------------------------------------

    async def _request(self, asked: list[_Asked]) -> list[Detected | HsiError]:
        left = min(entry.until for entry in asked) - monotonic()
        if left <= 0:
            seconds = f"{self._options.read_timeout:g} s"
            raise self._away(f"had no room for {len(asked)} pictures within {seconds}")
        return await self._infer([entry.picture for entry in asked], left)

    async def _infer(
        self, pictures: list[Picture], deadline: float, *, first: bool = False
    ) -> list[Detected | HsiError]:
        squares = await asyncio.to_thread(_squares, pictures)
        sizes = np.array([(picture.width, picture.height) for picture in pictures], np.int64)
        began = perf_counter()
        with self._errors_told(pictures):
            result = await self._requests.ask(squares, sizes, deadline, first=first)
        each_ms = round((perf_counter() - began) * 1000 / len(pictures), 2)
        answer = self._answer(result, len(pictures))
        version = result.get_response().model_version
        identity = await self._identity(version, self._options.health_timeout)
        return [
            _detected(picture, row, answer, identity, each_ms)
            for row, picture in enumerate(pictures)
        ]

    def _answer(self, result: grpc_aio.InferResult, count: int) -> Answer:
        """Return labels, boxes, scores; a server with a broken environment answers no rows."""
        arrays = [result.as_numpy(name) for name in _OUTPUTS]
        shapes = [None if array is None else array.shape for array in arrays]
        rows = shapes[0][1] if shapes[0] is not None and len(shapes[0]) == 2 else 0
        if rows == 0 or shapes != [(count, rows), (count, rows, 4), (count, rows)]:
            raise self._away(
                f"answered labels, boxes and scores of the shapes {shapes} for {count} pictures "
                "(Triton's Python stub needs numpy < 2 in its own environment)"
            )
        labels, corners, scores = arrays
        return labels, corners, scores

    async def _identity(self, version: str, deadline: float) -> ModelIdentity:
        """Return who answered; a version that was switched to has weights of its own."""
        known = self._served.weights if self._served else {}
        if version not in known:
            try:
                with refusals():
                    reply = await self._client.get_model_config(
                        self._model, version, client_timeout=deadline
                    )
                known[version] = reply.config.parameters["weights"].string_value
            except TritonRefusedError:
                # It has just been switched away from, and its answer is good all the same.
                return ModelIdentity(self._model, version, "triton")
        weights = known[version]
        return ModelIdentity(self._model, f"{version}:{weights}" if weights else version, "triton")

    # --- what the server is and what its refusals mean ------------------------------------------

    async def _ask(self, deadline: float) -> None:
        """Learn the model's batch limit once a connection, and that it keeps the contract."""
        async with self._asking:
            if self._served is not None:
                return
            with self._errors_told([]):
                reply = await self._client.get_model_config(self._model, client_timeout=deadline)
            config = reply.config
            inputs = {entry.name: (_type(entry), list(entry.dims)) for entry in config.input}
            outputs = {entry.name: _type(entry) for entry in config.output}
            if inputs != _INPUTS or not _OUTPUTS.items() <= outputs.items():
                raise self._away(
                    f"serves {inputs} -> {outputs}, wanted {_INPUTS} -> {_OUTPUTS}: install "
                    "triton_models/rtdetrv2 of this version"
                )
            if config.max_batch_size < 1:
                raise self._away("serves the model without batches: set max_batch_size to 1 or up")
            self._served = _Served(config.max_batch_size, {})

    @contextmanager
    def _errors_told(self, pictures: list[Picture]) -> Iterator[None]:
        try:
            with refusals():
                yield
        except TritonRefusedError as error:
            if error.status == "INTERNAL" and _DEAD_PROCESS in error.message:
                self._dead_process = True
            if error.status != "INVALID_ARGUMENT" or not pictures:
                raise self._away(f"said {error}") from error
            if len(pictures) > 1:
                # A model reloaded with a lower limit says so here: learn it, then go on singly.
                self._served = None
                raise TransientError(
                    f"{self._url} refused {len(pictures)} pictures at once: {error.message}"
                ) from error
            raise ModelRefusedError(
                f"{self._url} refused {pictures[0].name} for model {self._model}: {error.message}"
            ) from error

    def _away(self, message: str) -> ServiceUnavailableError:
        self._served = None
        return ServiceUnavailableError(
            "detector", f"Triton at {self._url}, model {self._model}, {message}"
        )


def _detected(
    picture: Picture, row: int, answer: Answer, identity: ModelIdentity, each_ms: float
) -> Detected | HsiError:
    """Return one picture's answer; one that is no number is that picture's alone."""
    labels, corners, scores = (array[row] for array in answer)
    try:
        boxes = to_boxes(labels, corners, scores, width=picture.width, height=picture.height)
    except PermanentError as error:
        return error
    return Detected(boxes, identity, each_ms)


def _squares(pictures: list[Picture]) -> list[NDArray[np.uint8]]:
    return [square(picture, SIDE) for picture in pictures]


def _type(entry: Any) -> str:  # noqa: ANN401 - a generated protobuf class
    """Return the type's name as requests spell it: without the TYPE_ of the configuration."""
    name: str = (
        entry.DESCRIPTOR.fields_by_name["data_type"]
        .enum_type.values_by_number[entry.data_type]
        .name
    )
    return name.removeprefix("TYPE_")
