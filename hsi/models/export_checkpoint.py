"""Runs in the exporter's own environment: an RT-DETRv2 checkpoint becomes a deploy graph.

Our rooms never import this file: torch and transformers are not among our dependencies.
`hsi models export` calls it by path, as

    python -I export_checkpoint.py CHECKPOINT PICTURES.npz GRAPH.onnx REFERENCE.npz

PICTURES holds `images` (uint8 [n, 3, 640, 640], RGB) and `sizes` ([n, 2], width and height).
GRAPH becomes the network with the contract of inference/triton.py. REFERENCE becomes what the
checkpoint itself sees in these pictures, by the library's own pre- and post-processing, so that
the caller can compare the two.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import RTDetrImageProcessorPil, RTDetrV2ForObjectDetection

OPSET = 17
"""Below it LayerNorm falls apart into steps that overflow in FP16."""
MOST_BOXES = 300
INPUTS = ("images", "orig_target_sizes")
OUTPUTS = ("labels", "boxes", "scores")


class Deploy(torch.nn.Module):  # type: ignore[misc]
    """The network between UINT8 pictures and the 300 best of (query, class)."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - a class of the library
        super().__init__()
        self.model = model

    def forward(self, images: Any, orig_target_sizes: Any) -> tuple[Any, Any, Any]:  # noqa: ANN401
        """Return labels, boxes (left, top, right, bottom in the picture's pixels) and scores."""
        seen = self.model(pixel_values=images.to(torch.float32) * (1 / 255))
        classes = seen.logits.shape[2]
        scores, best = torch.topk(seen.logits.sigmoid().flatten(1), MOST_BOXES, dim=1)
        queries = torch.div(best, classes, rounding_mode="floor")
        chosen = seen.pred_boxes.gather(1, queries.unsqueeze(2).expand(-1, -1, 4))
        middle, half = chosen[:, :, :2], chosen[:, :, 2:] / 2
        corners = torch.cat([middle - half, middle + half], dim=2)
        boxes = corners * orig_target_sizes.to(torch.float32).repeat(1, 2).unsqueeze(1)
        return best - queries * classes, boxes, scores


def main(checkpoint: str, pictures: str, graph: str, reference: str) -> None:
    """Load the checkpoint once, say what it sees, and export it."""
    torch.manual_seed(0)
    # Only safetensors: a pickled checkpoint could run code of its own.
    model = RTDetrV2ForObjectDetection.from_pretrained(
        checkpoint, local_files_only=True, use_safetensors=True, dtype=torch.float32
    ).eval()
    given = np.load(pictures)
    with torch.inference_mode():
        np.savez(reference, **_seen(model, given["images"], given["sizes"]))
    with torch.no_grad():
        _export(model, Path(graph))


def _seen(model: Any, images: Any, sizes: Any) -> dict[str, Any]:  # noqa: ANN401
    processor = RTDetrImageProcessorPil()
    rows: dict[str, list[Any]] = {name: [] for name in OUTPUTS}
    for image, (width, height) in zip(images, sizes, strict=True):
        inputs = processor(images=[image], do_resize=False, return_tensors="pt")
        outputs = model(**inputs)
        # The library wants height before width here; the deploy graph takes width before height.
        (found,) = processor.post_process_object_detection(
            outputs, threshold=0.0, target_sizes=torch.tensor([[height, width]])
        )
        for name in OUTPUTS:
            rows[name].append(found[name].numpy())
    return {name: np.stack(values) for name, values in rows.items()}


def _export(model: Any, graph: Path) -> None:  # noqa: ANN401
    # Two pictures, not one: a batch of one could be folded into the graph as a constant.
    example = (
        torch.zeros((2, 3, 640, 640), dtype=torch.uint8),
        torch.tensor([[1920, 1080], [640, 480]], dtype=torch.int64),
    )
    torch.onnx.export(
        Deploy(model),
        example,
        graph,
        dynamo=False,
        opset_version=OPSET,
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        dynamic_axes={name: {0: "batch"} for name in (*INPUTS, *OUTPUTS)},
        do_constant_folding=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
