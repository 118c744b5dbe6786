"""Puts weights into a graph that was converted without them, and folds what they make constant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

Constants = dict[str, NDArray[Any]]


def put_weights(graph: onnx.GraphProto, weights: Constants) -> None:
    """Replace inputs of a graph by constants, and fold what becomes constant with them.

    Nodes of constants are computed, and scales and offsets of channels go into convolutions. The
    weights become messages of the graph only at the end: a graph never gives memory back.

    Args:
        graph: Changed in place; its nodes are in topological order.
        weights: Values by the names of the inputs. Emptied, to free each as soon as it is used.
    """
    inputs = [value for value in graph.input if value.name not in weights]
    _replace(graph.input, inputs)
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    while weights:
        name, values = weights.popitem()
        constants[name] = values
    _compute(graph, constants)
    _take_into_convolutions(graph, constants)
    _replace(graph.initializer, [])
    read = _readers(graph)
    while constants:
        name, values = constants.popitem()
        if name in read:
            graph.initializer.append(numpy_helper.from_array(np.asarray(values, order="C"), name))


def _compute(graph: onnx.GraphProto, constants: Constants) -> None:
    readers = _readers(graph)
    outputs = {value.name for value in graph.output}
    remaining = []
    for node in graph.node:
        names = [name for name in node.input if name]
        known = names and all(name in constants for name in names)
        if not known or outputs.intersection(node.output):
            remaining.append(node)
            continue
        given = {name: constants[name] for name in names}
        computed: Any = ReferenceEvaluator(node).run(None, given)
        constants.update(zip(node.output, computed, strict=True))
        for name in names:
            readers[name] -= 1
            if not readers[name]:
                constants.pop(name, None)
    _replace(graph.node, remaining)


def _take_into_convolutions(graph: onnx.GraphProto, constants: Constants) -> None:
    """Fold `Conv -> Mul -> Add`, as batch normalization is converted, into the convolution.

    What leaves the convolution as a product is the same in exact arithmetic. In float32 it is as
    good: it has one rounding less.
    """
    readers = _readers(graph)
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
    _replace(graph.node, remaining)


def _convolution_and_values(
    node: onnx.NodeProto,
    convolutions: Mapping[str, onnx.NodeProto],
    constants: Mapping[str, NDArray[Any]],
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
            channels = constants[convolution.input[1]].shape[0]
            values = _by_channel(constants[other], channels)
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


def _scale(convolution: onnx.NodeProto, factors: NDArray[np.float32], constants: Constants) -> None:
    # Nobody else reads the kernel, and it may be large.
    weights = constants.pop(convolution.input[1])
    _set(convolution, 1, weights * factors[:, None, None, None], constants)
    if len(convolution.input) == 3:
        _set(convolution, 2, constants[convolution.input[2]] * factors, constants)


def _shift(convolution: onnx.NodeProto, offsets: NDArray[np.float32], constants: Constants) -> None:
    if len(convolution.input) == 3:
        offsets = constants[convolution.input[2]] + offsets
    else:
        convolution.input.append("")
    _set(convolution, 2, offsets, constants)


def _set(
    convolution: onnx.NodeProto, index: int, values: NDArray[np.float32], constants: Constants
) -> None:
    name = f"{convolution.output[0]}:{'weights' if index == 1 else 'bias'}"
    constants[name] = values
    convolution.input[index] = name


def _readers(graph: onnx.GraphProto) -> Counter[str]:
    """Count by whom each value is read; the graph's outputs are read by its user."""
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(value.name for value in graph.output)
    return readers


def _replace(messages: Any, kept: Sequence[Any]) -> None:
    """Leave only some of the messages of a repeated field."""
    copies = [type(message).FromString(message.SerializeToString()) for message in kept]
    del messages[:]
    messages.extend(copies)
