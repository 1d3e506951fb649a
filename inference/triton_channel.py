"""The gRPC channel to Triton, and what its refusals mean: shared by detector and model control."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from tritonclient.grpc import aio as grpc_aio
from tritonclient.utils import InferenceServerException

from inference.trust import advised, trusted

DEFAULT_PORT = 8001
_LARGEST_ANSWER = 64 * 1024 * 1024


class TritonRefusedError(Exception):
    """Triton answered an error, or did not answer; the caller knows what that means to it."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        """Name of the gRPC status, such as UNAVAILABLE."""
        self.message = message


def connect(url: str, ca_path: Path | None = None) -> grpc_aio.InferenceServerClient:
    """Return a client on one channel; nothing is connected yet. Call it in the running loop.

    `grpcs://` checks the server's certificate against `ca_path`, else against the system's own
    authorities. Raises PermanentError for a file that cannot be used.
    """
    parts = urlsplit(url)
    encrypted = parts.scheme == "grpcs"
    if encrypted:
        trusted(ca_path)  # gRPC would not say what is wrong with the file
    return grpc_aio.InferenceServerClient(
        f"{parts.hostname}:{parts.port or DEFAULT_PORT}",
        ssl=encrypted,
        root_certificates=str(ca_path) if encrypted and ca_path else None,
        channel_args=[
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", _LARGEST_ANSWER),
            # gRPC would wait up to two minutes before it tries a returned server again.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ],
    )


def refused(error: grpc.RpcError) -> TritonRefusedError:
    """Return what gRPC's own error says."""
    status = str(error.code()).removeprefix("StatusCode.")
    return TritonRefusedError(status, str(error.details()))


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the client's errors into TritonRefusedError."""
    try:
        yield
    except InferenceServerException as error:
        status = str(error.status()).removeprefix("StatusCode.")
        raise TritonRefusedError(status, advised(str(error.message()))) from error
