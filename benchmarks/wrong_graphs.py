"""Faults of a converter, made by editing a right ONNX graph: a part of `parity.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Weights = NDArray[np.float32]


@dataclass
class Graph:
    """A graph under the knife, with the network it was made from.

    Attributes:
        model: The graph; it is changed in place.
        network: Its Keras network.
    """

    model: onnx.ModelProto
    network: keras.Model

    def nodes(self, *kinds: str) -> list[onnx.NodeProto]:
        """Return the nodes of some operators, in the order of the graph."""
        return [node for node in self.model.graph.node if node.op_type in kinds]

    def middle(self, nodes: Sequence[onnx.NodeProto]) -> onnx.NodeProto:
        """Return the one in the middle.

        Raises:
            LookupError: There is none, so that this network cannot have the fault.
        """
        if not nodes:
            raise LookupError
        return nodes[len(nodes) // 2]

    def weights(self, name: str) -> Weights:
        """Return a copy of a constant.

        Raises:
            LookupError: There is none of that name.
        """
        for each in self.model.graph.initializer:
            if each.name == name:
                return numpy_helper.to_array(each).copy()
        raise LookupError(name)

    def replace(self, name: str, values: NDArray[Any]) -> None:
        """Give a constant other values, for all nodes that take it."""
        for each in self.model.graph.initializer:
            if each.name == name:
                each.CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))

    def insert(
        self, after: onnx.NodeProto, kind: str, *constants: NDArray[Any], **more: Any
    ) -> None:
        """Put a node behind another's output."""
        inner = f"{after.output[0]}__before_{kind}"
        names = [f"{inner}_{number}" for number in range(len(constants))]
        for name, values in zip(names, constants, strict=True):
            self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        outer, after.output[0] = after.output[0], inner
        made = helper.make_node(kind, [inner, *names], [outer], **more)
        place = [node is after for node in self.model.graph.node].index(True)
        self.model.graph.node.insert(place + 1, made)

    def convolutions(self, side: int = 1, *, depthwise: bool = True) -> list[onnx.NodeProto]:
        """Return convolutions whose kernels have at least so many rows."""
        found = []
        for node in self.nodes("Conv"):
            shape = self.weights(node.input[1]).shape
            if shape[2] >= side and (depthwise or shape[1] > 1):
                found.append(node)
        return found


def epsilon(graph: Graph) -> None:
    """Batch normalization with an epsilon of 1e-2: its convolution and bias, folded otherwise."""
    folded = [
        (node, layer)
        for node in graph.nodes("Conv")
        for layer in _layers(graph.network)
        if isinstance(layer, keras.layers.BatchNormalization) and len(node.input) == 3
        if _is_folded_into(layer, graph.weights(node.input[2]))
    ]
    if not folded:
        raise LookupError
    node, layer = folded[len(folded) // 2]
    variance = keras.ops.convert_to_numpy(layer.moving_variance)
    shift = keras.ops.convert_to_numpy(layer.beta) if layer.center else 0
    factors = np.sqrt((variance + layer.epsilon) / (variance + 1e-2))
    graph.replace(node.input[1], graph.weights(node.input[1]) * factors[:, None, None, None])
    graph.replace(node.input[2], shift + (graph.weights(node.input[2]) - shift) * factors)


def _is_folded_into(layer: keras.layers.BatchNormalization, bias: NDArray[Any]) -> bool:
    """Return whether a convolution's bias is that of a batch normalization folded into it."""
    variance, mean = (
        keras.ops.convert_to_numpy(each) for each in (layer.moving_variance, layer.moving_mean)
    )
    scale = keras.ops.convert_to_numpy(layer.gamma) if layer.scale else 1
    shift = keras.ops.convert_to_numpy(layer.beta) if layer.center else 0
    own = getattr(layer.input._keras_history.operation, "bias", None)
    before = 0 if own is None else keras.ops.convert_to_numpy(own)
    folded = shift + (before - mean) * scale / np.sqrt(variance + layer.epsilon)
    return folded.shape == bias.shape and np.allclose(folded, bias, rtol=1e-3, atol=1e-5)


def bias_dropped(graph: Graph) -> None:
    """A convolution's bias is zero."""
    node = graph.middle([node for node in graph.nodes("Conv") if len(node.input) == 3])
    graph.replace(node.input[2], 0 * graph.weights(node.input[2]))


def padding_moved(graph: Graph) -> None:
    """A convolution's padding is one pixel more below and right, one less above and left."""
    found = []
    for node in graph.nodes("Conv"):
        for attribute in node.attribute:
            if attribute.name == "pads" and min(attribute.ints) > 0:
                found.append(node)
    for attribute in graph.middle(found).attribute:
        if attribute.name == "pads":
            half = len(attribute.ints) // 2
            for place in range(half):
                attribute.ints[place] -= 1
                attribute.ints[place + half] += 1


def colours_swapped(graph: Graph) -> None:
    """BGR for RGB."""
    graph.insert(graph.nodes("Cast")[0], "Gather", np.array([2, 1, 0]), axis=3)


def scaling_left_out(graph: Graph) -> None:
    """Pixels are not multiplied."""
    name = _scale(graph)
    graph.replace(name, np.ones_like(graph.weights(name)))


def scaling_twice(graph: Graph) -> None:
    """Pixels are multiplied twice."""
    name = _scale(graph)
    graph.replace(name, graph.weights(name) ** 2)


def pooling_exchanged(graph: Graph) -> None:
    """Max for average pooling, or average for max where a network has only that."""
    exchanged = {"AveragePool": "MaxPool", "GlobalAveragePool": "GlobalMaxPool"}
    exchanged |= {} if graph.nodes(*exchanged) else {"GlobalMaxPool": "GlobalAveragePool"}
    node = graph.middle(graph.nodes(*exchanged))
    node.op_type = exchanged[node.op_type]
    kept = [each for each in node.attribute if each.name != "count_include_pad"]
    del node.attribute[:]
    node.attribute.extend(kept)


def weights_transposed(graph: Graph) -> None:
    """A kernel's rows are its columns."""
    name = graph.middle(graph.convolutions(3)).input[1]
    graph.replace(name, graph.weights(name).transpose(0, 1, 3, 2))


def neighbours_swapped(graph: Graph) -> None:
    """Two layers of the same shape have each other's weights."""
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for node in graph.nodes("Conv", "MatMul"):
        shape = graph.weights(node.input[1]).shape
        by_shape.setdefault(shape, []).append(node.input[1])
    pairs = [names for names in by_shape.values() if len(names) > 1]
    if not pairs:
        raise LookupError
    first, second = pairs[len(pairs) // 2][:2]
    weights = graph.weights(first), graph.weights(second)
    graph.replace(first, weights[1])
    graph.replace(second, weights[0])


def softmax_over_photos(graph: Graph) -> None:
    """Softmax over the batch."""
    (node,) = graph.nodes("Softmax")
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("axis", 0))


def half_precision(graph: Graph) -> None:
    """One convolution's weights are rounded to float16."""
    name = graph.middle(graph.convolutions(depthwise=False)).input[1]
    graph.replace(name, graph.weights(name).astype(np.float16))


def weights_cut_off(graph: Graph) -> None:
    """The second half of a layer's weights is missing: zeros."""
    name = graph.middle(graph.convolutions(depthwise=False)).input[1]
    weights = graph.weights(name)
    weights.reshape(-1)[weights.size // 2 :] = 0
    graph.replace(name, weights)


def relu6(graph: Graph) -> None:
    """ReLU6 for each ReLU."""
    found = graph.nodes("Relu")
    if not found:
        raise LookupError
    for node in found:
        graph.insert(node, "Clip", *np.array([0, 6], dtype=np.float32))


def slightly_heavier(graph: Graph) -> None:
    """A layer's weights are a thousandth too large."""
    name = graph.middle(graph.convolutions()).input[1]
    graph.replace(name, graph.weights(name) * np.float32(1.001))


def classes_swapped(graph: Graph) -> None:
    """The last layer's first two columns are exchanged."""
    name = graph.nodes("MatMul", "Gemm")[-1].input[1]
    weights = graph.weights(name)
    weights[:, [0, 1]] = weights[:, [1, 0]]
    graph.replace(name, weights)


FAULTS: Mapping[str, Callable[[Graph], None]] = {
    "batch-norm epsilon 1e-2": epsilon,
    "a bias dropped": bias_dropped,
    "padding moved by a pixel": padding_moved,
    "RGB swapped": colours_swapped,
    "scaling left out": scaling_left_out,
    "scaling twice": scaling_twice,
    "max for average pooling": pooling_exchanged,
    "a kernel transposed": weights_transposed,
    "neighbours' weights swapped": neighbours_swapped,
    "softmax over photos": softmax_over_photos,
    "a convolution in fp16": half_precision,
    "weights cut off": weights_cut_off,
    "ReLU6 for ReLU": relu6,
    "weights 0.1 % larger": slightly_heavier,
    "two classes swapped": classes_swapped,
}
"""By what it is called in tables. A function raises LookupError where a network cannot have it."""


def with_fault(
    model: onnx.ModelProto, network: keras.Model, fault: Callable[[Graph], None]
) -> onnx.ModelProto:
    """Return a copy of a graph with a fault.

    Raises:
        LookupError: The network has no place for it.
    """
    wrong = onnx.ModelProto()
    wrong.CopyFrom(model)
    fault(Graph(wrong, network))
    return wrong


def _scale(graph: Graph) -> str:
    """Return the name of the first factor that pixels are multiplied by."""
    for node in graph.nodes("Mul"):
        try:
            if not np.allclose(graph.weights(node.input[1]), 1):
                return str(node.input[1])
        except LookupError:
            continue
    raise LookupError


def _layers(network: keras.Model) -> Iterator[keras.Layer]:
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer
