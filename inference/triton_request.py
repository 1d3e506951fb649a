"""An inference request to Triton, put together as bytes with one copy of its pixels.

tritonclient copies them four times on their way: into bytes, into the message, into its serialised
form, into gRPC's buffer. At 1.2 MB a picture that, and the page faults of so much fresh memory, is
most of what a client costs. Here pictures are packed into memory that is used again, and copied
once into the finished message: protobuf's fields may follow each other in any number of parts, and
those that carry the pixels come last.
"""

from typing import Any, Final

import cv2
import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import aio as grpc_aio
from tritonclient.grpc import service_pb2

from inference.triton_channel import refused

Pixels = NDArray[np.uint8]

_METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"
_RAW_CONTENTS: Final = b"\x3a"
"""Tag of ModelInferRequest.raw_input_contents: field 7, length-delimited."""
_FIRST: Final = 1
"""The highest of the model's priority levels; a model without any takes it for its only one."""


class InferRequests:
    """Asks one model of a server; to be used in one event loop, as its client is."""

    def __init__(
        self, client: grpc_aio.InferenceServerClient, model: str, outputs: tuple[str, ...]
    ) -> None:
        # The client offers no call that takes bytes, and a second channel would be one too many.
        self._call = client._channel.unary_unary(
            _METHOD,
            request_serializer=None,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        self._model = model
        self._outputs = outputs
        self._memory = np.empty((0, 3, 0, 0), np.uint8)

    async def ask(
        self,
        squares: list[Pixels],
        sizes: NDArray[np.int64],
        deadline: float,
        *,
        first: bool = False,
    ) -> grpc_aio.InferResult:
        """Return the answer about square pictures; TritonRefusedError when there is none.

        The server drops what still waits in its queue when nobody waits for it here. What is to
        come `first` goes before that queue.
        """
        request = self._request(squares, sizes, deadline, first=first)
        try:
            return grpc_aio.InferResult(await self._call(request, timeout=deadline))
        except grpc.RpcError as error:
            raise refused(error) from error

    def _request(
        self, squares: list[Pixels], sizes: NDArray[np.int64], deadline: float, *, first: bool
    ) -> bytes:
        images = self._packed(squares)
        head = service_pb2.ModelInferRequest(model_name=self._model)
        head.parameters["timeout"].int64_param = int(deadline * 1_000_000)
        if first:
            head.parameters["priority"].uint64_param = _FIRST
        for name, kind, array in (
            ("images", "UINT8", images),
            ("orig_target_sizes", "INT64", sizes),
        ):
            head.inputs.add(name=name, datatype=kind, shape=array.shape)
        for name in self._outputs:
            head.outputs.add(name=name)
        parts: list[Any] = [head.SerializeToString()]
        for array in (images, sizes):
            parts += [_RAW_CONTENTS, _varint(array.nbytes), array.data.cast("B")]
        return b"".join(parts)

    def _packed(self, squares: list[Pixels]) -> Pixels:
        """Return the pictures as planes, in memory that the next request overwrites."""
        side = squares[0].shape[0]
        if self._memory.shape[0] < len(squares) or self._memory.shape[2] != side:
            self._memory = np.empty((len(squares), 3, side, side), np.uint8)
        images = self._memory[: len(squares)]
        for planes, pixels in zip(images, squares, strict=True):
            # numpy's transposed copy takes six times as long.
            cv2.split(pixels, list(planes))
        return images


def _varint(number: int) -> bytes:
    """Return a length as protobuf writes it: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
