"""Classes of uneven size: what a photo counts, and how often it comes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.data.augmentor import Augmentor
from toolkit.errors import ToolkitError
from toolkit.training.batches import TrainingBatches
from toolkit.training.imbalance import balanced_order, check_classes, class_weights, occurrences
from toolkit.training.mixing import Mixing
from toolkit.training.recipe import Recipe
from toolkit.training.recipe_files import load_set

LABELS = np.repeat([0, 1, 2], [30, 9, 3])


def recipe(**changes: Any) -> Recipe:
    return load_set("improved").recipe("xception").model_copy(update=changes)


def test_balanced_weights_let_all_classes_count_alike() -> None:
    weights = class_weights(recipe(class_weights="balanced"), LABELS, ("a", "b", "c"))
    assert weights is not None
    np.testing.assert_allclose(weights, [42 / (3 * 30), 42 / (3 * 9), 42 / (3 * 3)])
    sums = np.bincount(LABELS, weights=weights[LABELS])
    np.testing.assert_allclose(sums, 14)
    assert weights[LABELS].mean() == pytest.approx(1)


def test_a_class_without_a_training_photo_has_a_weight_too() -> None:
    weights = class_weights(recipe(class_weights="balanced"), LABELS, ("a", "b", "c", "d"))
    assert weights is not None
    assert weights[3] == 1
    np.testing.assert_allclose(np.bincount(LABELS, weights=weights[LABELS]), 14)


def test_named_weights_leave_the_others_at_one() -> None:
    weights = class_weights(recipe(class_weights={"b": 2.5}), LABELS, ("a", "b", "c"))
    assert weights is not None
    np.testing.assert_allclose(weights, [1, 2.5, 1])
    assert class_weights(recipe(), LABELS, ("a", "b", "c")) is None


def test_classes_that_are_called_by_numbers_are_named_by_numbers() -> None:
    content = recipe().model_dump() | {"class_weights": {0: 2, 1.5: 3}}
    read = Recipe.model_validate(content)
    weights = class_weights(read, LABELS, ("0", "1.5", "2"))
    assert weights is not None
    np.testing.assert_allclose(weights, [2, 3, 1])


@pytest.mark.parametrize("seed", range(5))
def test_a_balanced_epoch_shows_all_classes_alike_and_no_photo_twice_too_early(seed: int) -> None:
    chosen = np.arange(len(LABELS))[1:]  # 29, 9 and 3 photos.
    order = balanced_order(chosen, LABELS, np.random.default_rng(seed))
    assert len(order) == len(chosen) == 41
    counts = np.bincount(LABELS[order])
    assert sorted(counts) == [13, 14, 14]
    assert set(order) <= set(chosen.tolist())
    for label in range(3):
        times = Counter(order[LABELS[order] == label].tolist())
        members = int((LABELS[chosen] == label).sum())
        assert max(times.values()) == -(-int(counts[label]) // members)
        if counts[label] > members:
            assert max(times.values()) - min(times.values()) <= 1
            assert len(times) == members


def test_epochs_of_a_balanced_order_use_other_photos_of_large_classes() -> None:
    seen: set[int] = set()
    for epoch in range(6):
        seen |= set(balanced_order(np.arange(42), LABELS, np.random.default_rng([1, epoch])))
    assert len(seen) > 40


def test_occurrences_are_counted_in_order() -> None:
    assert occurrences(np.array([5, 2, 5, 5, 2, 7])).tolist() == [0, 0, 1, 2, 1, 0]


def batches(photos: NDArray[np.uint8], **more: Any) -> TrainingBatches:
    return TrainingBatches(
        photos,
        LABELS,
        np.arange(len(LABELS)),
        classes=3,
        batch_size=6,
        augmentor=Augmentor([{"Affine": {"rotate": [-40, 40], "p": 1.0}}]),
        seed=1,
        epoch=0,
        workers=1,
        **more,
    )


@pytest.fixture(scope="module")
def photos() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (len(LABELS), 12, 12, 3), dtype=np.uint8)


def test_a_photo_that_comes_again_is_augmented_anew(photos: NDArray[np.uint8]) -> None:
    balanced = batches(photos, balanced=True)
    epoch = [balanced[index] for index in range(len(balanced))]
    images = np.concatenate([batch[0] for batch in epoch])
    targets = np.concatenate([batch[1] for batch in epoch]).argmax(axis=1)
    rare = images[targets == 2]
    assert len(rare) == 14  # Of three photos.
    assert len({image.tobytes() for image in rare}) == 14


def test_weights_of_mixed_targets_are_their_shares(photos: NDArray[np.uint8]) -> None:
    weights = np.array([1, 2, 4], dtype=np.float32)
    plain = batches(photos, class_weights=weights)
    for index in range(len(plain)):
        _, targets, counted = plain[index]
        np.testing.assert_array_equal(counted, weights[targets.argmax(axis=1)])
    mixed = batches(photos, class_weights=weights, mixing=Mixing(mixup_alpha=1.0))
    found = [mixed[index] for index in range(len(mixed))]
    for _, targets, counted in found:
        np.testing.assert_allclose(counted, (targets * weights).sum(axis=1), rtol=1e-6)
    without = batches(photos, mixing=Mixing(mixup_alpha=1.0))
    for index, (images, targets, _) in enumerate(found):
        np.testing.assert_array_equal(images, without[index][0])
        np.testing.assert_array_equal(targets, without[index][1])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"class_weights": {"cat": 1.0, "dgo": 2.0}}, "unknown class 'dgo'. Did you mean 'dog'?"),
        ({"keep_best": "val_kappa"}, "Expected classes named by numbers, whose order counts; rec"),
    ],
)
def test_a_recipe_that_does_not_fit_the_classes_is_refused(
    changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ToolkitError, match=complaint.replace("?", r"\?")):
        check_classes(recipe(**changes), ("cat", "dog"))
    check_classes(recipe(keep_best="val_kappa"), ("0", "1", "2"))
