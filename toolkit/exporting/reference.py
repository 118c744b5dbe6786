"""A network as one flat graph from images to logits, in float32 or in float64."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from toolkit.data.pixels import Pixels
from toolkit.training.backend import set_jit_compile
from toolkit.training.model import PROBABILITIES_LAYER, take_statistics

MOST_AT_ONCE, PIXELS_AT_ONCE = 8, 8 * 150**2
"""Images at once: float64 takes twice the memory of float32, on machines that have 8 GB."""

_INTEGERS = ("uint8", "int32", "int64")

_CONVERSIONS = ("ConvertToTensor", "Cast")
"""Operations by which Keras changes a value's type; they have no public names."""


class Reference:
    """A network twice, as flat graphs from uint8 images to logits: in float32 and in float64.

    Each layer is made anew from its settings, whatever type they pin it to, and gets the weights of
    the old one. Constants, such as the scale of a rescaling layer, are those of the settings too,
    not their float32 roundings.

    Attributes:
        single: In float32. Its layers have the names of the old ones, those inside the backbone
            too; the last has no softmax.
        double: In float64.
    """

    def __init__(self, model: keras.Model) -> None:
        """Rebuild a network.

        Args:
            model: Built by `toolkit.training.model`.

        Raises:
            TypeError: A layer computes in another type, so that figures would not be what they are
                called.
        """
        self.single = _flat(model, "float32")
        self.double = _flat(model, "float64")
        self.take_weights(model)

    def take_weights(self, model: keras.Model) -> None:
        """Copy the weights of the network, or of another of the same layers."""
        for flat in (self.single, self.double):
            for old, new in zip(_unfolded(model).layers, flat.layers, strict=True):
                new.set_weights(old.get_weights())
            if any(isinstance(layer, keras.layers.Normalization) for layer in flat.layers):
                take_statistics(flat)
                flat.make_predict_function(force=True)  # A traced one has the old statistics.


def images_at_once(size: int) -> int:
    """Return how many images of a side in pixels are run together."""
    return max(1, min(MOST_AT_ONCE, PIXELS_AT_ONCE // size**2))


def logits(flat: keras.Model, images: Pixels) -> NDArray[np.floating]:
    """Run a flat model over images of shape (images, size, size, 3) in small batches."""
    found = []
    at_once = images_at_once(images.shape[1])
    for start in range(0, len(images), at_once):
        batch = images[start : start + at_once]
        # Filled up: each further size of a batch would be traced anew, which takes seconds.
        filled = np.concatenate([batch, np.repeat(batch[-1:], at_once - len(batch), axis=0)])
        found.append(keras.ops.convert_to_numpy(flat.predict_on_batch(filled))[: len(batch)])
    return np.concatenate(found)


def _flat(model: keras.Model, dtype: str) -> keras.Model:
    names: set[str] = set()

    def remade(layer: keras.Operation) -> keras.Operation:
        settings = layer.get_config()
        if isinstance(layer, keras.Layer):  # Another operation has its type from its inputs.
            settings |= {"dtype": dtype, "name": _unique(layer.name, names)}
        if layer.name == PROBABILITIES_LAYER:
            settings["activation"] = "linear"
        return type(layer).from_config(settings)

    def called(layer: keras.Operation, *inputs: Any, **options: Any) -> Any:
        # Where an inner model began its input was brought to its type, which may be another here.
        if type(layer).__name__ in _CONVERSIONS:
            return inputs[0]
        return layer(*inputs, **options)

    flat = keras.models.clone_model(_unfolded(model), clone_function=remade, call_function=called)
    _require_type(flat, dtype)
    set_jit_compile(flat)
    return flat


def _unfolded(model: keras.Model) -> keras.Model:
    """Return a model of the same layers in which those of an inner model stand by themselves."""

    def called(layer: keras.Layer, *inputs: Any, **options: Any) -> Any:
        run = layer.call if isinstance(layer, keras.Model) else layer
        return run(*inputs, **options)

    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=called)


def _unique(name: str, names: set[str]) -> str:
    while name in names:
        name += "_again"
    names.add(name)
    return name


def _require_type(flat: keras.Model, dtype: str) -> None:
    values = [
        (operation.name, str(value.dtype))
        for operation in flat.operations
        for value in (*keras.tree.flatten(operation.output), *getattr(operation, "weights", ()))
    ]
    wrong = [f"{name}: {kind}" for name, kind in values if kind not in (dtype, *_INTEGERS)]
    if wrong:
        raise TypeError(f"Expected layers that compute in {dtype}, received {', '.join(wrong)}")
