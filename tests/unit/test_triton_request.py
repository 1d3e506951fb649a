"""A request to Triton put together as bytes: protobuf reads it as if it had made it."""

from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from inference.triton_request import InferRequests

OUTPUTS = ("labels", "boxes")


class Channel:
    """Keeps what would be sent, and answers nothing."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.seconds: list[float] = []

    def unary_unary(self, method: str, **_: Any) -> Any:
        assert method == "/inference.GRPCInferenceService/ModelInfer"
        return self._call

    async def _call(self, request: bytes, *, timeout: float) -> Any:  # noqa: ASYNC109 - gRPC's name
        self.sent.append(request)
        self.seconds.append(timeout)
        return service_pb2.ModelInferResponse()


class Client:
    def __init__(self) -> None:
        self._channel = Channel()


def pictures(count: int, side: int = 640) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    generator = np.random.default_rng(count)
    return [generator.integers(0, 255, (side, side, 3), np.uint8) for _ in range(count)]


def sizes(count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([(1920 + n, 1080) for n in range(count)], np.int64)


# The length of 1 picture is written in 3 bytes, of 16 in 4, of 16 small ones in 2.
@pytest.mark.parametrize(("count", "side"), [(1, 640), (3, 640), (16, 640), (16, 8)])
async def test_protobuf_reads_what_was_asked(count: int, side: int) -> None:
    client = Client()
    requests = InferRequests(client, "rtdetrv2", OUTPUTS)
    squares = pictures(count, side)
    await requests.ask(squares, sizes(count), 2.5)
    read = service_pb2.ModelInferRequest.FromString(client._channel.sent[0])
    assert client._channel.seconds == [2.5]
    assert (read.model_name, read.parameters["timeout"].int64_param) == ("rtdetrv2", 2_500_000)
    assert [each.name for each in read.outputs] == list(OUTPUTS)
    assert [(each.name, each.datatype, list(each.shape)) for each in read.inputs] == [
        ("images", "UINT8", [count, 3, side, side]),
        ("orig_target_sizes", "INT64", [count, 2]),
    ]
    planes = np.stack([square.transpose(2, 0, 1) for square in squares])
    assert list(read.raw_input_contents) == [planes.tobytes(), sizes(count).tobytes()]


async def test_what_is_to_come_first_has_the_highest_priority() -> None:
    client = Client()
    requests = InferRequests(client, "rtdetrv2", OUTPUTS)
    for first in (True, False):
        await requests.ask(pictures(1), sizes(1), 1.0, first=first)
    told = [service_pb2.ModelInferRequest.FromString(sent) for sent in client._channel.sent]
    assert told[0].parameters["priority"].uint64_param == 1
    assert "priority" not in told[1].parameters


async def test_one_request_does_not_change_another() -> None:
    client = Client()
    requests = InferRequests(client, "rtdetrv2", OUTPUTS)
    for count in (3, 1, 16, 2):
        await requests.ask(pictures(count), sizes(count), 1.0)
    for sent, count in zip(client._channel.sent, (3, 1, 16, 2), strict=True):
        read = service_pb2.ModelInferRequest.FromString(sent)
        planes = np.stack([square.transpose(2, 0, 1) for square in pictures(count)])
        assert read.raw_input_contents[0] == planes.tobytes()
