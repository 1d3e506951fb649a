"""Detector on NVIDIA Triton over gRPC: one channel a process, batches up to the model's limit.

The contract with the model repository (triton_models/rtdetrv2/config.pbtxt):

    images             UINT8 [N, 3, 640, 640]  RGB, stretched; the graph divides by 255 itself
    orig_target_sizes  INT64 [N, 2]            width, height of each picture
    labels             INT64 [N, 300]          index of the class in inference.labels
    boxes              FP32  [N, 300, 4]       left, top, right, bottom in the picture's pixels
    scores             FP32  [N, 300]

UINT8 travels in a quarter of the bytes that FP32 takes (2.5 instead of 26 ms a picture), and the
names and the layout are those of RT-DETR's deploy graph, which a TensorRT plan is built from.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import aio as grpc_aio
from tritonclient.utils import InferenceServerException

from domain.errors import PermanentError, ServiceUnavailableError, TransientError
from inference.boxes import to_boxes
from inference.images import stretch
from inference.ports import Detected, ModelIdentity, Picture

SIDE = 640
DEFAULT_PORT = 8001
_INPUTS = {"images": ("UINT8", [3, SIDE, SIDE]), "orig_target_sizes": ("INT64", [2])}
_OUTPUTS = {"labels": "INT64", "boxes": "FP32", "scores": "FP32"}
_LARGEST_ANSWER = 64 * 1024 * 1024

Answer = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class _Served:
    """What the server says about the model."""

    limit: int
    """Pictures that one request may carry."""
    weights: str
    """Parameter `weights` of the model's configuration: which weights it was made from."""


class TritonDetector:
    """Detector over one Triton server; construct it inside the running event loop."""

    def __init__(
        self,
        url: str,
        *,
        model: str = "rtdetrv2",
        max_batch: int = 16,
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        health_timeout: float = 5.0,
    ) -> None:
        parts = urlsplit(url)
        self._url = url
        self._model = model
        self._max_batch = max_batch
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._health_timeout = health_timeout
        self._served: _Served | None = None
        self._asking = asyncio.Lock()
        self._client = grpc_aio.InferenceServerClient(
            f"{parts.hostname}:{parts.port or DEFAULT_PORT}",
            ssl=parts.scheme == "grpcs",
            channel_args=[
                ("grpc.max_send_message_length", -1),
                ("grpc.max_receive_message_length", _LARGEST_ANSWER),
                # gRPC would wait up to two minutes before it tries a returned server again.
                ("grpc.initial_reconnect_backoff_ms", 200),
                ("grpc.max_reconnect_backoff_ms", 2000),
            ],
        )

    @property
    def max_batch(self) -> int:
        return min(self._max_batch, self._served.limit) if self._served else self._max_batch

    async def detect(self, pictures: list[Picture]) -> list[Detected]:
        await self._ask(self._connect_timeout)
        answers: list[Detected] = []
        while len(answers) < len(pictures):
            run = pictures[len(answers) :][: self.max_batch]
            answers += await self._detect(run, self._read_timeout)
        return answers

    async def check(self) -> ModelIdentity:
        """Infer on a grey picture: a server whose model process died still calls it ready."""
        await self._ask(self._health_timeout)
        grey = Picture(np.full((SIDE, SIDE, 3), 127, np.uint8), SIDE, SIDE, b"", "health check")
        (answer,) = await self._detect([grey], self._health_timeout)
        return answer.identity

    async def close(self) -> None:
        await self._client.close()

    async def _detect(self, pictures: list[Picture], deadline: float) -> list[Detected]:
        inputs = await asyncio.to_thread(_to_inputs, pictures)
        began = perf_counter()
        with self._errors_told(pictures):
            result = await self._client.infer(
                self._model,
                inputs,
                outputs=[grpc_aio.InferRequestedOutput(name) for name in _OUTPUTS],
                # The server drops what still waits in its queue when nobody waits for it here.
                timeout=int(deadline * 1_000_000),
                client_timeout=deadline,
            )
        each_ms = (perf_counter() - began) * 1000 / len(pictures)
        labels, corners, scores = self._answer(result, len(pictures))
        identity = self._identity(result.get_response().model_version)
        return [
            Detected(
                to_boxes(
                    labels[row],
                    corners[row],
                    scores[row],
                    width=picture.width,
                    height=picture.height,
                ),
                identity,
                round(each_ms, 2),
            )
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

    def _identity(self, version: str) -> ModelIdentity:
        weights = self._served.weights if self._served else ""
        return ModelIdentity(self._model, f"{version}:{weights}" if weights else version, "triton")

    # --- what the server is and what its refusals mean --------------------------------------

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
            weights = config.parameters["weights"].string_value
            self._served = _Served(config.max_batch_size, weights)

    @contextmanager
    def _errors_told(self, pictures: list[Picture]) -> Iterator[None]:
        try:
            yield
        except InferenceServerException as error:
            status = str(error.status()).removeprefix("StatusCode.")
            if status != "INVALID_ARGUMENT" or not pictures:
                raise self._away(f"said {status}: {error.message()}") from error
            if len(pictures) > 1:
                # A model reloaded with a lower limit says so here: learn it, then go on singly.
                self._served = None
                raise TransientError(
                    f"{self._url} refused {len(pictures)} pictures at once: {error.message()}"
                ) from error
            raise PermanentError(
                f"{self._url} refused {pictures[0].name} for model {self._model}: "
                f"{error.message()}"
            ) from error

    def _away(self, message: str) -> ServiceUnavailableError:
        self._served = None
        return ServiceUnavailableError(
            "detector", f"Triton at {self._url}, model {self._model}, {message}"
        )


def _to_inputs(pictures: list[Picture]) -> list[grpc_aio.InferInput]:
    images = np.stack([stretch(picture.rgb, SIDE) for picture in pictures])
    sizes = np.array([(picture.width, picture.height) for picture in pictures], np.int64)
    arrays: dict[str, NDArray[Any]] = {
        "images": np.ascontiguousarray(images.transpose(0, 3, 1, 2)),
        "orig_target_sizes": sizes,
    }
    inputs = []
    for name, array in arrays.items():
        entry = grpc_aio.InferInput(name, array.shape, _INPUTS[name][0])
        entry.set_data_from_numpy(array)
        inputs.append(entry)
    return inputs


def _type(entry: Any) -> str:  # noqa: ANN401 - a generated protobuf class
    """Return the type's name as requests spell it: without the TYPE_ of the configuration."""
    name: str = (
        entry.DESCRIPTOR.fields_by_name["data_type"]
        .enum_type.values_by_number[entry.data_type]
        .name
    )
    return name.removeprefix("TYPE_")
