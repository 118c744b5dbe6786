"""Keras to ONNX, kept only where both compute the same. Runs in a process of its own."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from numpy.typing import NDArray
from tf2onnx.graph import GraphUtil, Node

from toolkit.errors import ToolkitError
from toolkit.exporting.folding import put_weights
from toolkit.exporting.graphs import keep_padding_apart, name_anew, rename
from toolkit.exporting.parity import compare
from toolkit.exporting.reference import Reference
from toolkit.files import written_whole
from toolkit.inference.bundle import INPUT, OUTPUT, Parity

_numbers = itertools.count()


def _order_of(node: Any) -> int:
    """Return the number that a node got when it was first hashed, and keeps."""
    number: int = node.__dict__.setdefault("_toolkit_order", next(_numbers))
    return number


# tf2onnx iterates over sets of nodes as it moves transposes, and nodes are hashed by their address
# in memory: each process would export another graph.
Node.__hash__ = _order_of

OPSET = 17
BATCH_DIMENSION = "batch"

MOST_TRANSPOSES = 4
"""A network converted well changes its layout at the input and the output, not at each layer."""


def convert(
    model_path: Path,
    target: Path,
    metadata: Mapping[str, str],
    photos: Path,
    chosen: list[int],
    names: Sequence[str],
) -> Parity:
    """Convert a model, run both on photos, and keep the file only if they agree.

    Args:
        model_path: The `.keras` file.
        target: The ONNX file to write.
        metadata: Written into the file.
        photos: `.npy` file of decoded photos at the model's size.
        chosen: Numbers of the photos to compare on.
        names: Of those photos, for people.

    Returns:
        The figures.

    Raises:
        ToolkitError: The two do not agree; says where.
    """
    model = keras.models.load_model(model_path, compile=False)
    exported = to_onnx(model, metadata)
    with written_whole(target) as temporary:
        onnx.save(exported, temporary)
        pixels = np.load(photos, mmap_mode="r")
        return compare(Reference(model), temporary, pixels, np.array(chosen), names)


def to_onnx(model: keras.Model, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Convert a model built by `toolkit.training.model`.

    Args:
        model: From uint8 images to softmax probabilities.
        metadata: Written into the file.

    Returns:
        A checked ONNX model with the single input `images`, uint8 (batch, size, size, 3), and the
        output `probabilities`, float32 (batch, classes).

    Raises:
        ToolkitError: The converter made something else.
    """
    # What its optimizer cannot do, tf2onnx logs with a traceback; it is mended below.
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    network = _WithoutKernels(model)
    exported: onnx.ModelProto
    exported, _ = tf2onnx.convert.from_keras(
        network,
        input_signature=network.signature,
        opset=OPSET,
        custom_op_handlers={"Erfc": (erfc_by_erf, [])},
    )
    if sum(node.op_type == "Transpose" for node in exported.graph.node) > MOST_TRANSPOSES:
        exported = _transposes_removed(exported)
    put_weights(exported.graph, network.weights)
    keep_padding_apart(exported.graph)
    name_anew(exported.graph)
    check_inputs(exported)
    rename(exported.graph, exported.graph.output[0].name, OUTPUT)
    for value in (exported.graph.input[0], exported.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH_DIMENSION
    onnx.helper.set_model_props(exported, dict(metadata))
    onnx.checker.check_model(exported, full_check=True)
    return exported


def erfc_by_erf(graph: Any, node: Any, name: str, _: Any) -> None:
    """Write erfc(y), which ONNX does not have, as 1 + erf(-y).

    TensorFlow's GELU is x / 2 * erfc(-x * sqrt(1/2)). Where y is such a product its factors become
    1 + erf(x / sqrt(2)), the form that onnxruntime computes as one GELU. For large y the sum rounds
    to 0 where erfc is at most 6e-8: GELU changes by less than a unit in the last place of 1.

    Args:
        graph: tf2onnx's graph.
        node: The `Erfc` in it.
        name: Of the node.
    """
    (product,) = node.inputs
    value, shapes, kinds = node.input[0], graph.get_shape(node.output[0]), node.output_dtypes
    negated = [each for each in product.inputs if each.type == "Neg"]
    factors = [each for each in product.inputs if each.is_const()]
    if product.type == "Mul" and negated and factors:
        divisor = graph.make_const(
            f"{name}/divisor", 1 / factors[0].get_tensor_value(as_list=False)
        )
        argument = graph.make_node("Div", [negated[0].input[0], divisor.output[0]])
    else:
        argument = graph.make_node("Neg", [value])
    one = graph.make_const(f"{name}/one", np.array(1, np.float32))
    erf = graph.make_node("Erf", argument.output)
    graph.remove_node(name)
    graph.make_node(
        "Add",
        [erf.output[0], one.output[0]],
        name=name,
        outputs=node.output,
        shapes=[shapes],
        dtypes=kinds,
    )


class _WithoutKernels:
    """A network as tf2onnx sees it: its kernels are inputs beside the images.

    As constants they would be copied some twenty times on the way through TensorFlow and tf2onnx.
    Vectors, as of batch normalization, stay constants, because both compute with them.
    """

    def __init__(self, model: keras.Model) -> None:
        self.name, self.output_names = model.name, [OUTPUT]
        self._model = model
        self._kernels = {
            f"kernel_{number}": variable
            for number, variable in enumerate(model.variables)
            if len(variable.shape) > 1
        }

    @property
    def signature(self) -> list[Any]:
        images = tf.TensorSpec([None, *self._model.input_shape[1:]], tf.uint8, name=INPUT)
        kernels = [
            tf.TensorSpec(variable.shape, variable.dtype, name=name)
            for name, variable in self._kernels.items()
        ]
        return [images, *kernels]

    @property
    def weights(self) -> dict[str, NDArray[np.float32]]:
        return {
            name: keras.ops.convert_to_numpy(variable) for name, variable in self._kernels.items()
        }

    def __call__(self, *inputs: Any, training: bool) -> dict[str, Any]:
        images, *kernels = tf.nest.flatten(inputs)  # tf2onnx passes them as one list
        with keras.StatelessScope(list(zip(self._kernels.values(), kernels, strict=True))):
            return {OUTPUT: self._model(images, training=training)}


def check_inputs(exported: onnx.ModelProto) -> None:
    """Refuse a graph whose only input is not `images`.

    tf2onnx's `from_function`, and Keras's own ONNX export, turn EfficientNet's normalization
    constants into further inputs, and only a run would show it.

    Raises:
        ToolkitError: The graph has other inputs.
    """
    names = [value.name for value in exported.graph.input]
    if names != [INPUT] or len(exported.graph.output) != 1:
        raise ToolkitError(
            f"The exported graph: Expected the single input '{INPUT}' and one output, received "
            f"inputs {names} and {len(exported.graph.output)} outputs."
        )


def _transposes_removed(exported: onnx.ModelProto) -> onnx.ModelProto:
    """Optimize again with scalar constants written as vectors.

    tf2onnx 1.17 gives up removing transposes at an Add of a scalar, as in MobileNetV3's hard swish.
    """
    for constant in exported.graph.initializer:
        if not constant.dims and constant.data_type == onnx.TensorProto.FLOAT:
            vector = onnx.numpy_helper.to_array(constant).reshape(1)
            constant.CopyFrom(onnx.numpy_helper.from_array(vector, constant.name))
    optimized: onnx.ModelProto = GraphUtil.optimize_model_proto(exported)
    return optimized
