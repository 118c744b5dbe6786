"""The weights that a run goes on from: the best in memory, and all that is needed on disk in time.

An epoch that is repeated gives the same bits, so a checkpoint only saves time. It is written after
an epoch when the last one is old enough, and weights are written once: those of the last epoch are
those of the best one too where the last is the best. The optimizer's state, twice as large, is
written for the last epoch alone, and not at all between stages, which begin with a new one.
"""

from __future__ import annotations

import time
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from toolkit.errors import ToolkitError
from toolkit.files import written_whole
from toolkit.training.model import set_weights
from toolkit.training.run import CHECKPOINTS, Progress, optimizer_file, weights_file

Arrays = list[NDArray[Any]]

_UNREADABLE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


class Checkpoints:
    """The weights of one run that its next epoch, its next stage or its end begins with."""

    def __init__(
        self, folder: Path, every_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin to wait for the first checkpoint.

        Args:
            folder: The run folder.
            every_s: Least seconds between two checkpoints; with 0 there is one after each epoch.
            clock: Returns seconds.
        """
        self._run, self._folder = folder, folder / CHECKPOINTS
        self._every_s, self._clock = every_s, clock
        self._last = clock()
        self._best: Arrays | None = None

    def epoch_ended(self, model: keras.Model, progress: Progress, *, best: bool) -> None:
        """Keep what has to be kept of the epoch that `progress` ends with.

        Args:
            model: The network after it.
            progress: Of the run; it is written together with a checkpoint.
            best: Whether the epoch is the best so far.
        """
        if self._clock() - self._last >= self._every_s:
            self._write(model, progress)
        elif best:
            self._best = [np.array(keras.ops.convert_to_numpy(each)) for each in model.weights]

    def restore(self, model: keras.Model, progress: Progress) -> None:
        """Put weights and optimizer back as they were after the last epoch of `progress`.

        Args:
            model: Compiled as for its stage; the optimizer is built.
            progress: Read from the run folder, in the middle of a stage.

        Raises:
            ToolkitError: A file is damaged.
        """
        number = len(progress.history)
        self._set(model, number)
        path = self._folder / optimizer_file(number)
        try:
            for variable, array in zip(model.optimizer.variables, _load(path), strict=True):
                variable.assign(array)
        except _UNREADABLE as error:
            raise self._damaged(path, error) from None

    def set_best(self, model: keras.Model, progress: Progress) -> None:
        """Put the weights of the best epoch so far into a network of the same layers.

        Raises:
            ToolkitError: Their file is damaged.
        """
        if self._best is None:
            self._set(model, progress.best_epoch)
        else:
            set_weights(model, self._best)

    def _write(self, model: keras.Model, progress: Progress) -> None:
        number = len(progress.history)
        if not progress.stage_done:
            _save(self._folder / optimizer_file(number), model.optimizer.variables)
        if not progress.stage_done or progress.best_epoch == number:
            _save(self._folder / weights_file(number), model.weights)
        if self._best is not None and progress.best_epoch != number:
            _save(self._folder / weights_file(progress.best_epoch), self._best)
        progress.save(self._run)
        self._best = None
        self._last = self._clock()

    def _set(self, model: keras.Model, number: int) -> None:
        path = self._folder / weights_file(number)
        try:
            set_weights(model, _load(path))
        except _UNREADABLE as error:
            raise self._damaged(path, error) from None

    def _damaged(self, path: Path, error: Exception) -> ToolkitError:
        reason = " ".join(str(error).split())[:300]
        return ToolkitError(
            f"{path}: the checkpoint cannot be read ({reason}). Remove {self._run} to train the "
            "run from its beginning."
        )


def _save(path: Path, values: Iterable[Any]) -> None:
    """Write arrays or variables to a `.npz` file, no more than one of them copied at a time."""
    with written_whole(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for index, value in enumerate(values):
            with archive.open(f"{index:05d}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(keras.ops.convert_to_numpy(value)))


def _load(path: Path) -> Arrays:
    # Opened here, because NumPy leaves a file open whose zip is damaged.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return [arrays[key] for key in sorted(arrays.files)]
