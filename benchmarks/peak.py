"""What a network costs in multiply-adds, and how many a second this machine reaches at most."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import numpy as np
import onnx
import onnxruntime

from toolkit.machine import usable_cores

PEAK_SIDE = 2048


def multiply_adds(path: Path) -> int:
    """Count the multiply-adds of one image in a network's convolutions and matrix products."""
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {each.name: list(each.dims) for each in graph.initializer}
    for value in (*graph.value_info, *graph.output):
        shapes[value.name] = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    total = 0
    for node in graph.node:
        if node.op_type not in ("Conv", "MatMul", "Gemm"):
            continue
        weight = shapes[node.input[1]]
        transposed = any(each.name == "transB" and each.i for each in node.attribute)
        summed = weight[1:] if node.op_type == "Conv" else [weight[-1 if transposed else -2]]
        cost = int(np.prod(shapes[node.output[0]])) * int(np.prod(summed))
        if not cost:
            raise ValueError(f"{path}: the shapes round {node.name} are not known")
        total += cost
    return total


def matrix_multiply() -> onnxruntime.InferenceSession:
    """Return a float32 matrix product on all cores, by the library that runs the members."""
    shape = [PEAK_SIDE, PEAK_SIDE]
    a, b, c = (onnx.helper.make_tensor_value_info(name, 1, shape) for name in "abc")
    node = onnx.helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = onnx.helper.make_graph([node], "matmul", [a, b], [c])
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def peak_samples(session: onnxruntime.InferenceSession, repeats: int = 5) -> list[float]:
    """Measure multiply-adds a second, after a run that does not count."""
    generator = np.random.default_rng(0)
    fed = {name: generator.random((PEAK_SIDE, PEAK_SIDE), dtype=np.float32) for name in "ab"}
    session.run(None, fed)
    samples = []
    for _ in range(repeats):
        started = perf_counter()
        session.run(None, fed)
        samples.append(PEAK_SIDE**3 / (perf_counter() - started))
    return samples
