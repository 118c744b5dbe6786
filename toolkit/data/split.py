"""Which photos are held out for validation."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

# scikit-learn's `StratifiedGroupKFold` does not serve here: it makes whole folds, so that the
# share held out is 1/2, 1/3, ...; it refuses classes of fewer photos than folds; and it may put all
# photos of a class on the held-out side.


def validation_mask(
    labels: NDArray[np.int64], groups: NDArray[np.int64], fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Choose validation photos: the same share of each class, whole groups only.

    How many each class gives is decided over all classes together, so that the share of all photos
    is right even where a class alone is too small to give one (see `allotted`).

    Args:
        labels: Shape (photos,), class indices.
        groups: Shape (photos,); photos of one group (near-duplicates, one patient) stay on one
            side.
        fraction: Share of the photos to hold out, between 0 and 1.
        seed: Decides which; independent of the training seed.

    Returns:
        Shape (photos,): True where a photo is held out. A class keeps at least one training photo.
    """
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    counts = np.bincount(labels)
    split = _Split(group, labels, allotted(counts, fraction, seed))
    order = _shuffled(labels[first], seed)
    for chosen in order:
        split.take_if(chosen, split.fits(chosen))
    # Groups of several classes may fit nowhere exactly, and small groups may be used up.
    for chosen in order:
        split.take_if(chosen, split.helps(chosen))
    return split.held_out[group]


def allotted(counts: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.int64]:
    """Say how many photos of each class to hold out.

    Each class gives its share rounded down; what is missing to the share of all photos is given,
    one photo each, by the classes of the largest remainders, equal ones in random order.

    Args:
        counts: Shape (classes,), photos.
        fraction: Share to hold out, between 0 and 1.
        seed: Decides between equal remainders.

    Returns:
        Shape (classes,). A class of photos keeps at least one.
    """
    shares = fraction * counts
    whole = np.floor(shares + 1e-9).astype(np.int64)
    remainders = np.round(shares - whole, 9)
    most = np.maximum(counts - 1, 0)
    given: NDArray[np.int64] = np.minimum(whole, most)
    missing = round(fraction * int(counts.sum())) - int(given.sum())
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-remainders[order], kind="stable")]
    able = order[(given[order] < most[order]) & (remainders[order] > 0)]
    given[able[: max(missing, 0)]] += 1
    return given


def _shuffled(group_class: NDArray[np.int64], seed: int) -> list[int]:
    """Return all groups, class by class, in random order.

    A generator a class: a photo more in one class leaves the order of the others alone.
    """
    order: list[int] = []
    for label in np.unique(group_class):
        generator = np.random.default_rng([seed, int(label)])
        order += generator.permutation(np.flatnonzero(group_class == label)).tolist()
    return order


class _Split:
    """What is held out so far, and what each class has left to give."""

    def __init__(
        self, group: NDArray[np.int64], labels: NDArray[np.int64], wanted: NDArray[np.int64]
    ) -> None:
        self.held_out = np.zeros(int(group.max()) + 1, dtype=np.bool_)
        self._parts: list[Counter[int]] = [Counter() for _ in self.held_out]
        for number, label in zip(group.tolist(), labels.tolist(), strict=True):
            self._parts[number][label] += 1
        self._left = wanted.tolist()
        self._training = np.bincount(labels).tolist()

    def fits(self, group: int) -> bool:
        """Return whether no class of a group gives more than it is to give."""
        return all(count <= self._left[label] for label, count in self._parts[group].items())

    def helps(self, group: int) -> bool:
        """Return whether the shares of the classes come nearer to what is wanted, with a group."""
        nearer = 0
        for label, count in self._parts[group].items():
            left = self._left[label]
            nearer += left * left - (left - count) ** 2
        return nearer > 0

    def take_if(self, group: int, wanted: bool) -> None:
        """Hold a group out, unless a class would be left without training photos."""
        part = self._parts[group]
        if not wanted or self.held_out[group]:
            return
        if all(self._training[label] > count for label, count in part.items()):
            self.held_out[group] = True
            for label, count in part.items():
                self._left[label] -= count
                self._training[label] -= count
