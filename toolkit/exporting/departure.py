"""Finds the first layer of a network whose output an ONNX file does not compute."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray

from toolkit.data.pixels import Pixels
from toolkit.errors import ToolkitError
from toolkit.exporting.graphs import open_graph, read_graph, run_graph, show
from toolkit.exporting.reference import Reference
from toolkit.exporting.rule import Figure
from toolkit.inference.bundle import INPUT

_FOLDED = ("ZeroPadding2D", "Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Normalization")
"""Layers that the converter makes one with what follows: their own outputs are not in the file."""


@dataclass(frozen=True)
class _Layer:
    """A layer's output for one image, computed twice.

    Attributes:
        name: Of the layer.
        kind: Its class.
        reference: In float64.
        keras: In float32.
        consumers: Names of the layers that take it.
    """

    name: str
    kind: str
    reference: NDArray[np.float64]
    keras: NDArray[np.float32]
    consumers: Sequence[str]

    def against(self, value: NDArray[np.float32]) -> Figure:
        flat = (1, -1)
        return Figure.of_logits(
            *(each.reshape(flat) for each in (value, self.keras, self.reference))
        )


def first_departure(reference: Reference, path: Path, image: Pixels) -> str:
    """Say which layer's output is the first that the file does not compute.

    The file's values have other names than layers, and some outputs are not in it, as of a
    convolution that is folded into the batch normalization after it. So a layer is looked for by
    its values: it is right where the file holds them, up to ten times the layer's own float32 noise
    floor, or where a layer that takes its output is right.

    Args:
        reference: The network.
        path: The ONNX file.
        image: One image, shape (1, size, size, 3), for which the logits differ.

    Returns:
        A sentence.
    """
    layers = _layers(reference, image)
    try:
        values = _values(path, image)
    except ToolkitError:
        return ""  # It runs, but not with all of its values shown.
    best = {layer.name: _closest(layer, values) for layer in layers}
    right: set[str] = set()
    for layer in reversed(layers):
        found = best[layer.name]
        if (found and found.passed.all()) or right.intersection(layer.consumers):
            right.add(layer.name)
    wrong = [layer for layer in layers if layer.name not in right]
    if not wrong:
        return "No single layer departs: each one's output is in the file, up to rounding."
    first, named = wrong[0], {layer.name: layer for layer in layers}
    folded = [first]
    while folded[-1].kind in _FOLDED and len(folded[-1].consumers) == 1:
        following = named[folded[-1].consumers[0]]
        if following.kind not in (*_FOLDED, "BatchNormalization"):
            break
        folded.append(following)
    described = " with ".join(f"'{layer.name}' ({layer.kind})" for layer in folded)
    figure = best[folded[-1].name]
    how = f"the closest value is off {figure}" if figure else "no value has its shape"
    return f"The first layer whose output departs is {described}: {how}."


def _layers(reference: Reference, image: Pixels) -> list[_Layer]:
    single, double = reference.single, reference.double
    consumers: dict[str, list[str]] = defaultdict(list)
    for layer in single.layers[1:]:
        for source in keras.tree.flatten(layer.input):
            # No public name leads from a value to the layer that it comes from.
            consumers[source._keras_history.operation.name].append(layer.name)
    return [
        _Layer(layer.name, type(layer).__name__, exact, rounded, consumers[layer.name])
        for layer, exact, rounded in zip(
            single.layers[1:], _outputs(double, image), _outputs(single, image), strict=True
        )
    ]


def _outputs(flat: keras.Model, image: Pixels) -> list[NDArray[Any]]:
    """Return what each layer after the input gives out."""
    inside = keras.Model(flat.input, [layer.output for layer in flat.layers[1:]])
    return [keras.ops.convert_to_numpy(value) for value in inside(image)]


def _values(path: Path, image: Pixels) -> Mapping[tuple[int, ...], list[NDArray[np.float32]]]:
    """Return all float values of the file by shape, channels last where they have rows."""
    exported = read_graph(path)
    del exported.graph.output[:]
    inferred = onnx.shape_inference.infer_shapes(exported)
    floats = {
        value.name
        for value in inferred.graph.value_info
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    for node in exported.graph.node:
        for name in node.output:
            if name in floats:
                show(exported.graph, name)
    by_shape = defaultdict(list)
    for value in run_graph(open_graph(exported), None, {INPUT: image}):
        by_shape[value.shape].append(value)
        if value.ndim == 4:
            last = np.moveaxis(value, 1, -1)
            by_shape[last.shape].append(last)
    return by_shape


def _closest(
    layer: _Layer, values: Mapping[tuple[int, ...], list[NDArray[np.float32]]]
) -> Figure | None:
    figures = [layer.against(value) for value in values.get(layer.reference.shape, [])]
    return min(figures, key=lambda figure: figure.errors.max(), default=None)
