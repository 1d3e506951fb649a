"""Tiny ONNX files with RT-DETR's inputs and outputs: what they see follows from the pixels.

Both "see" one thing in the middle of the picture: a dog whose score is the mean of the red
channel, in a box of half the picture's sides.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DOG = 16
_ROWS = 300


def deploy_graph(*, floats: bool) -> bytes:
    """Return the deploy form: images, orig_target_sizes -> labels, boxes, scores."""
    constants: dict[str, np.ndarray] = {
        "labels_row": np.full((1, _ROWS), DOG, np.int64),
        "spread": np.linspace(1, 0, _ROWS, dtype=np.float32)[np.newaxis],
        "box": np.tile(np.array([0.25, 0.25, 0.75, 0.75], np.float32), (1, _ROWS, 1)),
        "zero": np.array(0, np.int64),
        "one": np.array([1], np.int64),
        "twice": np.array([1, 2], np.int64),
    }
    scale = 1.0 if floats else 1 / 255
    nodes = [
        *_red("images", scale),
        helper.make_node("Mul", ["red", "spread"], ["scores"]),
        helper.make_node("Cast", ["orig_target_sizes"], ["sizes"], to=TensorProto.FLOAT),
        helper.make_node("Tile", ["sizes", "twice"], ["sizes_twice"]),
        helper.make_node("Unsqueeze", ["sizes_twice", "one"], ["sizes_wide"]),
        helper.make_node("Mul", ["sizes_wide", "box"], ["boxes"]),
        helper.make_node("Shape", ["scores"], ["rows"]),
        helper.make_node("Expand", ["labels_row", "rows"], ["labels"]),
    ]
    kind = TensorProto.FLOAT if floats else TensorProto.UINT8
    inputs = [_value("images", kind, [3, 640, 640])]
    inputs.append(_value("orig_target_sizes", TensorProto.INT64, [2]))
    outputs = [
        _value("labels", TensorProto.INT64, [_ROWS]),
        _value("boxes", TensorProto.FLOAT, [_ROWS, 4]),
        _value("scores", TensorProto.FLOAT, [_ROWS]),
    ]
    return _model(nodes, inputs, outputs, constants)


def hugging_face_export() -> bytes:
    """Return the other form: pixel_values -> logits, pred_boxes (centre, size as fractions)."""
    # One query is the dog; for the others every class is as good as impossible.
    none = np.full((1, _ROWS, 80), -20, np.float32)
    dog = np.zeros((1, _ROWS, 80), np.float32)
    dog[0, 7, DOG] = 1
    constants: dict[str, np.ndarray] = {
        "none": none * (1 - dog),
        "dog": dog,
        "box": np.tile(np.array([0.5, 0.5, 0.5, 0.5], np.float32), (1, _ROWS, 1)),
        "one": np.array([1], np.int64),
        "zero": np.array(0, np.float32),
    }
    nodes = [
        *_red("pixel_values", 1.0),
        # The logit whose sigmoid is the red mean: log(p / (1 - p)).
        helper.make_node("Sub", ["unit", "red"], ["rest"]),
        helper.make_node("Div", ["red", "rest"], ["odds"]),
        helper.make_node("Log", ["odds"], ["logit"]),
        helper.make_node("Unsqueeze", ["logit", "one"], ["logit_wide"]),
        helper.make_node("Mul", ["logit_wide", "dog"], ["seen"]),
        helper.make_node("Add", ["seen", "none"], ["logits"]),
        helper.make_node("Mul", ["logit_wide", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "box"], ["pred_boxes"]),
    ]
    constants["unit"] = np.array(1, np.float32)
    outputs = [
        _value("logits", TensorProto.FLOAT, [_ROWS, 80]),
        _value("pred_boxes", TensorProto.FLOAT, [_ROWS, 4]),
    ]
    inputs = [_value("pixel_values", TensorProto.FLOAT, [3, 640, 640])]
    return _model(nodes, inputs, outputs, constants)


def _red(source: str, scale: float) -> list[onnx.NodeProto]:
    """Return the nodes that give `red` [N, 1]: the mean of the first channel, from 0 to 1."""
    return [
        helper.make_node("Cast", [source], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Constant", [], ["first"], value_ints=[0]),
        helper.make_node("Gather", ["means", "first"], ["red_255"], axis=1),
        helper.make_node("Constant", [], ["scale"], value_float=scale),
        helper.make_node("Mul", ["red_255", "scale"], ["red"]),
    ]


def _value(name: str, kind: int, shape: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["N", *shape])


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, np.ndarray],
) -> bytes:
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data
