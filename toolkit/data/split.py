"""Which photos are held out for validation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def validation_mask(
    labels: NDArray[np.int64], groups: NDArray[np.int64], fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Choose validation photos: the same share of each class, whole groups only.

    Args:
        labels: Shape (photos,), class indices.
        groups: Shape (photos,); photos of one group (near-duplicates) stay on one side.
        fraction: Share of the photos to hold out, between 0 and 1.
        seed: Decides which; independent of the training seed.

    Returns:
        Shape (photos,): True where a photo is held out. A class keeps at least one training photo.
    """
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    sizes = np.bincount(group)
    group_class = labels[first]
    chosen = np.zeros(len(sizes), dtype=bool)
    training = np.bincount(labels)
    for label in np.unique(labels):
        # A generator a class: a photo more in one class leaves the other classes' split alone.
        generator = np.random.default_rng([seed, int(label)])
        candidates = generator.permutation(np.flatnonzero(group_class == label))
        available = int(sizes[candidates].sum())
        wanted = min(round(fraction * available), available - 1)
        for candidate in candidates:
            # A group that would overshoot is passed over: a smaller one further on may still fit.
            if sizes[candidate] > wanted:
                continue
            # A group may hold photos of another class too, and must not take that one's last.
            taken = np.bincount(labels[group == candidate], minlength=len(training))
            if (training > taken)[taken > 0].all():
                chosen[candidate] = True
                training -= taken
                wanted -= int(sizes[candidate])
    return chosen[group]
