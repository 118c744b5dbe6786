"""Batches: every photo once an epoch, decided by (seed, epoch, photo) alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter
from numpy.typing import NDArray

from toolkit.data.augmentor import Augmentor
from toolkit.training.batches import PlainBatches, TrainingBatches, one_hot
from toolkit.training.mixing import Mixing

PHOTOS, CLASSES = 40, 3
SOME = np.arange(0, PHOTOS, 2)  # The numbers of the photos that are trained on.

NONE: list[Any] = []
FLIP_AND_TURN = [{"HorizontalFlip": {"p": 0.5}}, {"Affine": {"rotate": [-20, 20], "p": 0.9}}]

Batch = tuple[NDArray[np.uint8], NDArray[np.float32]]


@pytest.fixture(scope="module")
def photos() -> NDArray[np.uint8]:
    """Noise, but the pixel in the middle tells the photo's number."""
    pixels = np.random.default_rng(0).integers(0, 256, (PHOTOS, 9, 9, 3), dtype=np.uint8)
    pixels[:, 4, 4] = np.arange(PHOTOS)[:, None]
    return pixels


@pytest.fixture(scope="module")
def labels() -> NDArray[np.int64]:
    return np.arange(PHOTOS) % CLASSES


def training(
    photos: NDArray[np.uint8],
    labels: NDArray[np.int64],
    steps: list[Any],
    *,
    chosen: NDArray[np.int64] = SOME,
    seed: int = 1,
    epoch: int = 0,
    workers: int = 1,
    mixing: Mixing = Mixing(),  # noqa: B008
) -> TrainingBatches:
    return TrainingBatches(
        photos,
        labels,
        chosen,
        classes=CLASSES,
        batch_size=6,
        augmentor=Augmentor(steps),
        seed=seed,
        epoch=epoch,
        workers=workers,
        mixing=mixing,
    )


def epoch_of(batches: TrainingBatches) -> list[Batch]:
    return [batches[index] for index in range(len(batches))]


def numbers(epoch: list[Batch]) -> list[int]:
    return [int(photo[4, 4, 0]) for images, _ in epoch for photo in images]


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_every_chosen_photo_comes_once_an_epoch_with_its_label(
    photos: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    epoch = epoch_of(training(photos, labels, NONE))
    seen = numbers(epoch)
    assert sorted(seen) == SOME.tolist()
    targets = np.concatenate([each for _, each in epoch])
    np.testing.assert_array_equal(targets.argmax(axis=1), labels[seen])
    np.testing.assert_array_equal(targets.sum(axis=1), 1)


def test_batches_are_full_but_the_last(
    photos: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    epoch = epoch_of(training(photos, labels, NONE))
    assert [len(images) for images, _ in epoch] == [6, 6, 6, 2]
    assert {(images.dtype, targets.dtype) for images, targets in epoch} == {
        (np.dtype(np.uint8), np.dtype(np.float32))
    }


@pytest.mark.parametrize(("count", "sizes"), [(13, [6, 6]), (12, [6, 6]), (2, [2]), (1, [1])])
def test_a_last_batch_of_one_photo_is_left_out_unless_it_is_the_only_one(
    photos: NDArray[np.uint8], labels: NDArray[np.int64], count: int, sizes: list[int]
) -> None:
    epoch = epoch_of(training(photos, labels, NONE, chosen=np.arange(count)))
    assert [len(images) for images, _ in epoch] == sizes


def test_epochs_differ_in_order_and_in_augmentation(
    photos: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    batches = training(photos, labels, FLIP_AND_TURN)
    first = epoch_of(batches)
    batches.on_epoch_end()
    second = epoch_of(batches)
    assert numbers(first) != numbers(second)
    assert sorted(numbers(second)) == SOME.tolist()
    changed = 0
    for number in SOME:
        one, other = (picture_of(int(number), epoch) for epoch in (first, second))
        changed += not np.array_equal(one, other)
    assert changed > len(SOME) / 2


def picture_of(number: int, epoch: list[Batch]) -> NDArray[np.uint8]:
    pictures = [photo for images, _ in epoch for photo in images]
    return pictures[numbers(epoch).index(number)]


def test_photos_of_one_epoch_are_not_all_augmented_alike(
    photos: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    flip = [{"HorizontalFlip": {"p": 0.5}}]
    epoch = epoch_of(training(photos, labels, flip))
    flipped = [
        not np.array_equal(picture_of(int(number), epoch), photos[number]) for number in SOME
    ]
    assert 0 < sum(flipped) < len(SOME)


def test_seeds_differ(photos: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    first, second = (epoch_of(training(photos, labels, NONE, seed=seed)) for seed in (1, 2))
    assert numbers(first) != numbers(second)


def test_training_that_goes_on_at_an_epoch_sees_that_epochs_batches(
    photos: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    from_the_start = training(photos, labels, FLIP_AND_TURN)
    for _ in range(3):
        from_the_start.on_epoch_end()
    resumed = training(photos, labels, FLIP_AND_TURN, epoch=3)
    assert_same(epoch_of(from_the_start), epoch_of(resumed))


@pytest.mark.parametrize("workers", [2, 4])
def test_keras_gets_the_same_batches_from_any_number_of_workers(
    photos: NDArray[np.uint8], labels: NDArray[np.int64], workers: int
) -> None:
    alone, several = (
        PyDatasetAdapter(training(photos, labels, FLIP_AND_TURN, workers=count))
        for count in (1, workers)
    )
    for _ in range(3):
        assert_same(*(an_epoch_of_keras(adapter) for adapter in (alone, several)))


def an_epoch_of_keras(adapter: PyDatasetAdapter) -> list[Batch]:
    """Go through an epoch as `fit` does."""
    adapter.on_epoch_begin()
    epoch = [
        (np.asarray(images), np.asarray(targets))
        for images, targets in adapter.get_numpy_iterator()
    ]
    adapter.on_epoch_end()
    return epoch


def test_photos_are_not_changed_where_they_lie(
    photos: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    before = photos.copy()
    for images, _ in epoch_of(training(photos, labels, FLIP_AND_TURN)):
        images[:] = 0
    np.testing.assert_array_equal(photos, before)


@pytest.mark.parametrize("mixing", [Mixing(mixup_alpha=0.5), Mixing(cutmix_alpha=1.0)])
def test_mixing_is_drawn_from_seed_epoch_and_batch_alone(
    photos: NDArray[np.uint8], labels: NDArray[np.int64], mixing: Mixing
) -> None:
    from_the_start = training(photos, labels, FLIP_AND_TURN, mixing=mixing)
    first = epoch_of(from_the_start)
    from_the_start.on_epoch_end()
    resumed = training(photos, labels, FLIP_AND_TURN, mixing=mixing, epoch=1)
    second = [resumed[index] for index in reversed(range(len(resumed)))][::-1]
    assert_same(epoch_of(from_the_start), second)
    shares = [tuple(targets.max(axis=1)) for _, targets in (*first[:3], *second[:3])]
    assert len(set(shares)) == 6


def test_validation_photos_are_as_they_are_and_in_order(
    photos: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    batches = PlainBatches(photos, labels, SOME, classes=CLASSES, batch_size=6)
    epoch = [batches[index] for index in range(len(batches))]
    assert [len(images) for images, _ in epoch] == [6, 6, 6, 2]
    np.testing.assert_array_equal(np.concatenate([images for images, _ in epoch]), photos[SOME])
    targets = np.concatenate([each for _, each in epoch])
    np.testing.assert_array_equal(targets.argmax(axis=1), labels[SOME])
    batches.on_epoch_end()
    np.testing.assert_array_equal(batches[0][0], epoch[0][0])


def test_one_hot_targets() -> None:
    np.testing.assert_array_equal(one_hot(np.array([2, 0]), 3), [[0, 0, 1], [1, 0, 0]])
