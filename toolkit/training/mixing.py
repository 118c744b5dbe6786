"""What a training batch may be mixed with: its own photos, and uniform targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.data.pixels import Pixels

Targets = NDArray[np.float32]


@dataclass(frozen=True)
class Mixing:
    """How the photos and targets of a batch are mixed; nothing by default.

    Attributes:
        label_smoothing: Share of each target that is spread evenly over all classes (Szegedy et
            al., arXiv 1512.00567).
        mixup_alpha: Blend each photo with another of its batch, shares drawn from
            Beta(alpha, alpha) (Zhang et al., arXiv 1710.09412); None leaves it out.
        cutmix_alpha: Replace a box of each photo by the same box of another (Yun et al.,
            arXiv 1905.04899), its area drawn likewise; None leaves it out.
    """

    label_smoothing: float = 0.0
    mixup_alpha: float | None = None
    cutmix_alpha: float | None = None

    def __call__(
        self, images: Pixels, targets: Targets, generator: np.random.Generator
    ) -> tuple[Pixels, Targets]:
        """Mix one batch.

        Args:
            images: Shape (batch, size, size, 3), uint8. Not changed.
            targets: Shape (batch, classes), rows summing to 1. Not changed.
            generator: Decides all that is random.

        Returns:
            Images and targets of the same shapes and dtypes.
        """
        if self.label_smoothing:
            even = np.float32(self.label_smoothing / targets.shape[1])
            targets = targets * np.float32(1 - self.label_smoothing) + even
        if self.mixup_alpha is not None:
            return _mixup(images, targets, self.mixup_alpha, generator)
        if self.cutmix_alpha is not None:
            return _cutmix(images, targets, self.cutmix_alpha, generator)
        return images, targets


def _mixup(
    images: Pixels, targets: Targets, alpha: float, generator: np.random.Generator
) -> tuple[Pixels, Targets]:
    partners = generator.permutation(len(images))
    shares = generator.beta(alpha, alpha, len(images)).astype(np.float32)
    own = shares[:, None, None, None]
    blended = own * images + (1 - own) * images[partners]
    return np.rint(blended).astype(np.uint8), _shared(targets, partners, shares)


def _cutmix(
    images: Pixels, targets: Targets, alpha: float, generator: np.random.Generator
) -> tuple[Pixels, Targets]:
    size = images.shape[1]
    partners = generator.permutation(len(images))
    sides = size * np.sqrt(1 - generator.beta(alpha, alpha, len(images)))
    centres = generator.integers(0, size, (len(images), 2))
    starts = np.clip(centres - sides.astype(int)[:, None] // 2, 0, size)
    ends = np.clip(centres + sides.astype(int)[:, None] // 2, 0, size)
    mixed = images.copy()
    for photo, ((top, left), (bottom, right)) in enumerate(zip(starts, ends, strict=True)):
        mixed[photo, top:bottom, left:right] = images[partners[photo], top:bottom, left:right]
    # A box that reaches over the border is cut there: what counts is what is left of it.
    shares = (1 - np.prod(ends - starts, axis=1) / size**2).astype(np.float32)
    return mixed, _shared(targets, partners, shares)


def _shared(targets: Targets, partners: NDArray[np.int64], shares: NDArray[np.float32]) -> Targets:
    own = shares[:, None]
    mixed: Targets = own * targets + (1 - own) * targets[partners]
    return mixed
