"""Turns the fall-back detector's TensorFlow.js files into one ONNX file, with numpy and onnx only.

The source is SSDLite-MobileNetV2 on COCO as a frozen TensorFlow graph: a JSON list of nodes and
the weights cut into shards. Only the network between the normalised picture and the two heads is
translated, node by node; what surrounds it (a while loop that resizes one picture at a time, box
decoding) is replaced by a few ONNX nodes. The result takes and gives

    images  uint8   [N, 300, 300, 3]   RGB
    boxes   float32 [N, 1917, 4]       left, top, right, bottom as fractions of the input square
    scores  float32 [N, 1917, 80]      one sigmoid a class, in the order of inference.labels
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from domain.errors import PermanentError
from inference.labels import COCO_PAPER_IDS

SIDE = 300
OPSET = 17
_PICTURE = "Preprocessor/sub"
_BOXES = "concat"
_SCORES = "concat_1"

Array = NDArray[Any]
_Attribute = int | float | str | list[int]


class _Weight(msgspec.Struct):
    name: str
    shape: list[int]
    dtype: str


class _WeightGroup(msgspec.Struct):
    paths: list[str]
    weights: list[_Weight]


class _TfNode(msgspec.Struct):
    name: str
    op: str
    input: list[str] = []
    attr: dict[str, Any] = {}


class _Topology(msgspec.Struct):
    node: list[_TfNode]


class _TfjsModel(msgspec.Struct):
    modelTopology: _Topology  # noqa: N815 - the file's own spelling
    weightsManifest: list[_WeightGroup]  # noqa: N815


def convert(model_json: Path, *, name: str, version: str) -> bytes:
    """Return the ONNX file for the model whose `model.json` this is (shards lie beside it)."""
    try:
        source = msgspec.json.decode(model_json.read_bytes(), type=_TfjsModel)
        builder = _Builder(source, _read_weights(model_json.parent, source))
        graph = builder.build()
    except (msgspec.DecodeError, KeyError, ValueError) as error:
        raise PermanentError(
            f"{model_json} is not the SSDLite-MobileNetV2 graph we know: {error}"
        ) from error
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 9
    model.producer_name = "hsi"
    helper.set_model_props(model, {"name": name, "version": version})
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _read_weights(folder: Path, source: _TfjsModel) -> dict[str, Array]:
    weights: dict[str, Array] = {}
    for group in source.weightsManifest:
        data = b"".join((folder / path).read_bytes() for path in group.paths)
        offset = 0
        for weight in group.weights:
            dtype = np.dtype(weight.dtype).newbyteorder("<")
            count = int(np.prod(weight.shape))
            array = np.frombuffer(data, dtype, count, offset)
            weights[weight.name] = array.reshape(weight.shape)
            offset += count * dtype.itemsize
        if offset != len(data):
            raise ValueError(f"the shards hold {len(data)} bytes, the list names {offset}")
    return weights


class _Builder:
    """Collects ONNX nodes while it walks the TensorFlow graph back from the two heads."""

    def __init__(self, source: _TfjsModel, weights: dict[str, Array]) -> None:
        self._tf = {node.name: node for node in source.modelTopology.node}
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._done: set[str] = set()
        self._translate: dict[str, Callable[[_TfNode], None]] = {
            "Conv2D": self._conv,
            "DepthwiseConv2dNative": self._conv,
            "Relu6": self._relu6,
            "Add": self._add,
            "AddN": self._add,
            "BiasAdd": self._add,
            "Mul": self._multiply,
            "FusedBatchNorm": self._batch_norm,
            "Reshape": self._head,
            "ConcatV2": self._concat,
        }

    def build(self) -> onnx.GraphProto:
        self._normalise()
        for output in (_BOXES, _SCORES):
            self._visit(output)
        self._decode_boxes()
        self._pick_scores()
        images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", SIDE, SIDE, 3])
        outputs = [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", None, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", None, 80]),
        ]
        constants = list(self._constants.values())
        return helper.make_graph(self._nodes, "ssdlite", [images], outputs, constants)

    # --- the network, node by node ----------------------------------------------------------

    def _visit(self, name: str) -> None:
        """Translate `name` after everything it needs (the graph is some 150 nodes deep)."""
        if name in self._done or name in self._weights:
            return
        node = self._tf[name]
        translate = self._translate.get(node.op)
        if translate is None:
            raise ValueError(f"node {name} has the operation {node.op}, which is not expected")
        for source in self._tensors(node):
            self._visit(source)
        translate(node)
        self._done.add(name)

    @staticmethod
    def _tensors(node: _TfNode) -> list[str]:
        """Return the inputs that are data (a head's reshape takes its shape from a subgraph)."""
        return node.input[:1] if node.op == "Reshape" else node.input

    def _conv(self, node: _TfNode) -> None:
        depthwise = node.op == "DepthwiseConv2dNative"
        kernel = self._weights[node.input[1]]
        group = 1
        if depthwise:
            height, width, channels, multiplier = kernel.shape
            group = channels
            kernel = kernel.transpose(2, 3, 0, 1).reshape(-1, 1, height, width)
            if multiplier != 1:
                raise ValueError(f"node {node.name} multiplies channels by {multiplier}")
        else:
            kernel = kernel.transpose(3, 2, 0, 1)
        strides = [int(step) for step in node.attr["strides"]["list"]["i"][1:3]]
        if bytes(node.attr["padding"]["s"]) != b"SAME":
            raise ValueError(f"node {node.name} has a padding other than SAME")
        inputs = [node.input[0], self._constant(f"{node.name}/kernel", kernel)]
        self._node("Conv", inputs, node.name, strides=strides, group=group, auto_pad="SAME_UPPER")

    def _relu6(self, node: _TfNode) -> None:
        low = self._constant("relu6/low", np.float32(0))
        high = self._constant("relu6/high", np.float32(6))
        self._node("Clip", [node.input[0], low, high], node.name)

    def _add(self, node: _TfNode) -> None:
        self._node("Add", self._channelwise(node), node.name)

    def _multiply(self, node: _TfNode) -> None:
        self._node("Mul", self._channelwise(node), node.name)

    def _channelwise(self, node: _TfNode) -> list[str]:
        """Return the operands; a constant a channel is shaped for channels-first pictures."""
        operands = []
        for name in node.input:
            if name in self._weights:
                values = self._weights[name].reshape(-1, 1, 1)
                name = self._constant(f"{name}/channelwise", values)
            operands.append(name)
        return operands

    def _batch_norm(self, node: _TfNode) -> None:
        constants = [self._constant(name, self._weights[name]) for name in node.input[1:]]
        epsilon = float(node.attr["epsilon"]["f"])
        inputs = [node.input[0], *constants]
        self._node("BatchNormalization", inputs, node.name, epsilon=epsilon)

    def _head(self, node: _TfNode) -> None:
        """Lay one head's values out as one row an anchor."""
        channels_last = f"{node.name}/channels_last"
        self._node("Transpose", [node.input[0]], channels_last, perm=[0, 2, 3, 1])
        columns = 91 if node.name.endswith("_1") else 4
        shape = self._constant(f"rows_of_{columns}", np.array([0, -1, columns], np.int64))
        self._node("Reshape", [channels_last, shape], node.name)

    def _concat(self, node: _TfNode) -> None:
        self._done.add(node.input[-1])
        self._node("Concat", node.input[:-1], node.name, axis=1)

    # --- what stands before and behind the network ------------------------------------------

    def _normalise(self) -> None:
        scale = self._constant("scale", self._weights["Preprocessor/mul/x"])
        shift = self._constant("shift", self._weights["Preprocessor/sub/y"])
        self._node("Cast", ["images"], "pixels", to=TensorProto.FLOAT)
        self._node("Transpose", ["pixels"], "channels_first", perm=[0, 3, 1, 2])
        self._node("Mul", ["channels_first", scale], "scaled")
        self._node("Sub", ["scaled", shift], _PICTURE)
        self._done.add(_PICTURE)

    def _decode_boxes(self) -> None:
        """Move and stretch the anchors; TensorFlow's order is top, left, bottom, right."""
        anchors = self._weights["Postprocessor/ExpandDims"]
        sizes = anchors[..., 2:] - anchors[..., :2]
        centres = anchors[..., :2] + sizes / 2
        move = self._weights["ConstantFolding/Postprocessor/Decode/div_recip"]
        stretch = self._weights["ConstantFolding/Postprocessor/Decode/div_2_recip"]
        halves = self._constant("halves", np.array([2, 2], np.int64))
        self._node("Split", [_BOXES, halves], "moves", "stretches", axis=2)
        self._node("Mul", ["moves", self._constant("move", move * sizes)], "moved")
        self._node("Add", ["moved", self._constant("centres", centres)], "box_centres")
        self._node("Mul", ["stretches", self._constant("stretch", stretch)], "log_sizes")
        self._node("Exp", ["log_sizes"], "stretched")
        half_sizes = self._constant("half_sizes", sizes / 2)
        self._node("Mul", ["stretched", half_sizes], "box_halves")
        self._node("Sub", ["box_centres", "box_halves"], "top_left")
        self._node("Add", ["box_centres", "box_halves"], "bottom_right")
        self._node("Concat", ["top_left", "bottom_right"], "boxes_rows_first", axis=2)
        order = self._constant("order", np.array([1, 0, 3, 2], np.int64))
        self._node("Gather", ["boxes_rows_first", order], "boxes", axis=2)

    def _pick_scores(self) -> None:
        classes = self._constant("classes", np.array(COCO_PAPER_IDS, np.int64))
        self._node("Gather", [_SCORES, classes], "logits", axis=2)
        self._node("Sigmoid", ["logits"], "scores")

    # --- ONNX pieces ------------------------------------------------------------------------

    def _constant(self, name: str, values: Array | np.generic) -> str:
        if name not in self._constants:
            array = np.ascontiguousarray(values).reshape(np.shape(values))
            self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def _node(self, op: str, inputs: list[str], *outputs: str, **attributes: _Attribute) -> None:
        self._nodes.append(helper.make_node(op, inputs, list(outputs), **attributes))
