"""Triton Python backend: JPEG bytes become 640 x 640 pictures and their true sizes.

Runs inside Triton's stub with an environment of its own: numpy below 2 and Pillow, none of our
packages. A picture that cannot be used is the error of its own request, not of the whole batch.
"""

import io
import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image, ImageOps

_SIDE = 640


class TritonPythonModel:
    """One instance; it keeps nothing between two requests."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the limit on a picture's size from the model's configuration."""
        parameters = json.loads(args["model_config"])["parameters"]
        self._megapixels = int(parameters["megapixels"]["string_value"])
        # Our own limit is stricter and has a message of its own.
        Image.MAX_IMAGE_PIXELS = None

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request by itself."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:  # noqa: ANN401 - Triton's own class
        encoded = pb_utils.get_input_tensor_by_name(request, "encoded").as_numpy()
        try:
            decoded = [self._decode(data) for data in encoded[:, 0]]
        except (OSError, ValueError, SyntaxError) as error:
            failed = pb_utils.TritonError(f"not a JPEG picture that can be used: {error}")
            return pb_utils.InferenceResponse(error=failed)
        images = np.stack([image for image, _ in decoded])
        sizes = np.array([size for _, size in decoded], np.int64)
        return pb_utils.InferenceResponse(
            output_tensors=[
                pb_utils.Tensor("images", images),
                pb_utils.Tensor("orig_target_sizes", sizes),
            ]
        )

    def _decode(self, data: bytes) -> tuple[np.ndarray, tuple[int, int]]:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            size = picture.size
            if size[0] * size[1] > self._megapixels * 1_000_000:
                raise ValueError(f"{size[0]} x {size[1]} is above {self._megapixels} megapixels")
            # Boxes are given in the upright picture's pixels, whatever the camera's EXIF says.
            upright = ImageOps.exif_transpose(picture).convert("RGB")
        small = upright.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1)), upright.size
