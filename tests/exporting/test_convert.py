"""Keras to ONNX: one input, one output, and the same figures; a file that differs is refused."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import scipy.special
import tensorflow as tf
import tf2onnx
from keras.src.applications import convnext
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from toolkit.errors import ToolkitError
from toolkit.exporting.convert import (
    BATCH_DIMENSION,
    MOST_TRANSPOSES,
    OPSET,
    check_inputs,
    convert,
    erfc_by_erf,
    to_onnx,
)
from toolkit.exporting.graphs import name_anew
from toolkit.exporting.parity import compare
from toolkit.exporting.reference import Reference
from toolkit.processes import in_own_process
from toolkit.training.model import PROBABILITIES_LAYER, build_base, build_model
from toolkit.training.recipe import Recipe
from toolkit.training.registry import Backbone, find_backbone

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


@pytest.mark.numeric
def test_batches_of_any_size_give_the_same_rows(file: Path, photos: NDArray[np.uint8]) -> None:
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
            assert convert(*arguments).photos == 2
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
    reference = Reference(efficientnet)
    assert compare(reference, tmp_path / "model.onnx", photos, np.arange(4), "abcd").photos == 4


@pytest.mark.numeric
def test_a_convnext_converts_with_its_depthwise_convolutions_and_gelu(
    photos: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = functools.partial(
        convnext.ConvNeXt, depths=(1, 1, 1, 1), projection_dims=(6, 8, 10, 12)
    )
    monkeypatch.setattr(keras.applications, "SmallConvNeXt", small, raising=False)
    entry = dataclasses.replace(find_backbone("convnexttiny"), constructor="SmallConvNeXt")
    keras.utils.set_random_seed(7)
    images = keras.Input((SIZE, SIZE, 3), dtype="uint8", name="images")
    base = build_base(entry, SIZE, pretrained=True)
    for layer in base.layers:
        if "layer_scale" in layer.name:  # Its blocks would else add one millionth of what they may.
            layer.set_weights([np.full_like(layer.get_weights()[0], 0.5)])
    features = base(keras.layers.Rescaling(1.0, name="scaling")(images))
    features = keras.layers.GlobalAveragePooling2D()(features)
    output = keras.layers.Dense(CLASSES, activation="softmax", name="probabilities")(features)
    keras.Model(images, output).save(tmp_path / "model.keras")
    network = keras.models.load_model(tmp_path / "model.keras", compile=False)

    made = to_onnx(network, METADATA)
    onnx.save(made, tmp_path / "model.onnx")
    groups = [each.i for node in made.graph.node for each in node.attribute if each.name == "group"]
    assert sorted(number for number in groups if number > 1) == [6, 8, 10, 12]
    assert {node.domain for node in made.graph.node} <= {"", "ai.onnx"}
    figures = compare(
        Reference(network), tmp_path / "model.onnx", photos, np.arange(16), "abcdefghijklmnop"
    )
    assert figures.logit_error < 1e-5


@pytest.mark.numeric
def test_gelu_becomes_what_onnxruntime_computes_in_one_node(
    photos: NDArray[np.uint8], tmp_path: Path
) -> None:
    images = keras.Input((SIZE, SIZE, 3), dtype="uint8", name="images")
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 8.0, -16)(images))
    features = keras.layers.Dense(16, activation="gelu")(features)
    output = keras.layers.Dense(CLASSES, activation="softmax", name=PROBABILITIES_LAYER)(features)
    network = keras.Model(images, output)
    onnx.save(to_onnx(network, METADATA), tmp_path / "model.onnx")
    compare(Reference(network), tmp_path / "model.onnx", photos, np.arange(4), "abcd")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert "Gelu" in kinds


@pytest.mark.numeric
def test_erfc_of_anything_else_is_converted_too() -> None:
    tensor = tf.TensorSpec([None, 3], tf.float32, name="values")
    given = np.linspace(-4, 4, 30, dtype=np.float32).reshape(-1, 3)
    made, _ = tf2onnx.convert.from_function(
        tf.function(lambda values: tf.math.erfc(values + 0.5), input_signature=[tensor]),
        input_signature=[tensor],
        opset=OPSET,
        custom_op_handlers={"Erfc": (erfc_by_erf, [])},
    )
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (received,) = session.run(None, {"values": given})
    expected = scipy.special.erfc(given.astype(np.float64) + 0.5)
    np.testing.assert_allclose(received, expected, atol=3e-7)


@pytest.mark.numeric
def test_padding_before_max_pooling_stays_padding_with_zeros(photos: NDArray[np.uint8]) -> None:
    """Where all inputs are negative, the padding is the maximum: onnxruntime must not drop it."""
    layers = keras.layers
    keras.utils.set_random_seed(5)
    images = keras.Input((SIZE, SIZE, 3), dtype="uint8", name="images")
    values = layers.Rescaling(1 / 255.0)(images)
    values = layers.Conv2D(6, 3, bias_initializer=keras.initializers.Constant(-3.0))(values)
    values = layers.ZeroPadding2D(1)(values)
    values = layers.MaxPooling2D(3, 2)(values)
    values = layers.Flatten()(values)
    last = layers.Dense(CLASSES, activation="softmax", name=PROBABILITIES_LAYER)
    network = keras.Model(images, last(values))
    exported = to_onnx(network, METADATA)
    assert [node.op_type for node in exported.graph.node].count("MaxPool") == 1
    options = onnxruntime.SessionOptions()
    session = onnxruntime.InferenceSession(
        exported.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (received,) = session.run(None, {"images": photos})
    expected = keras.ops.convert_to_numpy(network.predict_on_batch(photos))
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_the_same_network_becomes_the_same_file_in_every_process(
    model: keras.Model, photos: NDArray[np.uint8], tmp_path: Path
) -> None:
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "photos.npy", photos)
    rest = METADATA, tmp_path / "photos.npy", [0, 1], ["a", "b"]
    for name in ("one.onnx", "two.onnx"):
        in_own_process(convert, tmp_path / "model.keras", tmp_path / name, *rest)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_names_that_tf2onnx_chose_otherwise_leave_no_trace() -> None:
    files = []
    for names in (("a__1", "b__2", "c__30"), ("c__12", "a__7", "c__31")):
        first, second, value = names
        constants = [
            onnx.numpy_helper.from_array(np.float32(number), name)
            for number, name in ((1, first), (2, second))
        ]
        nodes = [
            onnx.helper.make_node("Add", ["x", first], [value], name=f"add__{len(files)}"),
            onnx.helper.make_node("Mul", [value, second], ["y"], name="mul"),
        ]
        ends = [onnx.helper.make_tensor_value_info(name, 1, [2]) for name in "xy"]
        order = constants if files else constants[::-1]
        graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], order)
        name_anew(graph)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
        onnx.checker.check_model(model, full_check=True)
        found = ReferenceEvaluator(model).run(None, {"x": np.array([1, 5], np.float32)})[0]
        np.testing.assert_array_equal(found, [4, 12])
        files.append(graph)
    for one, other in zip(files[0].node, files[1].node, strict=True):
        assert (list(one.input)[1:], one.name) == (list(other.input)[1:], other.name)
    assert list(files[0].initializer) == list(files[1].initializer)


def test_values_that_differ_in_their_numbers_alone_stay_apart() -> None:
    nodes = [
        onnx.helper.make_node("Relu", ["x"], ["v__1"], name="n__1"),
        onnx.helper.make_node("Neg", ["x"], ["v__2"], name="n__2"),
        onnx.helper.make_node("Add", ["v__1", "v__2"], ["y"], name="n"),
    ]
    ends = [onnx.helper.make_tensor_value_info(name, 1, [2]) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:])
    name_anew(graph)
    assert list(graph.node[2].input) == [*graph.node[0].output, *graph.node[1].output]
    assert len({node.name for node in graph.node}) == len({*graph.node[2].input, "y"}) == 3
