"""The rule that tells a wrong graph from rounding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MARGIN = 10
"""So many times the noise floor a file may be off by."""

RESOLUTION = 1e-6
"""And this share of the largest logit: by luck Keras may be exact, but float32 ends at 1e-7."""


Values = NDArray[np.floating]


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
    def of_logits(cls, file: Values, keras: Values, reference: Values) -> Figure:
        """Judge logits, or a layer's values, by the reference; all of shape (images, values)."""
        return cls._of(file, reference, keras, reference)

    @classmethod
    def of_softmax(
        cls, file: Values, probabilities: Values, keras: Values, keras_probabilities: Values
    ) -> Figure:
        """Judge probabilities by the logits that they were made from, Keras's by its own."""
        return cls._of(probabilities, softmax(file), keras_probabilities, softmax(keras))

    @classmethod
    def _of(
        cls, file: Values, file_reference: Values, keras: Values, keras_reference: Values
    ) -> Figure:
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
            f"by {self.errors.max():.1e} of the largest value, Keras in float32 by "
            f"{self.floor:.1e} (allowed: {self.allowed:.1e})"
        )


def softmax(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return probabilities of shape (images, classes), in float64, for logits of that shape."""
    shifted = values.astype(np.float64)
    powers = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities
