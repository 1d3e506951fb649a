"""A Triton model of RT-DETR's contract that costs next to nothing: it says what it is told to.

Every version sees one thing in every picture: a dog in a box of half the picture's sides, whose
score its folder's `score.txt` gives; a score that is no number is a version that cannot load.
"""

import json
from pathlib import Path

MODEL = "rtdetrv2"

_CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: 16
input [
  {{ name: "images" data_type: TYPE_UINT8 dims: [ 3, 640, 640 ] }},
  {{ name: "orig_target_sizes" data_type: TYPE_INT64 dims: [ 2 ] }}
]
output [
  {{ name: "labels" data_type: TYPE_INT64 dims: [ 300 ] }},
  {{ name: "boxes" data_type: TYPE_FP32 dims: [ 300, 4 ] }},
  {{ name: "scores" data_type: TYPE_FP32 dims: [ 300 ] }}
]
instance_group [ {{ kind: KIND_CPU count: {instances} }} ]
dynamic_batching {{ max_queue_delay_microseconds: 1000 }}
version_policy: {{ specific: {{ versions: [ 1 ] }} }}
parameters {{ key: "weights" value: {{ string_value: "instant" }} }}
"""

_CODE = """\
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        folder = Path(args["model_repository"]) / args["model_version"]
        self._score = float((folder / "score.txt").read_text())
        self._labels = np.full((16, 300), 16, np.int64)
        self._scores = np.zeros((16, 300), np.float32)
        self._scores[:, 0] = self._score
        self._parts = np.tile(np.array([0.25, 0.25, 0.75, 0.75], np.float32), (16, 300, 1))

    def execute(self, requests):
        responses = []
        for request in requests:
            sizes = pb_utils.get_input_tensor_by_name(request, "orig_target_sizes").as_numpy()
            count = len(sizes)
            boxes = self._parts[:count] * np.tile(sizes, 2)[:, None, :].astype(np.float32)
            responses.append(pb_utils.InferenceResponse(output_tensors=[
                pb_utils.Tensor("labels", self._labels[:count]),
                pb_utils.Tensor("boxes", boxes),
                pb_utils.Tensor("scores", self._scores[:count]),
            ]))
        return responses
"""


_MANIFEST = {
    "model": MODEL,
    "variant": "cpu",
    "file": "model.onnx",
    "sha256": "0" * 64,
    "size": 0,
    "source": "made up",
    "installed_at": "2026-11-22T00:00:00Z",
}


def lay_out(repository: Path, scores: dict[int, str], *, name: str = MODEL) -> Path:
    """Write the model with a version for each score; version 1 is the one that is served."""
    folder = repository / name
    for version, score in scores.items():
        (folder / str(version)).mkdir(parents=True)
        (folder / str(version) / "model.py").write_text(_CODE)
        (folder / str(version) / "score.txt").write_text(score)
        made_from(folder, version, "instant")
    (folder / "config.pbtxt").write_text(_CONFIG.format(name=name, instances=1))
    return folder


def made_from(folder: Path, version: int, weights: str) -> None:
    """Let a version's manifest say which weights it was made from."""
    manifest = {**_MANIFEST, "version": version, "weights": weights}
    (folder / str(version) / "manifest.json").write_text(json.dumps(manifest))
