"""What happens between the epochs of a stage: the recipe's callbacks for Keras."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from toolkit.metrics import METRICS, Answers, measure
from toolkit.training.recipe import Recipe, larger_is_better


def recipe_callbacks(recipe: Recipe, *, validates: bool) -> list[Any]:
    """Return the recipe's callbacks; without validation, those that watch the training figures."""
    callbacks: list[Any] = []
    stopping, plateau = recipe.early_stopping, recipe.reduce_on_plateau
    if stopping and (validates or not stopping.monitor.startswith("val_")):
        callbacks.append(
            keras.callbacks.EarlyStopping(
                stopping.monitor, patience=stopping.patience, mode=_mode(stopping.monitor)
            )
        )
    if plateau and (validates or not plateau.monitor.startswith("val_")):
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                plateau.monitor,
                factor=plateau.factor,
                patience=plateau.patience,
                min_lr=plateau.min_learning_rate,
                mode=_mode(plateau.monitor),
            )
        )
    return callbacks


def _mode(figure: str) -> str:
    return "max" if larger_is_better(figure) else "min"


class WholeValidation(keras.callbacks.Callback):
    """Adds figures of all validation predictions together to those of an epoch.

    It has to come after `AveragedWeights`, and before the callbacks that watch its figures.
    """

    def __init__(
        self,
        watched: Sequence[str],
        photos: keras.utils.PyDataset,
        labels: NDArray[np.int64],
        *,
        ordered: bool,
    ) -> None:
        """Prepare for one stage.

        Args:
            watched: Which of `recipe.WholeMetric`.
            photos: The validation photos in batches.
            labels: Their class indices, shape (photos,).
            ordered: Whether the classes stand in an order that means something.
        """
        super().__init__()
        self._metrics = {
            name: METRICS[name.removeprefix("val_").replace("_", "-")] for name in watched
        }
        self._photos, self._labels, self._ordered = photos, labels, ordered

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        said = self.model.predict(self._photos, verbose=0).astype(np.float64)
        figures = {} if logs is None else logs
        if not np.isfinite(said).all():
            figures.update(dict.fromkeys(self._metrics, math.nan))
            return
        answers = Answers.of(said, self._labels, ordered=self._ordered)
        for name, metric in self._metrics.items():
            value = measure(metric, answers)
            figures[name] = math.nan if value is None else value


class AveragedWeights(keras.callbacks.Callback):
    """Puts the averaged weights into the model between the last step of an epoch and the next.

    The optimizer keeps the averages (`use_ema`). They are in the model while it is validated and
    saved, and the weights that training goes on from are in their place in the optimizer: one
    checkpoint holds both. Keras's own `SwapEMAWeights` swaps by adding and subtracting, which
    rounds, and leaves batch normalization with the statistics of the other weights.
    """

    def __init__(self, fit_statistics: Callable[[keras.Model], object], *, averaged: bool) -> None:
        """Prepare for one stage.

        Args:
            fit_statistics: Takes batch normalization's statistics anew under the weights in the
                model. They need not be put back: no step of training reads them.
            averaged: Whether the averages are in the model already, as in a checkpoint.
        """
        super().__init__()
        self._fit_statistics, self._averaged = fit_statistics, averaged

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self._averaged:
            self._swap()

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        self._take_averages()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._take_averages()  # There may be no validation.

    def _take_averages(self) -> None:
        if not self._averaged:
            self._swap()
            self._fit_statistics(self.model)

    def _swap(self) -> None:
        # Under mixed precision the optimizer stands inside one that scales the loss.
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        pairs = zip(
            optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True
        )
        for weights, average in pairs:
            if average is not None:
                before = keras.ops.convert_to_numpy(weights).copy()
                weights.assign(average)
                average.assign(before)
        self._averaged = not self._averaged
