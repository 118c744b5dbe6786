"""Networks: scaling, backbone, head; what is frozen stays; weights mean what they mean to Keras."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.applications import convnext
from keras.src.utils import file_utils
from numpy.typing import NDArray

from toolkit.errors import ToolkitError
from toolkit.training.model import (
    backbone_of,
    build_base,
    build_model,
    copy_weights,
    freeze,
    load_imagenet,
    reestimate_batch_norm,
)
from toolkit.training.recipe import Recipe
from toolkit.training.registry import BACKBONES, Backbone, find_backbone

# Keras's own way to read a TensorFlow variable, in NumPy's eyes.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning"),
    pytest.mark.filterwarnings("ignore:`input_shape` is undefined or non-square:UserWarning"),
]

HEAD = {
    "pooling": "average",
    "layers": [{"dense": {"units": 8, "activity_l2": 1e-4}}, {"batch_norm": {}}],
}


def recipe(backbone: str = "mobilenetv3small", **changes: Any) -> Recipe:
    content = {
        "set": "test",
        "backbone": backbone,
        "image_size": find_backbone(backbone).smallest_size,
        "batch_size": 8,
        "validation_fraction": 0.2,
        "seed": 1,
        "weights": "none",
        "pixels": "own",
        "head": {"pooling": "average"},
        "loss": "categorical_crossentropy",
        "optimizer": {"name": "Adamax", "learning_rate": 0.01},
        "stages": [{"name": "all", "epochs": 1, "frozen_fraction": 0}],
        "augmentor": [],
    }
    return Recipe.model_validate({**content, **changes})


def photos(count: int, size: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def stirred(model: keras.Model, seed: int = 0) -> keras.Model:
    """Give every weight a value of its own, as training would; variances stay positive."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        noise = generator.uniform(0.5, 1.5, weight.shape)
        weight.assign(np.where(weight.numpy() == 0, 0.1 * (noise - 1), weight.numpy() * noise))
    return model


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_registry_knows_the_size_of_every_backbone(backbone: str) -> None:
    entry = find_backbone(backbone)
    base = build_base(entry, 150, pretrained=True)
    outputs = sum(np.prod(layer.output.shape[1:]) for layer in base.layers) / 150**2
    assert (entry.parameters, entry.outputs_per_pixel) == (base.count_params(), round(outputs))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_is_keras_s_network_with_a_head(
    backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = find_backbone(backbone)
    size = entry.smallest_size
    model = build_model(recipe(backbone), 7, pretrained=True)
    assert model.input.dtype == "uint8"
    assert model.input_shape == (None, size, size, 3)
    assert model.output_shape == (None, 7)
    probabilities = model.predict_on_batch(photos(2, size))
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)

    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: "not-really-downloaded.h5")
    monkeypatch.setattr(keras.Model, "load_weights", lambda *_, **__: None)
    by_keras = getattr(keras.applications, entry.constructor)(
        include_top=False, weights="imagenet", input_shape=(size, size, 3), **entry.options
    )
    assert kinds(backbone_of(model)) == kinds(by_keras)
    assert backbone_of(model).count_params() == by_keras.count_params()


def kinds(model: keras.Model) -> list[str]:
    """Return what the layers compute, whether they stand in a `Sequential` or by themselves."""
    found: list[str] = []
    for layer in model.layers:
        if isinstance(layer, keras.Sequential):
            found += kinds(layer)
        elif isinstance(layer, keras.layers.Conv2D) and layer.groups == layer.filters:
            found.append("DepthwiseConv2D")
        else:
            found.append(type(layer).__name__)
    return found


def test_an_unknown_backbone_is_told_with_the_nearest() -> None:
    with pytest.raises(ToolkitError, match=r"'xcepton'\. Did you mean 'xception'"):
        find_backbone("xcepton")


def test_each_model_has_a_head_and_a_backbone_of_its_own() -> None:
    first = build_model(recipe(head=HEAD), 3, pretrained=False)
    second = build_model(recipe(head=HEAD), 3, pretrained=False)
    layers = [{id(layer) for layer in walk(model)} for model in (first, second)]
    assert not layers[0] & layers[1]
    before = second.get_weights()
    for weight in first.weights:
        weight.assign(weight + 1)
    for one, other in zip(before, second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def walk(model: keras.Model) -> list[keras.Layer]:
    return [*model.layers, *backbone_of(model).layers]


@pytest.mark.parametrize(
    ("pixels", "backbone", "black", "grey", "white"),
    [
        ("unit", "mobilenetv3small", 0, 0.2, 1),
        ("raw", "mobilenetv3small", 0, 51, 255),
        ("symmetric", "mobilenetv3small", -1, -0.6, 1),
        ("own", "mobilenetv3small", 0, 51, 255),
        ("own", "resnet101v2", -1, -0.6, 1),
    ],
)
def test_pixels_enter_the_backbone_scaled(
    pixels: str, backbone: str, black: float, grey: float, white: float
) -> None:
    model = build_model(recipe(backbone, pixels=pixels), 3, pretrained=False)
    scaling = model.get_layer("scaling")
    assert type(scaling) is keras.layers.Rescaling
    seen = keras.Model(model.input, scaling.output)
    batch = np.zeros((1, *model.input_shape[1:]), dtype=np.uint8)
    batch[0, 0, :3] = [[0] * 3, [51] * 3, [255] * 3]
    expected = [[black] * 3, [grey] * 3, [white] * 3]
    np.testing.assert_allclose(seen.predict_on_batch(batch)[0, 0, :3], expected, atol=1e-6)


def test_own_pixels_are_what_keras_does_to_photos_for_these_weights() -> None:
    modules = {
        "xception": keras.applications.xception,
        "inceptionv3": keras.applications.inception_v3,
        "resnet101v2": keras.applications.resnet_v2,
        "efficientnetb3": keras.applications.efficientnet,
        "mobilenetv3small": keras.applications.mobilenet_v3,
        "efficientnetv2b0": keras.applications.efficientnet_v2,
        "efficientnetv2s": keras.applications.efficientnet_v2,
        "convnexttiny": keras.applications.convnext,
        "convnextsmall": keras.applications.convnext,
    }
    assert modules.keys() == BACKBONES.keys()
    batch = photos(1, 4)
    scaled = {
        "unit": batch / 255,
        "raw": batch.astype(float),
        "symmetric": batch / 127.5 - 1,
    }
    for name, module in modules.items():
        expected = module.preprocess_input(batch.astype(np.float32))
        np.testing.assert_allclose(scaled[find_backbone(name).own_pixels], expected, atol=1e-5)


def test_no_layer_runs_code_that_a_file_could_bring_along() -> None:
    model = build_model(recipe("efficientnetb3", head=HEAD), 3, pretrained=True)
    assert not [layer for layer in walk(model) if isinstance(layer, keras.layers.Lambda)]


def test_the_head_is_as_the_recipe_says() -> None:
    head = {
        "pooling": "max",
        "layers": [
            {"dense": {"units": 5, "activation": "elu", "bias_l2": 0.001}},
            {"batch_norm": {}},
            {"dropout": {"rate": 0.4}},
        ],
    }
    model = build_model(recipe(head=head), 3, pretrained=False)
    pooling, dense, norm, dropout, last = model.layers[3:]
    assert isinstance(pooling, keras.layers.GlobalMaxPooling2D)
    assert (dense.units, dense.activation.__name__) == (5, "elu")
    assert dense.bias_regularizer.get_config() == {"l2": pytest.approx(0.001)}
    assert dense.activity_regularizer is None
    assert isinstance(norm, keras.layers.BatchNormalization)
    assert dropout.rate == 0.4
    assert (last.units, last.activation.__name__) == (3, "softmax")


def test_momentum_of_the_backbones_batch_norm_can_be_set() -> None:
    for momentum, expected in ((0.7, {0.7}), (None, {0.999})):
        model = build_model(recipe(batch_norm_momentum=momentum), 3, pretrained=False)
        norms = [
            layer
            for layer in backbone_of(model).layers
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        assert {layer.momentum for layer in norms} == expected


@pytest.mark.parametrize("backbone", ["mobilenetv3small", "efficientnetv2b0"])
def test_residual_branches_can_start_at_zero(backbone: str) -> None:
    for chosen in (True, None):
        model = build_model(
            recipe(backbone=backbone, zero_init_residual=chosen), 3, pretrained=False
        )
        base = backbone_of(model)
        sums = [layer for layer in base.layers if isinstance(layer, keras.layers.Add)]
        assert len(sums) > 5
        tensors = [[*layer.input, layer.output] for layer in sums]
        images = photos(2, 32).astype(np.float32)
        for first, second, total in keras.Model(base.input, tensors)(images):
            adds_nothing = any(np.array_equal(total, shortcut) for shortcut in (first, second))
            assert adds_nothing == bool(chosen)


@pytest.mark.parametrize("fraction", [0, 0.25, 0.5, 1])
def test_a_fraction_of_the_backbone_is_frozen_from_the_input_on(fraction: float) -> None:
    model = build_model(recipe(head=HEAD), 3, pretrained=False)
    freeze(model, fraction)
    layers = backbone_of(model).layers
    frozen = round(fraction * len(layers))
    assert [layer.trainable for layer in layers] == [False] * frozen + [True] * (
        len(layers) - frozen
    )
    assert all(layer.trainable for layer in model.layers)


@pytest.mark.parametrize("loaded", [False, True])
def test_a_later_stage_frees_what_an_earlier_one_froze(loaded: bool, tmp_path: Path) -> None:
    model = build_model(recipe(), 3, pretrained=False)
    all_weights = len(model.trainable_weights)
    freeze(model, 1)
    assert len(model.trainable_weights) == 2
    if loaded:  # As from the checkpoint that ended the earlier stage.
        model.save(tmp_path / "checkpoint.keras")
        model = keras.models.load_model(tmp_path / "checkpoint.keras")
    freeze(model, 0.5)
    half = len(model.trainable_weights)
    freeze(model, 0)
    assert 2 < half < len(model.trainable_weights) == all_weights


def test_frozen_layers_and_their_statistics_do_not_move_in_training() -> None:
    model = build_model(recipe(batch_norm_momentum=0.5), 3, pretrained=False)
    freeze(model, 0.5)
    model.compile("sgd", "categorical_crossentropy")
    base = backbone_of(model)
    before = [[np.copy(weight) for weight in layer.get_weights()] for layer in base.layers]
    model.train_on_batch(photos(8, 32), np.eye(3)[np.arange(8) % 3])
    half = round(0.5 * len(base.layers))
    moved = [
        [not np.array_equal(*pair) for pair in zip(old, layer.get_weights(), strict=True)]
        for old, layer in zip(before, base.layers, strict=True)
    ]
    assert not any(any(each) for each in moved[:half])
    norms = [
        each
        for each, layer in zip(moved[half:], base.layers[half:], strict=True)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert len(norms) > 5
    assert all(all(each[2:]) for each in norms)  # Their means and variances.
    assert sum(any(each) for each in moved[half:]) > len(norms)


@pytest.mark.numeric
def test_frozen_batch_norm_normalises_by_its_statistics_in_training_too() -> None:
    model = build_model(recipe(), 3, pretrained=False)
    stirred(model)
    freeze(model, 1)
    base, batch = backbone_of(model), photos(4, 32).astype(np.float32)
    frozen = keras.ops.convert_to_numpy(base(batch, training=True))
    inference = keras.ops.convert_to_numpy(base(batch, training=False))
    np.testing.assert_allclose(frozen, inference, rtol=1e-5, atol=1e-6)
    freeze(model, 0)
    free = keras.ops.convert_to_numpy(base(batch, training=True))
    assert np.abs(free - inference).max() > 0.01


def computed(model: keras.Model, batch: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(keras.ops.convert_to_numpy(model(batch, training=False)))


@pytest.mark.numeric
def test_efficientnet_from_a_file_is_what_keras_would_have_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = find_backbone("efficientnetb3")
    # Someone's ImageNet weights, with normalization statistics that are not those of a new layer.
    source = stirred(build_base(backbone, 32, pretrained=False), seed=3)
    normalization = next(
        layer for layer in source.layers if isinstance(layer, keras.layers.Normalization)
    )
    mean, variance, *_ = normalization.weights
    mean.assign(np.array([0.485, 0.456, 0.406]))
    variance.assign(np.array([0.229, 0.224, 0.225]))
    source.save_weights(tmp_path / backbone.weights_file)
    monkeypatch.setattr(
        file_utils, "get_file", lambda *_, **__: str(tmp_path / backbone.weights_file)
    )
    by_keras = keras.applications.EfficientNetB3(
        include_top=False, weights="imagenet", input_shape=(32, 32, 3)
    )
    batch = photos(4, 32, seed=5)
    expected = computed(by_keras, batch.astype(np.float32))
    assert expected.std() > 1e-3

    tolerance = 1e-6 * np.abs(expected).max()
    for folder in (tmp_path, None):  # From the folder, and "downloaded".
        model = build_model(recipe("efficientnetb3"), 3, pretrained=True)
        load_imagenet(model, backbone, folder)
        received = computed(backbone_of(model), batch.astype(np.float32))
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=tolerance)
        whole = computed(model, batch)

    # What a finished run keeps is a copy, and computes the same before and after it was saved.
    kept = build_model(recipe("efficientnetb3"), 3, pretrained=True)
    copy_weights(model, kept)
    np.testing.assert_allclose(computed(kept, batch), whole, rtol=1e-5)
    kept.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(computed(loaded, batch), whole, rtol=1e-5)

    # Without the layer that Keras adds the same weights compute something else.
    naive = build_base(backbone, 32, pretrained=False)
    naive.load_weights(tmp_path / backbone.weights_file)
    difference = np.abs(computed(naive, batch.astype(np.float32)) - expected).max()
    assert difference > 100 * tolerance


@pytest.fixture
def small_convnext(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """A ConvNeXt as Keras builds the larger ones, of one block a stage."""
    sizes = {"depths": (1, 1, 1, 1), "projection_dims": (6, 8, 10, 12)}
    named = {"name": "convnext_tiny", "weights_name": "convnext_tiny"}
    small = functools.partial(convnext.ConvNeXt, **sizes, **named)
    monkeypatch.setitem(convnext.MODEL_CONFIGS, "tiny", sizes)
    monkeypatch.setattr(keras.applications, "SmallConvNeXt", small, raising=False)
    return dataclasses.replace(find_backbone("convnexttiny"), constructor="SmallConvNeXt")


@pytest.mark.numeric
@pytest.mark.parametrize("name", ["efficientnetv2s", "small convnext"])
def test_further_networks_from_a_file_are_what_keras_would_have_downloaded(
    name: str, small_convnext: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = small_convnext if name == "small convnext" else find_backbone(name)
    constructor = getattr(keras.applications, backbone.constructor)
    path = tmp_path / backbone.weights_file
    stirred(constructor(include_top=False, weights=None, input_shape=(64, 64, 3))).save_weights(
        path
    )
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: str(path))
    by_keras = constructor(include_top=False, weights="imagenet", input_shape=(64, 64, 3))
    batch = photos(4, 64, seed=5).astype(np.float32)
    expected = computed(by_keras, batch)
    assert expected.std() > 1e-3
    scale = np.abs(expected).max()
    for folder in (tmp_path, None):  # From the folder, and "downloaded".
        base = build_base(backbone, 64, pretrained=True)
        load_imagenet(keras.Sequential([base]), backbone, folder)
        np.testing.assert_allclose(computed(base, batch) / scale, expected / scale, atol=2e-6)


@pytest.mark.numeric
def test_depthwise_convolutions_by_groups_become_layers_that_learn_the_same(
    small_convnext: Backbone, tmp_path: Path
) -> None:
    keras.utils.set_random_seed(1)
    by_keras = keras.applications.SmallConvNeXt(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    stirred(by_keras).save_weights(tmp_path / small_convnext.weights_file)
    base = build_base(small_convnext, 32, pretrained=True)
    load_imagenet(keras.Sequential([base]), small_convnext, tmp_path)
    assert not [layer for layer in base.layers if isinstance(layer, keras.Sequential)]
    assert not [layer for layer in base.layers if getattr(layer, "groups", 1) > 1]
    names = [layer.name for layer in by_keras.layers if "_block_" in layer.name]
    assert {name for name in names if "downsampling" not in name} < {
        layer.name for layer in base.layers
    }

    batch, wanted = photos(4, 32).astype(np.float32), np.zeros((4, 1, 1, 12))
    for network in (by_keras, base):
        network.compile("sgd", "mse", jit_compile=False)
        network.train_on_batch(batch, wanted)
    for before, after in zip(by_keras.get_weights(), base.get_weights(), strict=True):
        np.testing.assert_allclose(after.ravel(), before.ravel(), rtol=1e-3, atol=1e-5)


def test_weights_of_another_network_are_refused_by_file(tmp_path: Path) -> None:
    backbone = find_backbone("mobilenetv3small")
    path = tmp_path / backbone.weights_file
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save_weights(path)
    model = build_model(recipe(), 3, pretrained=True)
    with pytest.raises(ToolkitError, match=f"{backbone.weights_file}: no weights for MobileNetV3"):
        load_imagenet(model, backbone, tmp_path)


def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path) -> None:
    backbone = find_backbone("mobilenetv3small")
    (tmp_path / backbone.weights_file).write_bytes(b"<html>404 Not Found</html>")
    model = build_model(recipe(), 3, pretrained=True)
    with pytest.raises(ToolkitError, match=f"{backbone.weights_file}: no weights for MobileNetV3"):
        load_imagenet(model, backbone, tmp_path)


def test_a_download_without_network_names_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**_: Any) -> None:
        raise Exception("URL fetch failure on https://storage.googleapis.com/x: None -- [Errno -3]")

    model = build_model(recipe(), 3, pretrained=True)
    monkeypatch.setattr(keras.applications, "MobileNetV3Small", offline)
    with pytest.raises(
        ToolkitError,
        match=r"`pretrained=DIR` with mobilenetv3small_imagenet_notop"
        r"\.weights\.h5 in it, or `pretrained='none'`",
    ):
        load_imagenet(model, find_backbone("mobilenetv3small"), None)


def test_any_other_failure_of_a_download_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def buggy(**_: Any) -> None:
        raise ZeroDivisionError("a bug")

    model = build_model(recipe(), 3, pretrained=True)
    monkeypatch.setattr(keras.applications, "MobileNetV3Small", buggy)
    with pytest.raises(ZeroDivisionError):
        load_imagenet(model, find_backbone("mobilenetv3small"), None)


@pytest.mark.numeric
def test_reestimated_statistics_are_those_of_the_photos_under_the_final_weights() -> None:
    model = build_model(recipe(pixels="raw"), 3, pretrained=False)
    base = backbone_of(model)
    first = next(
        layer for layer in base.layers if isinstance(layer, keras.layers.BatchNormalization)
    )
    momentum = first.momentum
    images = photos(24, 32)
    reestimate_batch_norm(model, images.reshape(3, 8, 32, 32, 3))
    entering = keras.Model(base.input, first.input)(images.astype("float32"))
    values = keras.ops.convert_to_numpy(entering)
    found = keras.ops.convert_to_numpy(first.moving_mean)
    np.testing.assert_allclose(found, values.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-3)
    # The mean variance of three batches is a little under that of all photos together.
    spread = keras.ops.convert_to_numpy(first.moving_variance)
    np.testing.assert_allclose(spread, values.var(axis=(0, 1, 2)), rtol=0.05)
    assert first.momentum == momentum
