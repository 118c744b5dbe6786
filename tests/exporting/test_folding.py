"""Weights put into a graph and folded: the same function by onnxruntime, and fewer nodes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from toolkit.exporting.folding import put_weights

CHANNELS = 4
GENERATOR = np.random.default_rng(0)
PHOTOS = GENERATOR.normal(size=(2, 3, 8, 8)).astype(np.float32)
KERNEL = GENERATOR.normal(size=(3, 3, 3, CHANNELS)).astype(np.float32)
"""In the layout of TensorFlow: height, width, inputs, outputs."""


def graph(nodes: list[onnx.NodeProto], **constants: NDArray[np.float32]) -> onnx.ModelProto:
    """Return a model from `x` and `kernel` to `y`."""
    made = helper.make_graph(
        nodes,
        "test",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8]),
            helper.make_tensor_value_info("kernel", TensorProto.FLOAT, KERNEL.shape),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def run(model: onnx.ModelProto) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    given = {"x": PHOTOS, "kernel": KERNEL}
    names = [value.name for value in session.get_inputs()]
    found: NDArray[np.float32] = session.run(["y"], {name: given[name] for name in names})[0]
    return found


def folded(model: onnx.ModelProto) -> Counter[str]:
    """Fold in place, check that the function stays the same, and return the nodes that are left."""
    before = run(model)
    put_weights(model.graph, {"kernel": KERNEL})
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["x"]
    np.testing.assert_allclose(run(model), before, rtol=1e-4, atol=1e-5)
    return Counter(node.op_type for node in model.graph.node)


def convolution(output: str, kernel: str = "turned", **options: object) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Transpose", ["kernel"], ["turned"], perm=[3, 2, 0, 1]),
        helper.make_node("Conv", ["x", kernel], [output], **options),
    ]


def by_channel(*shape: int) -> NDArray[np.float32]:
    return GENERATOR.normal(size=shape).astype(np.float32)


def test_the_layout_of_a_kernel_is_changed_once_and_for_all() -> None:
    assert folded(graph(convolution("y"))) == {"Conv": 1}


def test_scales_and_offsets_of_channels_go_into_the_convolution() -> None:
    nodes = [
        *convolution("a"),
        helper.make_node("Mul", ["a", "scale"], ["b"]),
        helper.make_node("Add", ["offset", "b"], ["c"]),
        helper.make_node("Mul", ["c", "two"], ["d"]),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    constants = {"scale": by_channel(1, CHANNELS, 1, 1), "offset": by_channel(CHANNELS, 1, 1)}
    assert folded(graph(nodes, two=np.float32([2]), **constants)) == {"Conv": 1, "Relu": 1}


def test_a_depthwise_kernel_is_reshaped_and_scaled() -> None:
    nodes = [
        helper.make_node("Reshape", ["kernel", "shape"], ["wide"]),
        helper.make_node("Transpose", ["wide"], ["turned"], perm=[3, 2, 0, 1]),
        helper.make_node("Conv", ["x", "turned"], ["a"], group=3),
        helper.make_node("Mul", ["a", "scale"], ["y"]),
    ]
    model = graph(nodes, scale=by_channel(1, 3 * CHANNELS, 1, 1))
    shape = numpy_helper.from_array(np.int64([3, 3, 1, 3 * CHANNELS]), "shape")
    model.graph.initializer.append(shape)
    assert folded(model) == {"Conv": 1}


@pytest.mark.parametrize("shape", [(1, 1, 6, 6), (1, 1, 1, 6), (2, CHANNELS, 1, 1)])
def test_factors_of_places_or_photos_stay(shape: tuple[int, ...]) -> None:
    nodes = [*convolution("a"), helper.make_node("Mul", ["a", "factor"], ["y"])]
    assert folded(graph(nodes, factor=by_channel(*shape))) == {"Conv": 1, "Mul": 1}


def test_a_convolution_that_is_read_twice_stays_as_it_is() -> None:
    nodes = [
        *convolution("a"),
        helper.make_node("Mul", ["a", "scale"], ["b"]),
        helper.make_node("Sub", ["a", "b"], ["y"]),
    ]
    left = folded(graph(nodes, scale=by_channel(1, CHANNELS, 1, 1)))
    assert left == {"Conv": 1, "Mul": 1, "Sub": 1}


def test_a_convolution_whose_output_is_the_graph_s_stays_as_it_is() -> None:
    nodes = [*convolution("y"), helper.make_node("Mul", ["y", "scale"], ["z"])]
    model = graph(nodes, scale=by_channel(1, CHANNELS, 1, 1))
    model.graph.output.append(
        helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", "c", "h", "w"])
    )
    assert folded(model) == {"Conv": 1, "Mul": 1}


def test_a_kernel_of_two_convolutions_is_not_scaled_for_one() -> None:
    nodes = [
        *convolution("a"),
        helper.make_node("Mul", ["a", "scale"], ["b"]),
        helper.make_node("Conv", ["x", "turned"], ["c"]),
        helper.make_node("Sub", ["b", "c"], ["y"]),
    ]
    left = folded(graph(nodes, scale=by_channel(1, CHANNELS, 1, 1)))
    assert left == {"Conv": 2, "Mul": 1, "Sub": 1}
