"""What is done to ONNX graphs that are looked into: values renamed, shown as outputs, run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from toolkit.errors import ToolkitError
from toolkit.machine import usable_cores


def read_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file.

    Raises:
        ToolkitError: It is none, or is cut off.
    """
    try:
        return onnx.load(path)
    except (DecodeError, ValueError) as error:
        raise ToolkitError(
            f"The exported file is no ONNX file, or not all of one: {error}"
        ) from None


def rename(graph: onnx.GraphProto, before: str, after: str) -> None:
    """Give a value another name, wherever it stands."""
    for names in _name_lists(graph):
        for index, name in enumerate(names):
            if name == before:
                names[index] = after
    for value in (*graph.output, *graph.value_info):
        if value.name == before:
            value.name = after


def name_anew(graph: onnx.GraphProto) -> None:
    """Name and order constants by their first use, and take out the numbers that tf2onnx gives.

    tf2onnx numbers values as it comes to them, and keeps one name of equal constants as it happens:
    both differ from one process to the next.

    Args:
        graph: Changed in place; its nodes are in topological order.
    """
    order: dict[str, str] = {}
    held = {each.name for each in graph.initializer}
    for node in graph.node:
        for name in node.input:
            if name in held:
                order.setdefault(name, f"constant_{len(order)}")
    ends = {value.name for value in (*graph.input, *graph.output)}
    taken = Counter({*ends, *order.values()})
    names = {end: end for end in ends} | order
    for node in graph.node:
        node.name = _unnumbered(node.name)
        for name in node.output:
            if name and name not in names:
                bare = _unnumbered(name)
                taken[bare] += 1
                names[name] = bare if taken[bare] == 1 else f"{bare}__{taken[bare]}"
    for listed in _name_lists(graph):
        listed[:] = [names.get(name, name) for name in listed]
    del graph.value_info[:]
    for constant in graph.initializer:
        constant.name = names.get(constant.name, constant.name)
    places = {name: place for place, name in enumerate(order.values())}
    graph.initializer.sort(key=lambda constant: places.get(constant.name, len(places)))
    used = Counter[str]()
    for node in graph.node:
        used[node.name] += 1
        if used[node.name] > 1:
            node.name = f"{node.name}__{used[node.name]}"


def _unnumbered(name: str) -> str:
    return re.sub(r"__\d+", "", name)


def keep_padding_apart(graph: onnx.GraphProto) -> None:
    """Pad before max pooling with the smallest positive number instead of zero.

    onnxruntime (1.31 and before) fuses padding with zeros into a max pooling, which pads with minus
    infinity. That is another function where all of a window at the border is negative, as after the
    first convolution of ResNet101V2. Padding with another number is left alone; this one changes
    no output by more than 1.2e-38.
    """
    pooled = {node.input[0] for node in graph.node if node.op_type == "MaxPool"}
    constants = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.op_type != "Pad" or node.output[0] not in pooled:
            continue
        padding = node.input[2] if len(node.input) > 2 else ""
        # Without a name it is zero; a value that is computed is not known to be.
        if padding and (
            padding not in constants or onnx.numpy_helper.to_array(constants[padding]).any()
        ):
            continue
        tiny = np.array(np.finfo(np.float32).tiny, np.float32)
        named = onnx.numpy_helper.from_array(tiny, f"{node.output[0]}_padding")
        graph.initializer.append(named)
        rest = [*node.input[3:]]
        del node.input[2:]
        node.input.extend([named.name, *rest])


def show(graph: onnx.GraphProto, name: str) -> None:
    """Make a value inside the graph one of its outputs."""
    graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))


def open_graph(model: onnx.ModelProto, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Open a graph on the processor.

    Args:
        model: The graph.
        threads: None takes all cores.

    Raises:
        ToolkitError: onnxruntime refuses it, as where weights are missing.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or usable_cores()
    with _refused("open"):
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )


def run_graph(
    session: onnxruntime.InferenceSession,
    names: Sequence[str] | None,
    inputs: Mapping[str, NDArray[Any]],
) -> list[NDArray[np.float32]]:
    """Compute outputs, all where no names are given.

    Raises:
        ToolkitError: onnxruntime cannot, as where weights do not fit each other.
    """
    with _refused("run"):
        found: list[NDArray[np.float32]] = session.run(names, dict(inputs))
    return found


@contextmanager
def _refused(verb: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Its exceptions share no other base, and come from a module without a public name.
        if "onnxruntime" not in type(error).__module__:
            raise
        reason = " ".join(str(error).split())
        raise ToolkitError(f"onnxruntime cannot {verb} the exported file: {reason}") from None


def _name_lists(graph: onnx.GraphProto) -> Iterator[Any]:
    for node in graph.node:
        yield node.input
        yield node.output
