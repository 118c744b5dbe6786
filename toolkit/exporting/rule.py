"""The rule that tells a wrong graph from rounding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MARGIN = 10
"""So many times the noise floor a file may be off by."""

RESOLUTION = 1e-6
"""And this share of the largest logit: by luck Keras may be exact, but float32 ends at 1e-7."""


@dataclass(frozen=True)
class Figure:
    """How far a file and Keras in float32 are off, as shares of the largest value.

    Attributes:
        errors: Of the file, its largest by image.
        floor: The largest of Keras in float32, over all images.
    """

    errors: NDArray[np.float64]
    floor: float

    @classmethod
    def of(
        cls,
        file: NDArray[np.floating],
        file_reference: NDArray[np.floating],
        keras: NDArray[np.floating],
        keras_reference: NDArray[np.floating],
    ) -> Figure:
        """Measure both, each against its reference; all of shape (images, values)."""
        largest = np.abs(keras_reference).max() or 1.0
        errors = np.abs(file - file_reference).max(axis=1) / largest
        return cls(errors, float(np.abs(keras - keras_reference).max() / largest))

    @property
    def allowed(self) -> float:
        """What the file may be off by."""
        return MARGIN * self.floor + RESOLUTION

    @property
    def passed(self) -> NDArray[np.bool_]:
        """Whether each image's error is allowed."""
        return np.asarray(self.errors <= self.allowed)

    def __str__(self) -> str:
        return (
            f"by {self.errors.max():.1e} of the largest, in Keras's float32 by {self.floor:.1e} "
            f"(allowed: {MARGIN} times that and {RESOLUTION:.0e}, {self.allowed:.1e})"
        )


def softmax(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return probabilities of shape (images, classes), in float64, for logits of that shape."""
    shifted = values.astype(np.float64)
    powers = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities
