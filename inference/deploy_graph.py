"""An ONNX file in the form that Triton serves: its contract, and what it says about itself.

The contract is the one of inference/triton.py: UINT8 `images` and (w, h) `orig_target_sizes` in,
`labels`, `boxes` and `scores` of the best 300 out, any number of pictures at once.
"""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from domain.errors import PermanentError

OPSET = 17
ROWS = 300
_TYPES = onnx.TensorProto
_INPUTS = {
    "images": (_TYPES.UINT8, (3, 640, 640)),
    "orig_target_sizes": (_TYPES.INT64, (2,)),
}
_OUTPUTS = {
    "labels": (_TYPES.INT64, (ROWS,)),
    "boxes": (_TYPES.FLOAT, (ROWS, 4)),
    "scores": (_TYPES.FLOAT, (ROWS,)),
}


def check(path: Path) -> str:
    """Return which weights the graph was made from (empty: it does not say).

    Raises PermanentError where the file is no ONNX or breaks the contract, with both contracts.
    """
    model = _load(path)
    graph = model.graph
    given = _shown(graph.input), _shown(graph.output)
    if not (_keeps(graph.input, _INPUTS) and _keeps(graph.output, _OUTPUTS)):
        raise PermanentError(
            f"{path} takes {given[0]} and gives {given[1]}; wanted are images uint8 [N,3,640,640] "
            "and orig_target_sizes int64 [N,2] -> labels int64 [N,300], boxes float [N,300,4] and "
            "scores float [N,300], with N left open: make it with `hsi models export`"
        )
    told: dict[str, str] = {entry.key: entry.value for entry in model.metadata_props}
    return told.get("version", "")


def finish(source: Path, target: Path, metadata: dict[str, str]) -> None:
    """Write `source` as `target` with what it says about itself and with its outputs' shapes.

    The exporter leaves the outputs' rows as unknown, which TensorRT and Triton do not need, but
    the contract is checked against them.
    """
    model = _load(source)
    for value in model.graph.output:
        expected = _OUTPUTS.get(value.name)
        if expected is None or len(value.type.tensor_type.shape.dim) != 1 + len(expected[1]):
            raise PermanentError(f"{source} gives {_shown([value])}: the exporter went wrong")
        for entry, size in zip(value.type.tensor_type.shape.dim[1:], expected[1], strict=True):
            entry.dim_value = size
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, target)


def _load(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path)
    except OSError as error:
        raise PermanentError(f"{path} cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise PermanentError(f"{path} is not an ONNX file") from error
    if not model.graph.input:
        raise PermanentError(f"{path} is not an ONNX file: it holds no graph")
    return model


def _keeps(
    values: list[onnx.ValueInfoProto], wanted: dict[str, tuple[int, tuple[int, ...]]]
) -> bool:
    return {value.name: _signature(value) for value in values} == wanted


def _signature(value: onnx.ValueInfoProto) -> tuple[int, tuple[int, ...]]:
    """Return the type and the dimensions after the first, none where the first is fixed."""
    tensor = value.type.tensor_type
    dimensions = [entry.dim_value for entry in tensor.shape.dim]
    fixed = not dimensions or dimensions[0] > 0
    return tensor.elem_type, () if fixed else tuple(dimensions[1:])


def _shown(values: list[onnx.ValueInfoProto]) -> str:
    shown = []
    for value in values:
        tensor = value.type.tensor_type
        sizes = ",".join(str(entry.dim_value or "N") for entry in tensor.shape.dim)
        shown.append(f"{value.name} {_TYPES.DataType.Name(tensor.elem_type).lower()} [{sizes}]")
    return ", ".join(shown) or "nothing"
