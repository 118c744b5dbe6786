"""The shared augmentor: an albumentations pipeline that is written down as data.

This is the only module that knows albumentations.
"""

from __future__ import annotations

import inspect
import os
import random
import threading
from collections.abc import Mapping, Sequence
from typing import Any

# albumentations looks for a newer version over the network when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations
import cv2
import numpy as np
import pydantic

from toolkit.data.pixels import Pixels, Square, from_array
from toolkit.errors import RecipeError, suggestion

LARGEST_NUMBER = 4096
"""Of any parameter: a size, kernel or count beyond it exhausts memory or time."""

MOST_TRANSFORMS = 1000
"""That one photo may pass through, with those that `SomeOf` and the like repeat."""

Step = Mapping[str, Mapping[str, Any] | None]
"""One step: albumentations' name of the transform, and its parameters by its own names."""

_REFUSED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    cv2.error,
)
"""What transforms raise where their parameters do not fit a photo."""

_CHECKS = 8
"""Steps may be taken or not; so many draws show most of what they leave."""


class Augmentor:
    """Changes photos at random, decided by a seed for each photo alone."""

    def __init__(self, steps: Sequence[Step], size: int | None = None) -> None:
        """Build the pipeline.

        Args:
            steps: The transforms in order, as in a recipe's `augmentor.yaml`.
            size: Side in pixels of what comes out; None takes that of what goes in.

        Raises:
            ToolkitError: A transform or parameter is unknown, or a value is not allowed.
        """
        self._steps, self._size = list(steps), size
        count = sum(_transforms_a_photo(step) for step in self._steps)
        if count > MOST_TRANSFORMS:
            raise RecipeError(
                f"augmentor: Expected at most {MOST_TRANSFORMS} transforms per photo, received "
                f"{count:,.0f}."
            )
        self._per_thread = threading.local()
        self._pipeline()

    def __call__(self, pixels: Pixels, seed: int) -> Pixels:
        """Augment one photo.

        Args:
            pixels: Shape (side, side, 3), uint8, RGB. It is not changed.
            seed: Decides all that is random.

        Returns:
            A new array of shape (size, size, 3), uint8. Where the last step leaves the photo as
            large as it came, it is brought to `size` as photos are: bilinear, antialiased.

        Raises:
            ToolkitError: A step cannot change the photo, or the last one leaves another shape or
                dtype.
        """
        pipeline = self._pipeline()
        # albumentations' own set_random_seed gives every step the same numbers, so that steps of
        # equal p would always be taken together.
        pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        try:
            changed: Pixels = pipeline(image=pixels)["image"]
        except _REFUSED as error:
            height, width = pixels.shape[:2]
            raise RecipeError(
                f"augmentor: a step cannot change a photo of {width} x {height} pixels "
                f"({_reason(error)})."
            ) from None
        size = self._size or len(pixels)
        if changed.dtype != np.uint8 or changed.shape not in (pixels.shape, (size, size, 3)):
            allowed = " or ".join(str((side, side, 3)) for side in sorted({size, len(pixels)}))
            raise RecipeError(
                f"augmentor: Expected shape {allowed} and dtype uint8 after the last step, "
                f"received {changed.shape} and {changed.dtype}."
            )
        if len(changed) != size:
            return Square(size)(from_array(changed))
        # Where no step applied, it is what came in.
        return changed.copy() if np.shares_memory(changed, pixels) else changed

    def check(self, side: int) -> None:
        """Refuse steps that leave photos of a side in another shape than they should.

        Raises:
            ToolkitError: Some do.
        """
        for seed in range(_CHECKS):
            self(np.zeros((side, side, 3), dtype=np.uint8), seed)

    def _pipeline(self) -> albumentations.Compose:
        # A pipeline holds the state of its random generator, so threads cannot share one.
        if not hasattr(self._per_thread, "pipeline"):
            self._per_thread.pipeline = albumentations.Compose(_transforms(self._steps))
        pipeline: albumentations.Compose = self._per_thread.pipeline
        return pipeline


def photo_seed(*numbers: int) -> int:
    """Mix numbers, such as (seed, epoch, photo), into one seed of 32 bits."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _transforms_a_photo(step: Any) -> float:
    """Count the transforms that a step may apply to one photo; a malformed step counts as one."""
    parameters = next(iter(step.values()), None) if isinstance(step, Mapping) else None
    if not isinstance(parameters, Mapping):
        return 1
    inner = parameters.get("transforms")
    within = sum(map(_transforms_a_photo, inner)) if isinstance(inner, list) else 1
    times = parameters.get("n")
    return within * max(1, times) if isinstance(times, int | float) else within


def _transforms(steps: Sequence[Step]) -> list[Any]:
    return [_transform(step) for step in steps]


def _transform(step: Step) -> Any:
    if not isinstance(step, Mapping) or len(step) != 1:
        raise RecipeError(
            f"augmentor: Expected one step as 'Name: {{parameter: value}}', received {step!r}."
        )
    ((name, parameters),) = step.items()
    kind = getattr(albumentations, str(name), None)
    if kind is None or not _is_transform(kind):
        raise RecipeError(
            f"augmentor: unknown transform '{name}'. {suggestion(str(name), _transform_names())}"
        )
    if not isinstance(parameters, Mapping | None):
        raise RecipeError(
            f"augmentor: {name}: Expected '{{parameter: value}}', received {parameters!r}."
        )
    known = inspect.signature(kind).parameters
    for key in parameters or {}:
        # albumentations itself only warns, and goes on with its default.
        if key not in known:
            raise RecipeError(
                f"augmentor: {name}: unknown parameter '{key}'. {suggestion(str(key), known)}"
            )
    values = {key: _value(key, value) for key, value in (parameters or {}).items()}
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"augmentor: {name}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    cause = error.__cause__
    if not isinstance(cause, pydantic.ValidationError):
        return " ".join(str(error).split()) or type(error).__name__
    first = cause.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    return f"{first['loc'][0]}: {message}, received {first['input']!r}."


def _value(key: str, value: Any) -> Any:
    if key == "transforms":
        if not isinstance(value, list):
            raise RecipeError(f"augmentor: {key}: Expected a list of steps, received {value!r}.")
        return _transforms(value)
    if isinstance(value, str) and value.startswith(("BORDER_", "INTER_")):
        if not hasattr(cv2, value):
            known = [name for name in dir(cv2) if name.startswith(("BORDER_", "INTER_"))]
            raise RecipeError(
                f"augmentor: {key}: OpenCV has no constant '{value}'. {suggestion(value, known)}"
            )
        return getattr(cv2, value)
    if isinstance(value, list):
        return tuple(_value(key, item) for item in value)
    if isinstance(value, Mapping):
        return {inner: _value(inner, item) for inner, item in value.items()}
    # Written so that it refuses what is not a number too.
    if isinstance(value, int | float) and not abs(value) <= LARGEST_NUMBER:
        raise RecipeError(
            f"augmentor: {key}: Expected at most {LARGEST_NUMBER}, received {value!r}."
        )
    return value


def _transform_names() -> list[str]:
    return [name for name in dir(albumentations) if _is_transform(getattr(albumentations, name))]


def _is_transform(kind: Any) -> bool:
    single, composed = albumentations.BasicTransform, albumentations.BaseCompose
    if not isinstance(kind, type) or kind is composed:
        return False
    # The bases of others, and those of volumes, do not say what becomes of a photo.
    applied = getattr(kind, "apply", None)
    return issubclass(kind, composed) or (issubclass(kind, single) and applied != single.apply)
