"""Keras to ONNX, and the proof that both compute the same. Runs in a process of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
from numpy.typing import NDArray
from tf2onnx.graph import GraphUtil

from toolkit.data.pixels import Pixels
from toolkit.errors import ToolkitError
from toolkit.exporting.folding import put_weights
from toolkit.files import written_whole
from toolkit.inference.bundle import INPUT, OUTPUT
from toolkit.training.backend import set_jit_compile
from toolkit.training.model import PROBABILITIES_LAYER

OPSET = 17
BATCH_DIMENSION = "batch"
LOGITS = "logits"

LOGIT_TOLERANCE = 1e-4
"""Largest difference of a logit, as a share of the largest logit's size."""

PROBABILITY_TOLERANCE = 1e-4
TIE = 2e-4
"""A label may change only where the two best probabilities are this close."""

MOST_TRANSPOSES = 4
"""A network converted well changes its layout at the input and the output, not at each layer."""

_BATCH = 32


@dataclass(frozen=True)
class Parity:
    """How an ONNX file compares with its Keras model on the same photos.

    Attributes:
        photos: How many.
        logit_error: Largest difference of a logit over the largest logit's size.
        probability_error: Largest difference of a probability.
        labels_changed: Photos with another label (all of them ties).
        opset: Of the file.
    """

    photos: int
    logit_error: float
    probability_error: float
    labels_changed: int
    opset: int = OPSET


def convert(
    model_path: Path,
    target: Path,
    metadata: Mapping[str, str],
    photos: Path,
    chosen: list[int],
    names: Sequence[str],
) -> dict[str, Any]:
    """Convert a model, run both on photos, and keep the file only if they agree.

    Args:
        model_path: The `.keras` file.
        target: The ONNX file to write.
        metadata: Written into the file.
        photos: `.npy` file of decoded photos at the model's size.
        chosen: Numbers of the photos to compare on.
        names: Of those photos, for people.

    Returns:
        The fields of `Parity`.

    Raises:
        ToolkitError: The two do not agree; says where.
    """
    model = keras.models.load_model(model_path, compile=False)
    exported = to_onnx(model, metadata)
    with written_whole(target) as temporary:
        onnx.save(exported, temporary)
        pixels = np.load(photos, mmap_mode="r")
        parity = compare(model, temporary, pixels, np.array(chosen), names)
    return asdict(parity)


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
        network, input_signature=network.signature, opset=OPSET
    )
    if sum(node.op_type == "Transpose" for node in exported.graph.node) > MOST_TRANSPOSES:
        exported = _transposes_removed(exported)
    put_weights(exported.graph, network.weights)
    check_inputs(exported)
    for value in (exported.graph.input[0], exported.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH_DIMENSION
    onnx.helper.set_model_props(exported, dict(metadata))
    onnx.checker.check_model(exported, full_check=True)
    return exported


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


def compare(
    model: keras.Model,
    path: Path,
    photos: Pixels,
    chosen: NDArray[np.int64],
    names: Sequence[str],
) -> Parity:
    """Run Keras and onnxruntime on the same photos and compare logits and probabilities.

    Args:
        model: The Keras model.
        path: Its ONNX file.
        photos: Shape (photos, size, size, 3), uint8.
        chosen: Numbers of those to run.
        names: Of those to run, for people.

    Returns:
        The largest differences.

    Raises:
        ToolkitError: A difference is over its tolerance; says which photo and by how much.
    """
    features = keras.Model(model.input, model.get_layer(PROBABILITIES_LAYER).input)
    set_jit_compile(features)
    kernel, bias = (
        keras.ops.convert_to_numpy(weight)
        for weight in model.get_layer(PROBABILITIES_LAYER).weights
    )
    session = _session_with_logits(path)
    found: list[tuple[NDArray[np.float32], ...]] = []
    for start in range(0, len(chosen), _BATCH):
        images = np.asarray(photos[chosen[start : start + _BATCH]])
        expected_logits = (
            keras.ops.convert_to_numpy(features.predict_on_batch(images)) @ kernel + bias
        )
        probabilities, logits = session.run([OUTPUT, LOGITS], {INPUT: images})
        found.append((expected_logits, logits, softmax(expected_logits), probabilities))
    expected_logits, logits, expected, received = (
        np.concatenate(parts) for parts in zip(*found, strict=True)
    )
    return _judged(names, expected_logits, logits, expected, received)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities of shape (photos, classes) for logits of that shape."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def _judged(
    names: Sequence[str],
    expected_logits: NDArray[np.float32],
    logits: NDArray[np.float32],
    expected: NDArray[np.float32],
    received: NDArray[np.float32],
) -> Parity:
    finite = np.asarray(np.isfinite(np.hstack([logits, received])).all(axis=1))
    _require(finite, names, "the output is not finite")
    logit_errors = np.abs(logits - expected_logits).max(axis=1) / np.abs(expected_logits).max()
    _require(
        logit_errors <= LOGIT_TOLERANCE,
        names,
        f"a logit differs from Keras by {logit_errors.max():.1e} of the largest "
        f"(allowed: {LOGIT_TOLERANCE:.0e})",
    )
    errors = np.abs(received - expected).max(axis=1)
    _require(
        errors <= PROBABILITY_TOLERANCE,
        names,
        f"a probability differs from Keras by {errors.max():.1e} "
        f"(allowed: {PROBABILITY_TOLERANCE:.0e})",
    )
    changed = expected.argmax(axis=1) != received.argmax(axis=1)
    two_best = np.sort(expected, axis=1)[:, -2:]
    tied = two_best[:, 1] - two_best[:, 0] <= TIE
    _require(~changed | tied, names, "the label differs from Keras's")
    return Parity(len(names), float(logit_errors.max()), float(errors.max()), int(changed.sum()))


def _require(passed: NDArray[np.bool_], names: Sequence[str], complaint: str) -> None:
    if not passed.all():
        wrong = np.flatnonzero(~passed)
        raise ToolkitError(
            f"The exported file computes something else: {complaint}; {len(wrong)} of "
            f"{len(names)} photos, first {names[wrong[0]]}."
        )


def _session_with_logits(path: Path) -> onnxruntime.InferenceSession:
    """Open the file with the softmax's input as a second output: softmax hides errors."""
    exported = onnx.load(path)
    producer = next(node for node in exported.graph.node if OUTPUT in node.output)
    if producer.op_type != "Softmax":
        raise ToolkitError(
            f"The exported file: Expected a graph that ends in Softmax, not {producer.op_type}."
        )
    _rename(exported.graph, producer.input[0], LOGITS)
    exported.graph.output.append(
        onnx.helper.make_tensor_value_info(LOGITS, onnx.TensorProto.FLOAT, None)
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        exported.SerializeToString(), options, providers=["CPUExecutionProvider"]
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


def _rename(graph: onnx.GraphProto, before: str, after: str) -> None:
    for names in _name_lists(graph):
        for index, name in enumerate(names):
            if name == before:
                names[index] = after
    for value in (*graph.output, *graph.value_info):
        if value.name == before:
            value.name = after


def _name_lists(graph: onnx.GraphProto) -> Iterator[Any]:
    for node in graph.node:
        yield node.input
        yield node.output
