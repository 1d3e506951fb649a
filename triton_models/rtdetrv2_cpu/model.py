"""Triton Python backend: RT-DETRv2's deploy graph, `model.onnx` beside this file, on the CPU.

Runs inside Triton's stub with an environment of its own: numpy below 2 and onnxruntime, none of
our packages.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

_OUTPUTS = ("labels", "boxes", "scores")


class TritonPythonModel:
    """One instance: one session."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the session; a missing file stops the load with a message that names it."""
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        if not path.is_file():
            raise pb_utils.TritonModelException(f"{path} is missing: put RT-DETRv2's ONNX there")
        parameters = json.loads(args["model_config"]).get("parameters", {})
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters["threads"]["string_value"])
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        types = {entry.name: entry.type for entry in self._session.get_inputs()}
        self._wants_floats = types["images"] == "tensor(float)"

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run the requests that Triton grouped as one batch, and cut the answer up again.

        An exception becomes the error that each of these requests gets.
        """
        images = [_input(request, "images") for request in requests]
        sizes = [_input(request, "orig_target_sizes") for request in requests]
        batch = np.concatenate(images)
        if self._wants_floats:
            batch = batch.astype(np.float32) / np.float32(255)
        feeds = {"images": batch, "orig_target_sizes": np.concatenate(sizes)}
        outputs = self._session.run(_OUTPUTS, feeds)
        responses = []
        start = 0
        for image in images:
            responses.append(_response(outputs, slice(start, start + len(image))))
            start += len(image)
        return responses


def _input(request: Any, name: str) -> np.ndarray:  # noqa: ANN401 - Triton's own class
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()


def _response(outputs: list[np.ndarray], rows: slice) -> Any:  # noqa: ANN401 - Triton's own class
    tensors = [
        pb_utils.Tensor(name, np.ascontiguousarray(values[rows]))
        for name, values in zip(_OUTPUTS, outputs, strict=True)
    ]
    return pb_utils.InferenceResponse(output_tensors=tensors)
