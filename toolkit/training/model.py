"""Builds a network from a recipe: scaling, backbone, a new head."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import keras
from numpy.typing import NDArray

from toolkit.data.pixels import Pixels
from toolkit.errors import RecipeError
from toolkit.training.recipe import Dense, Head, Recipe
from toolkit.training.registry import Backbone, PixelScaling, find_backbone

SCALING: dict[PixelScaling, tuple[float, float]] = {
    "unit": (1 / 255, 0.0),
    "raw": (1.0, 0.0),
    "symmetric": (1 / 127.5, -1.0),
}
"""Scale and offset of the first layer."""

BACKBONE_LAYER, PROBABILITIES_LAYER = "backbone", "probabilities"

# sqrt of ImageNet's per-channel standard deviations: see Backbone.rescales_after_normalization.
_IMAGENET_STANDARD_DEVIATIONS = (0.229, 0.224, 0.225)

_ONLY_CONV2D = (
    "filters",
    "groups",
    "kernel_initializer",
    "kernel_regularizer",
    "kernel_constraint",
)
"""Settings that `DepthwiseConv2D` does not have, or calls otherwise."""


def build_model(recipe: Recipe, classes: int, *, pretrained: bool) -> keras.Model:
    """Build an untrained network.

    Args:
        recipe: Its settings.
        classes: Number of classes.
        pretrained: Whether ImageNet weights are going to be loaded into the backbone, which for
            some networks decides the graph.

    Returns:
        A model from `images`, uint8 RGB of shape (batch, size, size, 3), to `probabilities`,
        float32 of shape (batch, classes).
    """
    backbone = find_backbone(recipe.backbone)
    scaling = backbone.own_pixels if recipe.pixels == "own" else recipe.pixels
    scale, offset = SCALING[scaling]
    base = build_base(backbone, recipe.image_size, pretrained=pretrained)
    if recipe.batch_norm_momentum is not None:
        for layer in base.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = recipe.batch_norm_momentum
    if recipe.zero_init_residual:
        start_residuals_at_zero(base)
    images = keras.Input((recipe.image_size, recipe.image_size, 3), dtype="uint8", name="images")
    features = base(keras.layers.Rescaling(scale, offset, name="scaling")(images))
    features = _head(recipe.head, features)
    # Softmax in float32 also under mixed precision: its small values would underflow.
    probabilities = keras.layers.Dense(
        classes, activation="softmax", dtype="float32", name=PROBABILITIES_LAYER
    )(features)
    return keras.Model(images, probabilities, name=recipe.backbone)


def build_base(backbone: Backbone, size: int, *, pretrained: bool) -> keras.Model:
    """Build a backbone without its classifier and without weights.

    Args:
        backbone: Which.
        size: Image side in pixels.
        pretrained: Build the graph that Keras builds for its ImageNet weights.

    Returns:
        A functional model named `backbone`.
    """
    base = _by_keras(backbone, (size, size, 3), weights=None)
    if backbone.depthwise_by_groups:
        base = _with_depthwise_layers(base)
    base.name = BACKBONE_LAYER  # As an argument it would lead EfficientNetV2 astray.
    if pretrained and backbone.rescales_after_normalization:
        base = keras.models.clone_model(base, call_function=_rescaled_after_normalization)
    return base


def start_residuals_at_zero(base: keras.Model) -> int:
    """Make each residual branch that ends in batch normalization add nothing at first (1706.02677).

    A deep network from random weights then learns as the shallow one of its other layers does, and
    takes the branches in as they turn out useful.

    Args:
        base: A backbone; ImageNet weights that are loaded later replace what is set here.

    Returns:
        The number of branches.
    """
    place = {operation.name: index for index, operation in enumerate(base.operations)}
    branches = 0
    for layer in base.layers:
        if not isinstance(layer, keras.layers.Add):
            continue
        # Of the two that are added, the branch is what was computed last.
        ends = [tensor._keras_history.operation for tensor in layer.input]
        end = max(ends, key=lambda operation: place[operation.name])
        if isinstance(end, keras.layers.Dropout):  # Stochastic depth.
            end = end.input._keras_history.operation
        if isinstance(end, keras.layers.BatchNormalization):
            end.gamma.assign(keras.ops.zeros_like(end.gamma))
            branches += 1
    return branches


def load_imagenet(model: keras.Model, backbone: Backbone, folder: Path | None) -> None:
    """Load ImageNet weights into the backbone of a model built with `pretrained=True`.

    Args:
        model: From `build_model`.
        backbone: Its backbone.
        folder: Where `<backbone>_imagenet_notop.weights.h5` lies; None downloads by Keras.

    Raises:
        ToolkitError: The file does not fit, or there is no network to download from.
    """
    base = backbone_of(model)
    if folder is None:
        _take_weights_of_keras(_downloaded(backbone, base), base)
        return
    path = folder / backbone.weights_file
    layers_differ = backbone.depthwise_by_groups
    reader = _by_keras(backbone, base.input_shape[1:], weights=None) if layers_differ else base
    try:
        reader.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RecipeError(
            f"{path}: no weights for {backbone.constructor} ({reason}).", path=path
        ) from None
    if layers_differ:
        _take_weights_of_keras(reader, base)


def reestimate_batch_norm(model: keras.Model, batches: Iterable[Pixels]) -> None:
    """Replace the moving statistics by averages over photos under the final weights (2105.07576).

    Moving statistics belong to weights that have changed since. After few steps from random weights
    the two do not fit: activations grow from layer to layer, and so does every rounding error.

    Args:
        model: From `build_model`.
        batches: Images of shape (batch, size, size, 3), uint8.
    """
    layers = [
        layer
        for layer in [*model.layers, *backbone_of(model).layers]
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in layers]
    for count, images in enumerate(batches):
        for layer in layers:
            layer.momentum = count / (count + 1)  # the mean of all batches so far
        model(images, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy all weights from one model to another of the same layers."""
    set_weights(target, source.get_weights())


def set_weights(model: keras.Model, weights: list[NDArray[Any]]) -> None:
    """Set all weights of a model to those of another of the same layers (`get_weights`).

    After Keras's `set_weights` alone a Normalization layer goes on with the statistics it was
    built with.
    """
    model.set_weights(weights)
    take_statistics(model)


def backbone_of(model: keras.Model) -> keras.Model:
    """Return the backbone inside a model."""
    base: keras.Model = model.get_layer(BACKBONE_LAYER)
    return base


def freeze(model: keras.Model, fraction: float) -> None:
    """Freeze the lower layers of the backbone and free all others.

    A frozen batch normalization uses its stored statistics, in training too (Keras).

    Args:
        model: From `build_model`. It has to be compiled again afterwards.
        fraction: Share of the backbone's layers, counted from the input.
    """
    base = backbone_of(model)
    frozen = round(fraction * len(base.layers))
    base.trainable = True
    # One by one: setting a model that is trainable already does not reach its frozen layers.
    for number, layer in enumerate(base.layers):
        layer.trainable = number >= frozen


def _downloaded(backbone: Backbone, base: keras.Model) -> keras.Model:
    try:
        return _by_keras(backbone, base.input_shape[1:], weights="imagenet")
    except Exception as error:
        # Keras raises a bare Exception where a download fails; anything else is a bug.
        if "URL fetch failure" not in str(error):
            raise
        raise RecipeError(
            f"The ImageNet weights of {backbone.name} cannot be downloaded (no network?). Pass "
            f"`pretrained=DIR` with {backbone.weights_file} in it, or `pretrained='none'`."
        ) from None


def _by_keras(
    backbone: Backbone, shape: tuple[int, int, int], *, weights: Literal["imagenet"] | None
) -> keras.Model:
    """Return the network as `keras.applications` builds it."""
    constructor = getattr(keras.applications, backbone.constructor)
    built: keras.Model = constructor(
        include_top=False, weights=weights, input_shape=shape, **backbone.options
    )
    return built


def _with_depthwise_layers(base: keras.Model) -> keras.Model:
    """Rebuild a network with `DepthwiseConv2D` in place of convolutions of one group a channel.

    Layers that Keras puts into a `Sequential` stand by themselves afterwards, so that a fraction of
    the layers to freeze counts them one by one.
    """

    def remade(layer: keras.Operation) -> keras.Operation:
        settings = layer.get_config()
        if not isinstance(layer, keras.layers.Conv2D) or layer.groups == 1:
            return type(layer).from_config(settings)
        kept = {key: value for key, value in settings.items() if key not in _ONLY_CONV2D}
        initializer = settings["kernel_initializer"]  # Glorot's range is the same for both shapes.
        return keras.layers.DepthwiseConv2D.from_config(
            {**kept, "depthwise_initializer": initializer}
        )

    def called(layer: keras.Operation, *inputs: Any, **options: Any) -> Any:
        run = layer.call if isinstance(layer, keras.Sequential) else layer
        return run(*inputs, **options)

    unfolded = keras.models.clone_model(
        base, clone_function=lambda layer: layer, call_function=called
    )
    return keras.models.clone_model(unfolded, clone_function=remade)


def _take_weights_of_keras(source: keras.Model, target: keras.Model) -> None:
    """Copy all weights from the network as Keras builds it to that of `build_base`.

    They have the same order. A kernel of one group a channel has the shape (side, side, 1,
    channels), that of a `DepthwiseConv2D` (side, side, channels, 1): the same numbers in a row.
    """
    pairs = zip(source.get_weights(), target.weights, strict=True)
    set_weights(target, [values.reshape(weight.shape) for values, weight in pairs])


def take_statistics(model: keras.Model) -> None:
    """Make Normalization layers compute with the statistics that their weights now hold."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            take_statistics(layer)
        elif isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def _rescaled_after_normalization(layer: keras.Layer, *inputs: Any, **options: Any) -> Any:
    outputs = layer(*inputs, **options)
    if isinstance(layer, keras.layers.Normalization):
        factors = [1 / deviation**0.5 for deviation in _IMAGENET_STANDARD_DEVIATIONS]
        return keras.layers.Rescaling(factors)(outputs)
    return outputs


def _head(head: Head, features: Any) -> Any:
    pooling: dict[str, Callable[[], keras.Layer]] = {
        "max": keras.layers.GlobalMaxPooling2D,
        "average": keras.layers.GlobalAveragePooling2D,
    }
    features = pooling[head.pooling]()(features)
    for layer in head.layers:
        if layer.dense:
            features = _dense(layer.dense)(features)
        elif layer.dropout:
            features = keras.layers.Dropout(layer.dropout.rate)(features)
        else:
            features = keras.layers.BatchNormalization()(features)
    return features


def _dense(dense: Dense) -> keras.Layer:
    regularizer = keras.regularizers.L2
    return keras.layers.Dense(
        dense.units,
        activation=dense.activation,
        bias_regularizer=regularizer(dense.bias_l2) if dense.bias_l2 else None,
        activity_regularizer=regularizer(dense.activity_l2) if dense.activity_l2 else None,
    )
