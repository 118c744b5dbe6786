"""Networks that amplify rounding more and less: a part of `parity.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np
from numpy.typing import NDArray

from toolkit.training.model import BACKBONE_LAYER, PROBABILITIES_LAYER, backbone_of

Photos = NDArray[np.uint8]


def photos(count: int, size: int, seed: int = 0) -> Photos:
    """Draw photos that differ in brightness, contrast and coarseness; no two are alike."""
    generator = np.random.default_rng(seed)
    drawn = np.empty((count, size, size, 3), dtype=np.uint8)
    for number in range(count):
        cell = int(generator.choice([1, 2, 4, 8]))
        coarse = generator.normal(size=(-(-size // cell), -(-size // cell), 3))
        noise = coarse.repeat(cell, axis=0).repeat(cell, axis=1)[:size, :size]
        level, contrast = generator.uniform(30, 220), generator.uniform(5, 80)
        drawn[number] = np.clip(level + contrast * noise, 0, 255).astype(np.uint8)
    return drawn


def small_network(size: int = 32, classes: int = 5) -> keras.Model:
    """Build a network of all layers that the backbones have, which converts in a second."""
    layers = keras.layers
    images = keras.Input((size, size, 3))
    normalized = layers.Normalization(name="normalization")(images)
    values = layers.ZeroPadding2D(1, name="stem_pad")(normalized)
    values = layers.Conv2D(12, 3, strides=2, use_bias=False, name="stem_conv")(values)
    values = layers.BatchNormalization(name="stem_bn")(values)
    values = first = layers.Activation("relu", name="stem_act")(values)
    values = layers.SeparableConv2D(12, 3, padding="same", use_bias=False, name="separable")(values)
    values = layers.BatchNormalization(name="separable_bn")(values)
    values = layers.Activation("relu", name="separable_act")(values)
    values = layers.add([first, values], name="sum")
    values = layers.MaxPooling2D(3, 2, padding="same", name="max_pool")(values)
    values = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(values)
    values = layers.BatchNormalization(scale=False, name="depthwise_bn")(values)
    values = layers.Activation("swish", name="depthwise_act")(values)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(values)
    gate = layers.Conv2D(12, 1, activation="sigmoid", name="excite")(gate)
    values = layers.multiply([values, gate], name="gated")
    left = layers.Conv2D(12, 3, padding="same", name="left")(values)
    right = layers.AveragePooling2D(3, 1, padding="same", name="average_pool")(values)
    right = layers.Conv2D(12, 3, padding="same", activation="relu", name="right")(right)
    values = layers.concatenate([left, right], name="branches")
    values = layers.ZeroPadding2D(1, name="pool_pad")(values)  # of values below zero too
    values = layers.MaxPooling2D(3, 2, name="padded_max_pool")(values)
    base = keras.Model(images, values, name=BACKBONE_LAYER)

    given = keras.Input((size, size, 3), dtype="uint8", name="images")
    values = base(layers.Rescaling(1 / 127.5, -1.0, name="scaling")(given))
    values = layers.GlobalAveragePooling2D(name="pool")(values)
    values = layers.Dense(16, activation="relu", name="dense")(values)
    values = layers.BatchNormalization(name="head_bn")(values)
    # In float32 whatever the rest computes in, as in `toolkit.training.model`.
    last = layers.Dense(classes, activation="softmax", dtype="float32", name=PROBABILITIES_LAYER)
    return keras.Model(given, last(values), name="small")


def settle(network: keras.Model, seen: Photos) -> None:
    """Give every bias and statistic a value, as training would, so that each one matters."""
    generator = np.random.default_rng(1)
    for layer in (*network.layers, *backbone_of(network).layers):
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt_mean.assign([0.1, 0, -0.1])
            layer.adapt_variance.assign([0.5, 0.6, 0.7])
            layer.finalize_state()
        elif isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.1
        for weight in layer.weights:
            if weight.path.endswith(("bias", "beta")):
                weight.assign(generator.normal(0, 0.2, weight.shape))
    for _ in range(3):
        network(seen, training=True)


def random(network: keras.Model, seen: Photos) -> None:
    """Leave the weights as they were drawn."""


def settled(network: keras.Model, seen: Photos) -> None:
    """Statistics that have seen photos, and biases."""
    settle(network, seen)


def one_step(network: keras.Model, seen: Photos) -> None:
    """One step of training."""
    _train(network, seen, 1)


def two_steps(network: keras.Model, seen: Photos) -> None:
    """Two steps at ten times the rate."""
    _train(network, seen, 2, 1e-2)


def blown_up(network: keras.Model, seen: Photos) -> None:
    """Moving variances far too small for the activations, which grow from layer to layer."""
    settle(network, seen)
    for layer in backbone_of(network).layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(layer.moving_variance * 0.5)


def far_means(network: keras.Model, seen: Photos) -> None:
    """Moving means far larger than their deviations: what is subtracted cancels."""
    settle(network, seen)
    for layer in backbone_of(network).layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            deviation = np.sqrt(keras.ops.convert_to_numpy(layer.moving_variance))
            layer.moving_mean.assign(layer.moving_mean + 30 * deviation)


def large(network: keras.Model, seen: Photos) -> None:
    """The head's weights are a thousand times as large, so that softmax is 0 or 1."""
    settle(network, seen)
    last = network.get_layer(PROBABILITIES_LAYER)
    last.set_weights([1000 * last.get_weights()[0], last.get_weights()[1]])


def nearly_constant(network: keras.Model, seen: Photos) -> None:
    """Logits that are a bias and a millionth of what the network sees."""
    settle(network, seen)
    last = network.get_layer(PROBABILITIES_LAYER)
    last.set_weights([1e-6 * last.get_weights()[0], last.get_weights()[1] + 1])


KINDS: Mapping[str, Callable[[keras.Model, Photos], None]] = {
    "random": random,
    "settled": settled,
    "one step": one_step,
    "two steps": two_steps,
    "variances halved": blown_up,
    "far means": far_means,
    "head x 1000": large,
    "nearly constant": nearly_constant,
}
"""What is done to random weights, by name."""


def _train(network: keras.Model, seen: Photos, steps: int, rate: float = 1e-3) -> None:
    classes = network.output_shape[1]
    labels = np.eye(classes, dtype=np.float32)[np.arange(len(seen)) % classes]
    # Tracing would take ten times as long as these steps.
    network.compile(keras.optimizers.Adamax(rate), "categorical_crossentropy", run_eagerly=True)
    for _ in range(steps):
        network.train_on_batch(seen, labels)
