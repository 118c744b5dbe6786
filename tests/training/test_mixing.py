"""Mixed batches, against loops over photos, pixels and classes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.training.batches import one_hot
from toolkit.training.mixing import Mixing

PHOTOS, SIZE, CLASSES = 16, 12, 5
LABELS = np.arange(PHOTOS) % CLASSES


@pytest.fixture(scope="module")
def photos() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (PHOTOS, SIZE, SIZE, 3), dtype=np.uint8)


def mixed(
    photos: NDArray[np.uint8], mixing: Mixing, seed: int = 3
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    return mixing(photos, one_hot(LABELS, CLASSES), np.random.default_rng(seed))


def test_nothing_is_mixed_unless_asked(photos: NDArray[np.uint8]) -> None:
    images, targets = mixed(photos, Mixing())
    np.testing.assert_array_equal(images, photos)
    np.testing.assert_array_equal(targets, one_hot(LABELS, CLASSES))


def test_label_smoothing_spreads_its_share_evenly(photos: NDArray[np.uint8]) -> None:
    images, targets = mixed(photos, Mixing(label_smoothing=0.1))
    np.testing.assert_array_equal(images, photos)
    for photo, label in enumerate(LABELS):
        for category in range(CLASSES):
            expected = 0.9 + 0.1 / CLASSES if category == label else 0.1 / CLASSES
            assert targets[photo, category] == pytest.approx(expected, abs=1e-6)
    assert targets.dtype == np.float32


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_blends_pixels_and_targets_in_the_same_shares(
    photos: NDArray[np.uint8], alpha: float
) -> None:
    images, targets = mixed(photos, Mixing(mixup_alpha=alpha))
    generator = np.random.default_rng(3)
    partners = generator.permutation(PHOTOS)
    shares = generator.beta(alpha, alpha, PHOTOS)
    for photo, (partner, share) in enumerate(zip(partners, shares, strict=True)):
        for row in range(SIZE):
            for column in range(SIZE):
                own, other = photos[photo, row, column], photos[partner, row, column]
                wanted = share * own.astype(float) + (1 - share) * other.astype(float)
                assert np.abs(images[photo, row, column] - wanted).max() <= 0.501
        wanted_target = np.zeros(CLASSES)
        wanted_target[LABELS[photo]] += share
        wanted_target[LABELS[partner]] += 1 - share
        np.testing.assert_allclose(targets[photo], wanted_target, atol=1e-6)
    assert (images.dtype, targets.dtype) == (np.uint8, np.float32)


def test_cutmix_takes_one_box_and_counts_its_pixels() -> None:
    # Each photo is of one grey, so that every pixel tells whose it is.
    photos = np.broadcast_to(
        np.arange(PHOTOS, dtype=np.uint8)[:, None, None, None], (PHOTOS, SIZE, SIZE, 3)
    )
    images, targets = mixed(photos, Mixing(cutmix_alpha=1.0))
    cut = 0
    for photo in range(PHOTOS):
        strange = images[photo, :, :, 0] != photo
        others = set(images[photo][strange].ravel().tolist())
        wanted = np.zeros(CLASSES)
        wanted[LABELS[photo]] += 1 - strange.mean()
        if others:
            (other,) = others
            wanted[LABELS[other]] += strange.mean()
            rows, columns = np.nonzero(strange)
            box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            assert box == strange.sum()
            cut += 1
        np.testing.assert_allclose(targets[photo], wanted, atol=1e-6)
    assert cut > PHOTOS / 2


def test_the_areas_cut_out_are_spread_as_beta_says() -> None:
    photos = np.broadcast_to(
        np.arange(250, dtype=np.uint8)[:, None, None, None], (250, 100, 100, 3)
    )
    images, _ = Mixing(cutmix_alpha=1.0)(
        photos, np.eye(250, dtype=np.float32), np.random.default_rng(0)
    )
    areas = (images[..., 0] != np.arange(250)[:, None, None]).mean(axis=(1, 2))
    # Before it is cut at the border an area is uniform; a third of one on average after.
    assert 0.2 < areas.mean() < 0.45
    assert areas.min() < 0.02 and areas.max() > 0.8


def test_smoothing_and_mixing_go_together(photos: NDArray[np.uint8]) -> None:
    _, smooth = mixed(photos, Mixing(label_smoothing=0.1, mixup_alpha=0.2))
    _, plain = mixed(photos, Mixing(mixup_alpha=0.2))
    np.testing.assert_allclose(smooth, 0.9 * plain + 0.1 / CLASSES, atol=1e-6)


@pytest.mark.parametrize("mixing", [Mixing(mixup_alpha=0.2), Mixing(cutmix_alpha=1.0)])
def test_the_photos_themselves_are_left_as_they_are(
    photos: NDArray[np.uint8], mixing: Mixing
) -> None:
    before = photos.copy()
    images, _ = mixed(photos, mixing)
    assert not np.array_equal(images, photos)
    np.testing.assert_array_equal(photos, before)
