"""The parts of a fused file that no member brings: views before them, voting after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from toolkit.data.pixels import Square
from toolkit.inference.bundle import INPUT, OUTPUT
from toolkit.inference.views import View, taps


@dataclass
class Graph:
    """A graph in the making. Names are paths, so that no two parts use the same.

    Attributes:
        nodes: In an order in which they can be computed.
        constants: What they read beside the graph's inputs.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node with one output, which is its name too, and return that."""
        node = helper.make_node(operator, inputs, [output], name=output, **attributes)
        self.nodes.append(node)
        return output

    def constant(self, value: Any, name: str) -> str:
        """Add an array of its own type and return its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def number(self, value: float, name: str) -> str:
        """Add a float32 and return its name."""
        return self.constant(np.float32(value), name)


def input_name(square: Square) -> str:
    """Return the name of the fused file's input for a square."""
    name = f"{INPUT}_{square.size}"
    return name if square.resize == "stretch" else f"{name}_{square.resize}"


def add_views(graph: Graph, square: Square, views: Sequence[View]) -> str:
    """Add all views of a batch as one batch: all photos' first view, then their second, ...

    Args:
        graph: Where to.
        square: What the photos are, which are the input `input_name(square)`.
        views: The views.

    Returns:
        The name of the result, uint8 of shape (views * batch, size, size, 3).
    """
    size, source = square.size, input_name(square)
    within = f"views/{source}"
    crops: dict[tuple[float, str], str] = {(1.0, "centre"): source}
    seen: list[str] = []
    for number, view in enumerate(views):
        key = (view.fraction, view.anchor)
        if key not in crops:
            crops[key] = _add_crop(graph, source, size, view, f"{within}/{number}")
        if view.mirrored:
            columns = graph.constant(np.arange(size)[::-1].copy(), f"{within}/{number}/columns")
            mirror = graph.add("Gather", [crops[key], columns], f"{within}/{number}/mirror", axis=2)
            seen.append(mirror)
        else:
            seen.append(crops[key])
    return graph.add("Concat", seen, within, axis=0)


def add_voting(
    graph: Graph,
    answers: dict[str, str],
    weights: dict[str, float],
    temperature: float,
    views: int,
    classes: int,
) -> None:
    """Add what `toolkit.inference.voting.vote` does, in float32.

    A temperature is a softmax of the logarithms over it. The mixed probabilities may be so small
    that float32 holds few of their digits, and a high temperature makes them count: they are
    lifted first, which normalizing takes away again.

    Args:
        graph: Where to; its output `probabilities` has the shape (batch, classes).
        answers: By member, the name of its probabilities, shape (views * batch, classes).
        weights: By member.
        temperature: Of the mixture.
        views: Views a photo.
        classes: Number of classes.
    """
    lift = 2.0**64 if temperature > 1 else 1.0
    by_view = graph.constant(np.array([views, -1, classes]), "voting/by view")
    axis = graph.constant(np.array([0]), "voting/views")
    votes: list[str] = []
    for name, answer in answers.items():
        within = f"voting/{name}"
        graph.add("Reshape", [answer, by_view], f"{within}/answers")
        graph.add("ReduceSum", [f"{within}/answers", axis], f"{within}/sum", keepdims=0)
        graph.number(lift * weights[name] / views, f"{within}/weight")
        votes.append(graph.add("Mul", [f"{within}/sum", f"{within}/weight"], f"{within}/vote"))
    mixed = graph.add("Sum", votes, "voting/mixed")
    if temperature == 1.0:
        by_class = graph.constant(np.array([1]), "voting/classes")
        total = graph.add("ReduceSum", [mixed, by_class], "voting/total", keepdims=1)
        graph.add("Div", [mixed, total], OUTPUT)
        return
    # Probabilities of 0 are as small as `soften` takes them for.
    least = graph.number(np.log(np.finfo(np.float64).tiny) + np.log(lift), "voting/least")
    present = graph.add("Greater", [mixed, graph.number(0, "voting/none")], "voting/present")
    logs = graph.add("Where", [present, graph.add("Log", [mixed], "voting/log"), least], "voting/l")
    colder = graph.number(1 / temperature, "voting/over temperature")
    graph.add("Softmax", [graph.add("Mul", [logs, colder], "voting/logits")], OUTPUT, axis=1)


def _add_crop(graph: Graph, source: str, size: int, view: View, within: str) -> str:
    """Add a crop brought back to size, byte for byte as `toolkit.inference.views.enlarge` does.

    With scale = 2 * size, the rows mixed by weights that sum to scale are whole numbers r up to
    255 * scale. What r and the columns' weights w give, up to 255 * scale ** 2, is over float32's
    whole numbers (2 ** 24) and integer division is not exact in every runtime. So r is cut into
    a * scale + b, and with A, B for a, b mixed by the columns

        (scale * A + B + scale ** 2 / 2) // scale ** 2 = (A + size + B // scale) // scale

    where nothing is over scale ** 2 <= 2 ** 22. Half a unit is added before each division, so that
    multiplying by the rounded 1 / scale gives the right whole number too.
    """
    scale = 2 * size
    start, side = view.crop(size)
    low, high, weight = taps(side, size)
    sources = {"low": start + low, "high": start + high}
    shares = {"low": scale - weight, "high": weight}
    for end in ("low", "high"):
        graph.constant(sources[end].astype(np.int64), f"{within}/{end}")
        for axis, shape in ((1, (1, size, 1, 1)), (2, (1, 1, size, 1))):
            share = shares[end].astype(np.float32).reshape(shape)
            graph.constant(share, f"{within}/{end} share {axis}")
    graph.number(scale, f"{within}/scale")
    graph.number(1 / scale, f"{within}/unit")
    graph.number(0.5, f"{within}/half")
    graph.number(size, f"{within}/size")

    def mixed(source: str, axis: int, name: str) -> str:
        for end in ("low", "high"):
            graph.add("Gather", [source, f"{within}/{end}"], f"{name}/{end}", axis=axis)
            graph.add("Mul", [f"{name}/{end}", f"{within}/{end} share {axis}"], f"{name}/{end}er")
        return graph.add("Add", [f"{name}/lower", f"{name}/higher"], name)

    def over_scale(value: str, name: str) -> str:
        middle = graph.add("Add", [value, f"{within}/half"], f"{name}/middle")
        share = graph.add("Mul", [middle, f"{within}/unit"], f"{name}/share")
        return graph.add("Floor", [share], name)

    floats = graph.add("Cast", [source], f"{within}/floats", to=TensorProto.FLOAT)
    rows = mixed(floats, 1, f"{within}/rows")
    whole = over_scale(rows, f"{within}/whole")
    scaled = graph.add("Mul", [whole, f"{within}/scale"], f"{within}/scaled")
    rest = graph.add("Sub", [rows, scaled], f"{within}/rest")
    low_part = over_scale(mixed(rest, 2, f"{within}/rests"), f"{within}/carried")
    high_part = mixed(whole, 2, f"{within}/wholes")
    both = graph.add("Sum", [high_part, low_part, f"{within}/size"], f"{within}/both")
    levels = over_scale(both, f"{within}/levels")
    return graph.add("Cast", [levels], f"{within}/crop", to=TensorProto.UINT8)
