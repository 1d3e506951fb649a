"""Runs in TensorRT for RTX's environment: parse an ONNX file, compile it for batches 1 to 16."""

import json
import sys

import tensorrt_rtx as trt


def main(graph: str) -> None:
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse_from_file(graph)
    errors = [str(parser.get_error(index)) for index in range(parser.num_errors)]
    result = {"errors": errors, "engine_bytes": 0}
    if parsed:
        config = builder.create_builder_config()
        profile = builder.create_optimization_profile()
        for name, rest in (("images", (3, 640, 640)), ("orig_target_sizes", (2,))):
            profile.set_shape(name, (1, *rest), (8, *rest), (16, *rest))
        config.add_optimization_profile(profile)
        engine = builder.build_serialized_network(network, config)
        inputs = [network.get_input(index) for index in range(network.num_inputs)]
        outputs = [network.get_output(index) for index in range(network.num_outputs)]
        result["inputs"] = {tensor.name: list(tensor.shape) for tensor in inputs}
        result["outputs"] = {tensor.name: list(tensor.shape) for tensor in outputs}
        result["engine_bytes"] = 0 if engine is None else engine.nbytes
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
