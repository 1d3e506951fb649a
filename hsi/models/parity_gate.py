"""The gate before a plan: what it sees through Triton beside what its graph sees.

The candidate is sent to the server as an extra model under a name of its own, asked about real
pictures, and taken away again; the server's repository and its served versions stay as they are.
"""

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from google.protobuf import json_format, text_format
from tritonclient.grpc import aio as grpc_aio
from tritonclient.grpc.model_config_pb2 import ModelConfig

from domain.errors import PermanentError, ServiceUnavailableError
from hsi.models import real_pictures
from hsi.models.real_pictures import NAMES, Pictures
from inference.model_control import LOAD_SECONDS
from inference.parity import HALF_PRECISION, Parity, Seen, compare
from inference.repository import Candidate
from inference.triton_channel import TritonRefusedError, connect, refusals
from inference.version_policy import CONFIG

GATE_MODEL: Final = "rtdetrv2_gate"
_INFER_SECONDS = 120.0
_TYPES = {"images": "UINT8", "orig_target_sizes": "INT64"}


async def judge(
    url: str,
    ca_path: Path | None,
    candidate: Candidate,
    reference: Path,
    pictures: Pictures,
    templates: Path,
) -> Parity:
    """Return how the candidate, served by the Triton at `url`, compares with the graph.

    `ca_path` is the authority behind grpcs://, None for the system's. Raises PermanentError where
    the server cannot load or run it, ServiceUnavailableError where it does not answer.
    """
    expected = real_pictures.seen_by_graph(reference, pictures)
    async with AsyncExitStack() as stack:
        client = connect(url, ca_path)
        stack.push_async_callback(client.close)
        try:
            with refusals():
                seen = await _asked(client, candidate, pictures, templates)
        except TritonRefusedError as error:
            said = f"the Triton at {url} cannot run {candidate.path}: {error}"
            if error.status in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                raise ServiceUnavailableError("detector", said) from error
            raise PermanentError(said) from error
    return compare(expected, seen, pictures.longer_sides, HALF_PRECISION)


async def _asked(
    client: Any,  # noqa: ANN401 - tritonclient's
    candidate: Candidate,
    pictures: Pictures,
    templates: Path,
) -> list[Seen]:
    config, files = _to_send(candidate, templates)
    await client.load_model(GATE_MODEL, config=config, files=files, client_timeout=LOAD_SECONDS)
    try:
        seen: list[Seen] = []
        while len(seen) < len(pictures.images):
            # Alone first, then in the batches that production prefers.
            seen += await _infer(client, pictures, len(seen), 1 if not seen else 4)
        return seen
    finally:
        await client.unload_model(GATE_MODEL)


async def _infer(client: Any, pictures: Pictures, start: int, count: int) -> list[Seen]:  # noqa: ANN401
    rows = slice(start, start + count)
    given = {"images": pictures.images[rows], "orig_target_sizes": pictures.sizes[rows]}
    inputs = []
    for name, array in given.items():
        entry = grpc_aio.InferInput(name, array.shape, _TYPES[name])
        entry.set_data_from_numpy(array)
        inputs.append(entry)
    answer = await client.infer(GATE_MODEL, inputs, client_timeout=_INFER_SECONDS)
    return real_pictures.seen_in({name: answer.as_numpy(name) for name in NAMES})


def _to_send(candidate: Candidate, templates: Path) -> tuple[str, dict[str, bytes]]:
    """Return the variant's configuration and the files of one version, as Triton takes them."""
    variant = candidate.variant
    template = templates / variant.template
    config = ModelConfig()
    text_format.Parse((template / CONFIG).read_text(), config)
    for output in config.output:
        # Labels are texts for people; the gate compares numbers.
        output.ClearField("label_filename")
    files = {f"file:1/{variant.file}": candidate.path.read_bytes()}
    files |= {f"file:1/{name}": (template / name).read_bytes() for name in variant.beside}
    told = json_format.MessageToDict(config, preserving_proto_field_name=True)
    return json.dumps(told), files
