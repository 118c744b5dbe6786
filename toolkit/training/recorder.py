"""Follows a run from epoch to epoch, and keeps what going on needs."""

from __future__ import annotations

import time
import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np

from toolkit.data.augmentor import photo_seed
from toolkit.errors import ToolkitError
from toolkit.progress import Reporter
from toolkit.training.checkpoints import Checkpoints
from toolkit.training.model import backbone_of
from toolkit.training.recipe import Recipe, larger_is_better
from toolkit.training.run import METRICS, Progress, write_history


class Recorder(keras.callbacks.Callback):
    """Notes each finished epoch. It has to come after the callbacks it remembers."""

    REMEMBERED = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        seed: int,
        progress: Progress,
        remembered: list[Any],
        checkpoints: Checkpoints,
        reporter: Reporter,
    ) -> None:
        """Prepare for one stage.

        Args:
            folder: The run folder.
            recipe: Its recipe.
            seed: The training seed.
            progress: What is known so far; updated after each epoch.
            remembered: Callbacks whose counters are kept.
            checkpoints: Get the network after each epoch.
            reporter: Where progress is told.
        """
        super().__init__()
        self._folder, self._recipe, self._seed = folder, recipe, seed
        self._progress, self._remembered = progress, remembered
        self._checkpoints, self._reporter = checkpoints, reporter
        self._started = 0.0
        self._rate = 0.0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        # Keras's callbacks forget their counters when training begins; they get them back here.
        for callback in self._remembered:
            for key, value in self._progress.callbacks.get(type(callback).__name__, {}).items():
                setattr(callback, key, value)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._started = time.monotonic()
        # Later it may be the next epoch's: a plateau callback lowers it before this one is called.
        self._rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        _seed_dropout(self.model, self._seed, len(self._progress.history))
        label = f"{self._folder.name} epoch {len(self._progress.history) + 1}"
        steps = int(self.params["steps"] or 0)
        # Its end is told with the figures of the epoch.
        self._tracking = self._reporter.track(label, steps, "steps", tell_end=False)
        self._advance = self._tracking.__enter__()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._advance(1)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._tracking.__exit__(None, None, None)
        figures = dict(logs or {})
        if not np.isfinite(figures["loss"]):
            raise ToolkitError(
                f"{self._folder}: the loss became {figures['loss']} in epoch {epoch + 1}. "
                "Lower optimizer.learning_rate in the recipe.",
                path=self._folder,
            )
        progress = self._progress
        progress.stage_epoch = epoch + 1
        stage = self._recipe.stages[progress.stage]
        progress.stage_done = bool(self.model.stop_training) or progress.stage_epoch >= stage.epochs
        seconds = time.monotonic() - self._started
        progress.seconds += seconds
        progress.history.append(self._history_row(figures, seconds))
        best = self._is_best(figures)
        if best:
            progress.best_epoch = len(progress.history)
        progress.callbacks = {
            type(callback).__name__: {
                key: _plain(getattr(callback, key))
                for key in self.REMEMBERED
                if hasattr(callback, key)
            }
            for callback in self._remembered
        }
        self._checkpoints.epoch_ended(self.model, progress, best=best)
        write_history(self._folder, progress.history)
        self._reporter.say(_epoch_line(self._folder.name, self._recipe, progress, best))

    def _history_row(self, figures: dict[str, float], seconds: float) -> dict[str, Any]:
        stage = self._recipe.stages[self._progress.stage]
        return {
            "epoch": len(self._progress.history) + 1,
            "stage": stage.name,
            **{key: _plain(figures.get(key)) for key in METRICS},
            **{key: _known(figures.get(key)) for key in self._recipe.watched},
            "learning_rate": self._rate,
            "seconds": round(seconds, 2),
        }

    def _is_best(self, figures: dict[str, float]) -> bool:
        progress, metric = self._progress, self._recipe.keep_best
        if metric not in figures:
            return True  # Trained on all photos: the last weights are the ones to keep.
        value = float(figures[metric])
        if not np.isfinite(value):
            return not progress.best_epoch
        known = progress.best_value
        better = known is None or (value > known if larger_is_better(metric) else value < known)
        if better:
            progress.best_value = value
        return better


def _seed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    """Draw dropout from (seed, epoch), so that a resumed epoch drops what it would have dropped.

    Keras saves no state of random generators with a model.
    """
    for layer in [*model.layers, *backbone_of(model).layers]:
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            own = zlib.crc32(layer.name.encode())
            generator.state.assign(np.array([photo_seed(seed, epoch, own), 0], dtype=np.uint32))


def _epoch_line(name: str, recipe: Recipe, progress: Progress, best: bool) -> str:
    row = progress.history[-1]
    stage = recipe.stages[progress.stage]
    parts = [
        f"{name:<15} {row['stage']} {progress.stage_epoch}/{stage.epochs}",
        f"loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}",
    ]
    if row["val_loss"] is not None:
        parts.append(f"validation loss {row['val_loss']:.4f}  accuracy {row['val_accuracy']:.4f}")
        for key in recipe.watched:
            value = "-" if row[key] is None else f"{row[key]:.4f}"
            parts.append(f"{key.removeprefix('val_').replace('_', ' ')} {value}")
    parts += [f"rate {row['learning_rate']:.2e}", f"{row['seconds']:.0f} s"]
    return "  ".join(parts) + ("  best" if best and row["val_loss"] is not None else "")


def _known(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
