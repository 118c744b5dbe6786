"""Batches of decoded photos for Keras."""

from __future__ import annotations

import math

import keras
import numpy as np
from numpy.typing import NDArray

from toolkit.data.augmentor import Augmentor, photo_seed
from toolkit.data.pixels import Pixels
from toolkit.training.epoch import batches_an_epoch
from toolkit.training.imbalance import balanced_order, occurrences
from toolkit.training.mixing import Mixing

Batch = tuple[Pixels, NDArray[np.float32]]
WeightedBatch = tuple[Pixels, NDArray[np.float32], NDArray[np.float32]]

_MIXED, _AGAIN = 1, 2
"""Set the seeds of mixing, (seed, epoch, batch), and of a photo that comes again in an epoch apart
from those of augmentation."""


class TrainingBatches(keras.utils.PyDataset):
    """Shuffled, augmented batches; the same for the same seed whatever the number of workers.

    Order and augmentation are drawn from (seed, epoch, photo) alone, mixing from (seed, epoch,
    batch). A last batch of a single photo is left out: batch normalization cannot learn from it.
    """

    def __init__(
        self,
        photos: Pixels,
        labels: NDArray[np.int64],
        chosen: NDArray[np.int64],
        *,
        classes: int,
        batch_size: int,
        augmentor: Augmentor,
        seed: int,
        epoch: int,
        workers: int,
        mixing: Mixing = Mixing(),  # noqa: B008 - it is frozen
        class_weights: NDArray[np.float32] | None = None,
        balanced: bool = False,
    ) -> None:
        """Prepare the batches of one epoch after another.

        Args:
            photos: All decoded photos, shape (photos, size, size, 3), uint8, of the size that the
                augmentor gets.
            labels: Class index of each, shape (photos,).
            chosen: Indices of those to train on.
            classes: Number of classes.
            batch_size: Photos a batch.
            augmentor: Applied to each photo.
            seed: The training seed.
            epoch: Number of the first epoch, counted over all stages from 0.
            workers: Threads that prepare batches.
            mixing: Applied to each batch of augmented photos and its targets.
            class_weights: What a photo of each class counts, shape (classes,); None counts all
                alike. A mixed target counts by its shares.
            balanced: Show all classes equally often, see `balanced_order`.
        """
        super().__init__(workers=workers, max_queue_size=max(8, 2 * workers))
        self._photos, self._labels, self._chosen = photos, labels, chosen
        self._classes, self._batch_size = classes, batch_size
        self._augmentor, self._mixing = augmentor, mixing
        self._seed, self._epoch = seed, epoch
        self._class_weights, self._balanced = class_weights, balanced
        self._shuffle()

    def __len__(self) -> int:
        return batches_an_epoch(len(self._chosen), self._batch_size)

    def __getitem__(self, index: int) -> Batch | WeightedBatch:
        place = slice(index * self._batch_size, (index + 1) * self._batch_size)
        members, again = self._order[place], self._again[place]
        images = np.stack(
            [
                self._augmented(int(photo), int(times))
                for photo, times in zip(members, again, strict=True)
            ]
        )
        seed = photo_seed(self._seed, self._epoch, index, _MIXED)
        images, targets = self._mixing(
            images, one_hot(self._labels[members], self._classes), np.random.default_rng(seed)
        )
        if self._class_weights is None:
            return images, targets
        return images, targets, targets @ self._class_weights

    def on_epoch_end(self) -> None:
        """Go on to the next epoch's order and augmentation."""
        self._epoch += 1
        self._shuffle()

    def _shuffle(self) -> None:
        generator = np.random.default_rng([self._seed, self._epoch])
        if self._balanced:
            self._order = balanced_order(self._chosen, self._labels, generator)
        else:
            self._order = generator.permutation(self._chosen)
        self._again = occurrences(self._order)

    def _augmented(self, photo: int, times: int) -> Pixels:
        again = (_AGAIN, times) if times else ()
        seed = photo_seed(self._seed, self._epoch, photo, *again)
        return self._augmentor(np.asarray(self._photos[photo]), seed)


class PlainBatches(keras.utils.PyDataset):
    """Batches in order, not augmented: for validation and evaluation."""

    def __init__(
        self,
        photos: Pixels,
        labels: NDArray[np.int64],
        chosen: NDArray[np.int64],
        *,
        classes: int,
        batch_size: int,
    ) -> None:
        """Prepare the batches; for the arguments see `TrainingBatches`."""
        super().__init__()
        self._photos, self._labels, self._chosen = photos, labels, chosen
        self._classes, self._batch_size = classes, batch_size

    def __len__(self) -> int:
        return math.ceil(len(self._chosen) / self._batch_size)

    def __getitem__(self, index: int) -> Batch:
        members = self._chosen[index * self._batch_size : (index + 1) * self._batch_size]
        return np.asarray(self._photos[members]), one_hot(self._labels[members], self._classes)


def one_hot(labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """Return targets of shape (photos, classes) for class indices of shape (photos,)."""
    return np.eye(classes, dtype=np.float32)[labels]
