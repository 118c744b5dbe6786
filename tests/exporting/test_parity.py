"""Parity: a faithful file passes however the network amplifies rounding; a wrong graph does not."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from parity_networks import KINDS, photos, settle, small_network
from wrong_graphs import FAULTS, with_fault

from toolkit.errors import ToolkitError
from toolkit.exporting.convert import to_onnx
from toolkit.exporting.parity import FEWEST_IMAGES, REFERENCE_IMAGES, compare
from toolkit.exporting.reference import Reference, logits
from toolkit.exporting.rule import MARGIN, RESOLUTION, Figure, softmax
from toolkit.inference.bundle import Parity
from toolkit.training.model import backbone_of, build_base
from toolkit.training.registry import find_backbone

pytestmark = [
    pytest.mark.numeric,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

SIZE, COUNT = 32, 24


@dataclass(frozen=True)
class Made:
    """A network with its file and its reference."""

    network: keras.Model
    exported: onnx.ModelProto
    reference: Reference

    def judge(
        self, folder: Path, exported: onnx.ModelProto | None = None, count: int = COUNT
    ) -> Parity:
        onnx.save(exported or self.exported, folder / "model.onnx")
        names = [f"{number}.jpg" for number in range(count)]
        seen = photos(COUNT, SIZE)
        return compare(self.reference, folder / "model.onnx", seen, np.arange(count), names)


@functools.cache
def made(kind: str = "settled") -> Made:
    keras.utils.set_random_seed(1)
    network = small_network(SIZE)
    KINDS[kind](network, photos(COUNT, SIZE))
    return Made(network, to_onnx(network, {}), Reference(network))


@pytest.mark.parametrize("kind", KINDS)
def test_a_faithful_file_passes_whatever_the_weights(kind: str, tmp_path: Path) -> None:
    figures = made(kind).judge(tmp_path)
    assert (figures.photos, figures.reference_images) == (COUNT, COUNT)
    assert 0 < figures.noise_floor < 1e-3
    assert figures.logit_error <= MARGIN * figures.noise_floor + RESOLUTION


LAYERS = {
    "batch-norm epsilon 1e-2": "'separable' (SeparableConv2D) with 'separable_bn'",
    "a bias dropped": "'excite' (Conv2D)",
    "padding moved by a pixel": "'depthwise'",
    "RGB swapped": "'scaling' (Rescaling)",
    "scaling left out": "'scaling' (Rescaling)",
    "scaling twice": "'scaling' (Rescaling)",
    "max for average pooling": "'average_pool' (AveragePooling2D)",
    "a kernel transposed": "'depthwise'",
    "neighbours' weights swapped": "'separable' (SeparableConv2D) with 'separable_bn'",
    "softmax over photos": "'probabilities'",
    "a convolution in fp16": "'excite' (Conv2D)",
    "weights cut off": "'excite' (Conv2D)",
    "ReLU6 for ReLU": "'sum' (Add)",
    "weights 0.1 % larger": "'depthwise'",
    "two classes swapped": "'probabilities' (Dense)",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_graph_is_refused_with_its_figures_and_its_layer(
    fault: str, tmp_path: Path
) -> None:
    network = made()
    wrong = with_fault(network.exported, network.network, FAULTS[fault])
    with pytest.raises(ToolkitError, match="computes something else") as refused:
        network.judge(tmp_path, wrong)
    told = str(refused.value)
    assert LAYERS[fault] in told
    assert "of 24 images, first " in told
    assert re.search(r"off .*by \d\.\de[-+]\d\d of the largest value, Keras in float32 by \d", told)


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    content = made().exported.SerializeToString()
    (tmp_path / "model.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(ToolkitError, match="The exported file is no ONNX file, or not all of one"):
        compare(made().reference, tmp_path / "model.onnx", photos(4, SIZE), np.arange(4), "abcd")


def test_weights_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    wrong = onnx.ModelProto()
    wrong.CopyFrom(made().exported)
    last = [node for node in wrong.graph.node if node.op_type == "MatMul"][-1].input[1]
    for each in wrong.graph.initializer:
        if each.name == last:
            transposed = onnx.numpy_helper.to_array(each).T
            each.CopyFrom(onnx.numpy_helper.from_array(transposed, last))
    with pytest.raises(ToolkitError, match=r"onnxruntime cannot (open|run) the exported file"):
        made().judge(tmp_path, wrong)


def test_an_output_that_is_no_number_is_refused(tmp_path: Path) -> None:
    wrong = onnx.ModelProto()
    wrong.CopyFrom(made().exported)
    last = [node for node in wrong.graph.node if node.op_type == "MatMul"][-1].input[1]
    for each in wrong.graph.initializer:
        if each.name == last:
            spoilt = np.full(each.dims, np.nan, dtype=np.float32)
            each.CopyFrom(onnx.numpy_helper.from_array(spoilt, last))
    with pytest.raises(ToolkitError, match="its output is not finite; 24 of 24 images, first 0"):
        made().judge(tmp_path, wrong)


def test_a_network_that_overflows_in_keras_is_said_to(tmp_path: Path) -> None:
    network = small_network(SIZE)
    network.set_weights(made().network.get_weights())
    for name in ("dense", "probabilities"):
        layer = network.get_layer(name)
        layer.set_weights([weight * np.float32(1e25) for weight in layer.get_weights()])
    onnx.save(made().exported, tmp_path / "model.onnx")
    with pytest.raises(
        ToolkitError, match="Keras's own output is not finite: train the run again at"
    ):
        compare(Reference(network), tmp_path / "model.onnx", photos(4, SIZE), np.arange(4), "abcd")


def test_a_graph_that_does_not_end_in_softmax_is_refused(tmp_path: Path) -> None:
    wrong = onnx.ModelProto()
    wrong.CopyFrom(made().exported)
    last = next(node for node in wrong.graph.node if "probabilities" in node.output)
    last.output[0] = "inner"
    wrong.graph.node.append(onnx.helper.make_node("Identity", ["inner"], ["probabilities"]))
    with pytest.raises(ToolkitError, match="Expected a graph that ends in Softmax, not Identity"):
        made().judge(tmp_path, wrong)


def test_few_photos_are_looked_at_in_several_views(tmp_path: Path) -> None:
    assert made().judge(tmp_path, count=3).reference_images == 18 >= FEWEST_IMAGES
    assert made().judge(tmp_path, count=1).reference_images == 8
    wrong = with_fault(made().exported, made().network, FAULTS["ReLU6 for ReLU"])
    # Of the first fourteen photos it is the last whose activations are above six.
    with pytest.raises(ToolkitError, match=r"of 28 images, first 13\.jpg\. The first layer"):
        made().judge(tmp_path, wrong, count=14)


def test_float64_sees_the_photos_on_which_the_file_departs_among_many(tmp_path: Path) -> None:
    many = np.repeat(photos(COUNT, SIZE)[:13], 20, axis=0)
    many = np.concatenate([many, photos(COUNT, SIZE)[13:14], many])
    names = [f"{number}.jpg" for number in range(len(many))]
    path = tmp_path / "model.onnx"
    onnx.save(made().exported, path)
    figures = compare(made().reference, path, many, np.arange(len(many)), names)
    assert (figures.photos, figures.reference_images) == (521, REFERENCE_IMAGES)
    onnx.save(with_fault(made().exported, made().network, FAULTS["ReLU6 for ReLU"]), path)
    with pytest.raises(ToolkitError, match=r"; 1 of 64 images, first 260\.jpg"):
        compare(made().reference, path, many, np.arange(len(many)), names)


class TestTheReference:
    @pytest.mark.parametrize("name", ["small", "mobilenetv3small"])
    def test_is_float64_from_the_pixels_to_the_logits(self, name: str) -> None:
        """What moves weights by a share of 1e-12 moves logits in proportion, not in steps."""
        double = made().reference.double if name == "small" else Reference(mobilenet()).double
        seen = photos(4, SIZE)
        weights, answers = double.get_weights(), []
        for share in (0, 1e-12, 2e-12):
            for variable, value in zip(double.weights, weights, strict=True):
                if value.dtype == np.float64:
                    variable.assign(value * (1 + share))
            answers.append(keras.ops.convert_to_numpy(double(seen)))
        double.set_weights(weights)
        first, second = answers[1] - answers[0], answers[2] - answers[0]
        assert 1e-14 < np.abs(first).max() / np.abs(answers[0]).max() < 1e-9
        np.testing.assert_allclose(second, 2 * first, atol=0.02 * np.abs(first).max())

    def test_agrees_with_keras_up_to_the_noise_floor(self) -> None:
        seen = photos(COUNT, SIZE)
        expected = made().network.predict_on_batch(seen)
        found = softmax(logits(made().reference.double, seen))
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_does_not_depend_on_the_types_that_layers_are_pinned_to(self) -> None:
        keras.config.set_dtype_policy("mixed_float16")
        try:
            pinned = small_network(SIZE)
        finally:
            keras.config.set_dtype_policy("float32")
        pinned.set_weights(made().network.get_weights())
        backbone_of(pinned).get_layer("normalization").finalize_state()
        np.testing.assert_array_equal(
            logits(Reference(pinned).double, photos(4, SIZE)),
            logits(made().reference.double, photos(4, SIZE)),
        )


class TestTheRule:
    """Three photos of two classes, by hand."""

    exact = np.array([[4.0, 0.0], [0.0, 2.0], [1e-6, 0.0]])

    def values(self, error: float) -> NDArray[np.float32]:
        """The logits, of which the second photo's first one is off."""
        return (self.exact + error * np.array([[0, 0], [1, 0], [0, 0]])).astype(np.float32)

    @pytest.mark.parametrize(
        ("keras_error", "file_error", "passes"),
        [
            (0, 3e-6, True),  # 1e-6 of the largest logit, which is 4
            (0, 5e-6, False),
            (1e-3, 9e-3, True),
            (1e-3, 11e-3, False),
            (0.5, 4.9, True),  # a network that float32 cannot compute, in Keras either
        ],
    )
    def test_a_file_may_be_off_by_ten_times_the_noise_floor(
        self, keras_error: float, file_error: float, passes: bool
    ) -> None:
        figure = Figure.of_logits(self.values(file_error), self.values(keras_error), self.exact)
        assert figure.floor == pytest.approx(keras_error / 4, rel=1e-3, abs=1e-7)
        assert figure.errors.max() == pytest.approx(file_error / 4, rel=1e-2, abs=1e-7)
        assert figure.passed.tolist() == [True, passes, True]

    def test_a_softmax_is_judged_by_its_own_logits(self) -> None:
        wrong, right = self.values(1.0), self.values(0)
        soft = softmax(wrong).astype(np.float32), softmax(right).astype(np.float32)
        assert Figure.of_softmax(wrong, soft[0], right, soft[1]).passed.all()
        halved = softmax(wrong / 2).astype(np.float32)
        assert not Figure.of_softmax(wrong, halved, right, soft[1]).passed.all()

    def test_logits_that_are_all_zero_are_right_and_nothing_else_is(self) -> None:
        zero = np.zeros((3, 2))
        assert Figure.of_logits(zero, zero, zero).passed.all()
        assert not Figure.of_logits(zero + 1e-5, zero, zero).passed.any()

    def test_softmax_of_large_logits_does_not_overflow(self) -> None:
        found = softmax(np.array([[1000, 999], [-1000, -1000]], dtype=np.float32))
        np.testing.assert_allclose(found[0], [1 / (1 + np.exp(-1)), 1 / (1 + np.e)], rtol=1e-12)
        np.testing.assert_array_equal(found[1], 0.5)


@functools.cache
def mobilenet() -> keras.Model:
    base = build_base(find_backbone("mobilenetv3small"), SIZE, pretrained=True)
    images = keras.Input((SIZE, SIZE, 3), dtype="uint8", name="images")
    values = base(keras.layers.Rescaling(1.0, name="scaling")(images))
    values = keras.layers.GlobalAveragePooling2D()(values)
    output = keras.layers.Dense(5, activation="softmax", dtype="float32", name="probabilities")
    network = keras.Model(images, output(values))
    settle(network, photos(COUNT, SIZE))
    return network
