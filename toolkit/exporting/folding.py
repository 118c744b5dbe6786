"""Puts weights into a graph that was converted without them, and folds what they make constant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator


def put_weights(graph: onnx.GraphProto, weights: Mapping[str, NDArray[Any]]) -> None:
    """Replace inputs of a graph by constants.

    Args:
        graph: Changed in place.
        weights: Values by the names of the inputs.
    """
    kept = [value for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(kept)
    read = {name for node in graph.node for name in node.input}
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(values), name)
        for name, values in weights.items()
        if name in read
    )


def fold_constants(graph: onnx.GraphProto) -> None:
    """Compute nodes of constants, and take scales and offsets of channels into convolutions.

    Args:
        graph: Changed in place; its nodes are in topological order, and all its weights are
            initializers.
    """
    constants = {each.name: each for each in graph.initializer}
    _compute(graph, constants)
    _take_into_convolutions(graph, constants)
    read = {name for node in graph.node for name in node.input}
    del graph.initializer[:]
    graph.initializer.extend(each for name, each in constants.items() if name in read)


def _compute(graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto]) -> None:
    outputs = {value.name for value in graph.output}
    remaining = []
    for node in graph.node:
        known = node.input and all(name in constants for name in node.input if name)
        if not known or outputs.intersection(node.output):
            remaining.append(node)
            continue
        given = {name: numpy_helper.to_array(constants[name]) for name in node.input if name}
        computed = ReferenceEvaluator(node).run(None, given)
        for name, values in zip(node.output, computed, strict=True):
            constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
    _replace_nodes(graph, remaining)


def _take_into_convolutions(graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto]) -> None:
    """Fold `Conv -> Mul -> Add`, as batch normalization is converted, into the convolution.

    What leaves the convolution as a product is the same in exact arithmetic. In float32 it is as
    good: it has one rounding less.
    """
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(value.name for value in graph.output)
    weights_read = Counter(node.input[1] for node in graph.node if node.op_type == "Conv")
    convolutions: dict[str, onnx.NodeProto] = {}
    remaining = []
    for node in graph.node:
        taken = _convolution_and_values(node, convolutions, constants, readers)
        if taken is None:
            remaining.append(node)
            if node.op_type == "Conv" and weights_read[node.input[1]] == 1:
                convolutions[node.output[0]] = node
            continue
        convolution, values = taken
        if node.op_type == "Mul":
            _scale(convolution, values, constants)
        else:
            _shift(convolution, values, constants)
        del convolutions[convolution.output[0]]
        convolution.output[0] = node.output[0]
        convolutions[node.output[0]] = convolution
    _replace_nodes(graph, remaining)


def _convolution_and_values(
    node: onnx.NodeProto,
    convolutions: Mapping[str, onnx.NodeProto],
    constants: Mapping[str, onnx.TensorProto],
    readers: Mapping[str, int],
) -> tuple[onnx.NodeProto, NDArray[np.float32]] | None:
    """Return the convolution that a node scales or shifts, and by what for each channel."""
    if node.op_type not in ("Mul", "Add"):
        return None
    for name, other in (tuple(node.input), tuple(node.input)[::-1]):
        if name in convolutions and other in constants and readers[name] == 1:
            convolution = convolutions[name]
            if not all(each in constants for each in convolution.input[1:]):
                return None
            channels = constants[convolution.input[1]].dims[0]
            values = _by_channel(numpy_helper.to_array(constants[other]), channels)
            return None if values is None else (convolution, values)
    return None


def _by_channel(values: NDArray[Any], channels: int) -> NDArray[np.float32] | None:
    """Return one value for each channel of an NCHW tensor, or None where there is not one each."""
    if values.dtype != np.float32 or values.ndim > 4:
        return None
    shape = (1,) * (4 - values.ndim) + values.shape
    if shape not in ((1, channels, 1, 1), (1, 1, 1, 1)):
        return None
    return np.broadcast_to(values.reshape(-1), (channels,)).astype(np.float32)


def _scale(
    convolution: onnx.NodeProto,
    factors: NDArray[np.float32],
    constants: dict[str, onnx.TensorProto],
) -> None:
    weights = numpy_helper.to_array(constants[convolution.input[1]])
    _set(convolution, 1, weights * factors[:, None, None, None], constants)
    if len(convolution.input) == 3:
        offsets = numpy_helper.to_array(constants[convolution.input[2]])
        _set(convolution, 2, offsets * factors, constants)


def _shift(
    convolution: onnx.NodeProto,
    offsets: NDArray[np.float32],
    constants: dict[str, onnx.TensorProto],
) -> None:
    if len(convolution.input) == 3:
        offsets = numpy_helper.to_array(constants[convolution.input[2]]) + offsets
    else:
        convolution.input.append("")
    _set(convolution, 2, offsets, constants)


def _set(
    convolution: onnx.NodeProto,
    index: int,
    values: NDArray[np.float32],
    constants: dict[str, onnx.TensorProto],
) -> None:
    name = f"{convolution.output[0]}:{'weights' if index == 1 else 'bias'}"
    if name != convolution.input[index] and index == 1:
        del constants[convolution.input[index]]  # Nobody else reads it, and it may be large.
    constants[name] = numpy_helper.from_array(values, name)
    convolution.input[index] = name


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
