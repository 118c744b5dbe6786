"""Keras to ONNX: one input, one output, and the same figures; a file that differs is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
import tf2onnx
from numpy.typing import NDArray

from toolkit.errors import ToolkitError
from toolkit.exporting.convert import (
    BATCH_DIMENSION,
    MOST_TRANSPOSES,
    OPSET,
    _judged,
    check_inputs,
    compare,
    convert,
    softmax,
    to_onnx,
)
from toolkit.training.model import build_base, build_model
from toolkit.training.recipe import Recipe
from toolkit.training.registry import Backbone

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

SIZE, CLASSES = 32, 5
METADATA = {"toolkit.classes": '["a", "b"]'}


@pytest.fixture(scope="module")
def photos() -> NDArray[np.uint8]:
    """Photos that differ widely in brightness and contrast."""
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(16, SIZE, SIZE, 3))
    level, contrast = generator.uniform(30, 220, (2, 16, 1, 1, 1))
    return np.clip(level + contrast * noise / 4, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def model(photos: NDArray[np.uint8]) -> keras.Model:
    """A MobileNetV3 whose batch norms have seen photos, and whose logits spread widely."""
    keras.utils.set_random_seed(3)
    recipe = Recipe.model_validate(
        {
            "set": "test",
            "backbone": "mobilenetv3small",
            "image_size": SIZE,
            "batch_size": 8,
            "validation_fraction": 0.2,
            "seed": 1,
            "weights": "none",
            "pixels": "own",
            "batch_norm_momentum": 0.1,
            "head": {"pooling": "average", "layers": [{"batch_norm": {}}]},
            "loss": "categorical_crossentropy",
            "optimizer": {"name": "Adamax", "learning_rate": 0.01},
            "stages": [{"name": "all", "epochs": 1, "frozen_fraction": 0}],
            "augmentor": [],
        }
    )
    built = build_model(recipe, CLASSES, pretrained=False)
    for _ in range(3):
        built(photos, training=True)
    kernel, bias = built.layers[-1].get_weights()
    built.layers[-1].set_weights([3 * kernel, bias + np.arange(CLASSES) / 3])
    return built


@pytest.fixture(scope="module")
def exported(model: keras.Model) -> onnx.ModelProto:
    return to_onnx(model, METADATA)


@pytest.fixture
def file(exported: onnx.ModelProto, tmp_path: Path) -> Path:
    onnx.save(exported, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_the_file_has_the_one_input_and_the_one_output_that_inference_expects(
    exported: onnx.ModelProto,
) -> None:
    (images,), (probabilities,) = exported.graph.input, exported.graph.output
    assert (images.name, probabilities.name) == ("images", "probabilities")
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert probabilities.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    dimensions = [
        [one.dim_param or one.dim_value for one in value.type.tensor_type.shape.dim]
        for value in (images, probabilities)
    ]
    assert dimensions == [[BATCH_DIMENSION, SIZE, SIZE, 3], [BATCH_DIMENSION, CLASSES]]
    assert {each.key: each.value for each in exported.metadata_props} == METADATA
    (standard,) = [each.version for each in exported.opset_import if each.domain in ("", "ai.onnx")]
    assert standard == OPSET == 17
    onnx.checker.check_model(exported, full_check=True)


def test_mobilenet_keeps_its_layout_and_prints_no_traceback(
    model: keras.Model, capfd: pytest.CaptureFixture[str]
) -> None:
    again = to_onnx(model, METADATA)
    assert sum(node.op_type == "Transpose" for node in again.graph.node) <= MOST_TRANSPOSES
    told = capfd.readouterr()
    assert "Traceback" not in told.out + told.err


def test_batches_of_any_size_give_the_same_rows(
    model: keras.Model, file: Path, photos: NDArray[np.uint8]
) -> None:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    rows = {
        size: np.concatenate(
            [
                session.run(None, {"images": photos[start : start + size]})[0]
                for start in range(0, len(photos), size)
            ]
        )
        for size in (1, 5, 16)
    }
    np.testing.assert_array_equal(rows[1], rows[16])
    np.testing.assert_array_equal(rows[5], rows[16])
    np.testing.assert_allclose(rows[16], model.predict_on_batch(photos), atol=1e-5)


def test_a_right_file_passes_on_logits_that_spread(
    model: keras.Model, file: Path, photos: NDArray[np.uint8]
) -> None:
    probabilities = model.predict_on_batch(photos)
    assert len(set(probabilities.argmax(axis=1))) > 1
    assert np.ptp(probabilities, axis=0).max() > 0.3
    parity = compare(model, file, photos, np.arange(len(photos)), [""] * len(photos))
    assert parity.photos == 16
    assert parity.logit_error < 1e-5
    assert parity.probability_error < 1e-5
    assert parity.labels_changed == 0


def slightly_heavier(weights: dict[str, NDArray[np.float32]]) -> None:
    for name in weights:
        weights[name] *= 1.001


def not_scaled(weights: dict[str, NDArray[np.float32]]) -> None:
    scales = [
        name for name, value in weights.items() if value.size == 1 and np.isclose(value, 1 / 127.5)
    ]
    assert scales
    for name in scales:
        weights[name][...] = 1


def one_weight_no_number(weights: dict[str, NDArray[np.float32]]) -> None:
    largest = max(weights, key=lambda name: weights[name].size)
    weights[largest].flat[0] = np.nan


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (slightly_heavier, "a logit differs from Keras by"),
        (not_scaled, "a logit differs from Keras by"),
        (one_weight_no_number, "the output is not finite"),
    ],
)
def test_a_file_that_computes_something_else_is_refused_with_the_photo(
    spoil: Callable[[dict[str, NDArray[np.float32]]], None],
    complaint: str,
    model: keras.Model,
    file: Path,
    photos: NDArray[np.uint8],
) -> None:
    content = onnx.load(file)
    weights = {
        each.name: onnx.numpy_helper.to_array(each).copy()
        for each in content.graph.initializer
        if each.data_type == onnx.TensorProto.FLOAT
    }
    spoil(weights)
    for each in content.graph.initializer:
        if each.name in weights:
            each.CopyFrom(onnx.numpy_helper.from_array(weights[each.name], each.name))
    onnx.save(content, file)
    with pytest.raises(ToolkitError, match=f"{complaint}.* of 3 photos, first [abc].jpg"):
        compare(model, file, photos, np.array([9, 4, 7]), ["a.jpg", "b.jpg", "c.jpg"])


def test_a_graph_that_does_not_end_in_softmax_is_refused(
    model: keras.Model, file: Path, photos: NDArray[np.uint8]
) -> None:
    content = onnx.load(file)
    last = next(node for node in content.graph.node if "probabilities" in node.output)
    last.output[0] = "inner"
    content.graph.node.append(onnx.helper.make_node("Identity", ["inner"], ["probabilities"]))
    onnx.save(content, file)
    with pytest.raises(ToolkitError, match="Expected a graph that ends in Softmax, not Identity"):
        compare(model, file, photos, np.arange(2), ["a.jpg", "b.jpg"])


class TestTheJudgement:
    """Three photos, a, b and c, of two classes."""

    names = ("a.jpg", "b.jpg", "c.jpg")
    logits = np.array([[4, 0], [0, 2], [1e-5, 0]], dtype=np.float32)

    def judge(self, received: NDArray[np.float32], probabilities: Any = None) -> Any:
        if probabilities is None:
            probabilities = softmax(received)
        return _judged(self.names, self.logits, received, softmax(self.logits), probabilities)

    def test_differences_are_told(self) -> None:
        parity = self.judge(self.logits + np.float32(1e-4))
        assert parity.logit_error == pytest.approx(1e-4 / 4, rel=0.01)
        assert parity.probability_error < 1e-6

    def test_one_wrong_photo_is_found(self) -> None:
        received = self.logits.copy()
        received[1, 0] += 0.01
        with pytest.raises(ToolkitError, match=r"1 of 3 photos, first b\.jpg"):
            self.judge(received)

    def test_right_logits_with_wrong_probabilities_are_refused(self) -> None:
        wrong = softmax(self.logits / 2)
        with pytest.raises(ToolkitError, match=r"a probability differs.*2 of 3.*first a.jpg"):
            self.judge(self.logits, wrong)

    def test_a_label_may_change_where_two_classes_are_as_good(self) -> None:
        received = self.logits.copy()
        received[2] = [0, 1e-5]
        assert self.judge(received).labels_changed == 1

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_outputs_that_are_no_numbers_are_refused(self, value: float) -> None:
        received = self.logits.copy()
        received[2, 1] = value
        with pytest.raises(ToolkitError, match=r"not finite; 1 of 3 photos.*first c.jpg"):
            self.judge(received, softmax(self.logits))


def test_a_file_that_differs_is_not_kept(
    model: keras.Model,
    photos: NDArray[np.uint8],
    exported: onnx.ModelProto,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "photos.npy", photos)
    wrong = onnx.ModelProto()
    wrong.CopyFrom(exported)
    kernel = max(wrong.graph.initializer, key=lambda each: len(each.raw_data))
    doubled = 2 * onnx.numpy_helper.to_array(kernel)
    kernel.CopyFrom(onnx.numpy_helper.from_array(doubled, kernel.name))
    target = tmp_path / "member.onnx"
    for made, passes in ((wrong, False), (exported, True)):
        monkeypatch.setattr("toolkit.exporting.convert.to_onnx", lambda *_, made=made: made)
        arguments = (
            tmp_path / "model.keras",
            target,
            METADATA,
            tmp_path / "photos.npy",
            [1, 2],
            ["a.jpg", "b.jpg"],
        )
        if passes:
            assert convert(*arguments)["photos"] == 2
        else:
            with pytest.raises(ToolkitError, match="computes something else"):
                convert(*arguments)
        assert target.exists() == passes
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.keras",
        "photos.npy",
        "member.onnx",
    }


@pytest.fixture(scope="module")
def efficientnet() -> keras.Model:
    """An EfficientNet with ImageNet's normalization inside, the smallest there is."""
    entry = Backbone(
        "b0",
        "EfficientNetB0",
        32,
        "raw",
        parameters=4_049_571,
        outputs_per_pixel=528,
        rescales_after_normalization=True,
    )
    images = keras.Input((SIZE, SIZE, 3), dtype="uint8", name="images")
    base = build_base(entry, SIZE, pretrained=True)
    features = base(keras.layers.Rescaling(1.0, name="scaling")(images))
    features = keras.layers.GlobalAveragePooling2D()(features)
    output = keras.layers.Dense(CLASSES, activation="softmax", name="probabilities")(features)
    return keras.Model(images, output)


def test_the_usual_way_to_convert_makes_a_broken_efficientnet_and_is_refused(
    efficientnet: keras.Model,
) -> None:
    signature = [tf.TensorSpec([None, SIZE, SIZE, 3], tf.uint8, name="images")]
    function = tf.function(efficientnet.call, input_signature=signature)
    broken, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    assert len(broken.graph.input) == 3
    with pytest.raises(ToolkitError, match="Expected the single input 'images' and one output"):
        check_inputs(broken)


def test_our_way_to_convert_makes_a_right_efficientnet(
    efficientnet: keras.Model, photos: NDArray[np.uint8], tmp_path: Path
) -> None:
    made = to_onnx(efficientnet, METADATA)
    assert [value.name for value in made.graph.input] == ["images"]
    onnx.save(made, tmp_path / "model.onnx")
    assert compare(efficientnet, tmp_path / "model.onnx", photos, np.arange(4), "abcd").photos == 4


def test_softmax_of_large_logits_does_not_overflow() -> None:
    probabilities = softmax(np.array([[1000, 999], [-1000, -1000]], dtype=np.float32))
    np.testing.assert_allclose(probabilities[0], [1 / (1 + np.exp(-1)), 1 / (1 + np.e)], rtol=1e-6)
    np.testing.assert_array_equal(probabilities[1], 0.5)
