"""The optimizer of a stage: what it changes, and when."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.errors import ToolkitError
from toolkit.training.epoch import check_accumulation
from toolkit.training.optimizer import build_optimizer
from toolkit.training.recipe import Recipe

# Keras's own way to read a TensorFlow variable, in NumPy's eyes.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def recipe(**changes: Any) -> Recipe:
    content = {
        "set": "test",
        "backbone": "mobilenetv3small",
        "image_size": 32,
        "batch_size": 5,
        "validation_fraction": 0.25,
        "seed": 1,
        "weights": "none",
        "pixels": "own",
        "head": {"pooling": "max"},
        "loss": "categorical_crossentropy",
        "optimizer": {"name": "AdamW", "learning_rate": 0.1},
        "stages": [{"name": "all", "epochs": 1, "frozen_fraction": 0}],
        "augmentor": [],
    }
    return Recipe.model_validate({**content, **changes})


def trained(
    recipe: Recipe, gradients: NDArray[np.float32]
) -> tuple[list[NDArray[np.float32]], NDArray[np.float32] | None]:
    """Return the weights after each gradient, and their average at the end."""
    weights = keras.Variable(np.linspace(-1, 1, gradients.shape[1]), dtype="float32")
    optimizer = build_optimizer(recipe, recipe.stages[0], len(gradients))
    optimizer.build([weights])
    after = []
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weights])
        after.append(keras.ops.convert_to_numpy(weights).copy())
    averages = getattr(optimizer, "_model_variables_moving_average", None)
    return after, keras.ops.convert_to_numpy(averages[0]) if averages else None


@pytest.mark.parametrize("name", ["AdamW", "Adamax", "Nadam", "SGD", "RMSprop"])
@pytest.mark.parametrize("ema", [None, {"momentum": 0.9}])
def test_accumulated_gradients_change_weights_and_averages_as_their_mean_does(
    name: str, ema: dict[str, float] | None
) -> None:
    optimizer = {"name": name, "learning_rate": 0.1}
    gradients = np.random.default_rng(0).normal(size=(14, 4)).astype(np.float32)
    accumulating = recipe(optimizer=optimizer, ema=ema, gradient_accumulation_steps=3)
    after, average = trained(accumulating, gradients)
    means = gradients[:12].reshape(4, 3, 4).mean(axis=1)
    expected, expected_average = trained(recipe(optimizer=optimizer, ema=ema), means)
    np.testing.assert_allclose(after[2:12:3], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(after[3], after[2])
    np.testing.assert_array_equal(after[4], after[2])
    if ema:
        assert average is not None
        assert expected_average is not None
        # Keras averages after each batch: the last weights count whole after two more.
        np.testing.assert_allclose(average, expected_average, rtol=1e-4, atol=1e-5)
        assert np.abs(average - after[-1]).max() > 0.05


def test_more_batches_to_accumulate_than_an_epoch_has_are_refused() -> None:
    check_accumulation(recipe(gradient_accumulation_steps=4), 20)
    check_accumulation(recipe(), 1)
    with pytest.raises(
        ToolkitError, match=r"test/mobilenetv3small: gradient_acc.*Expected at most 3, for an epoch"
    ):
        check_accumulation(recipe(gradient_accumulation_steps=4), 16)
