"""What the file of a network takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import ToolkitError


@dataclass(frozen=True)
class Signature:
    """Input and output of a member's file, for any number of images.

    Attributes:
        size: Side of its images in pixels.
        classes: Of its probabilities.
    """

    size: int
    classes: int

    @classmethod
    def of(cls, path: Path, taken: Sequence[int | str], given: Sequence[int | str]) -> Signature:
        """Take it from the shapes of input and output, in which a word stands for any length.

        Raises:
            ToolkitError: They are not (batch, size, size, 3) and (batch, classes).
        """
        if len(taken) == 4 and isinstance(taken[0], str) and len(given) == 2:
            size, classes = taken[1], given[1]
            if isinstance(size, int) and isinstance(classes, int) and [*taken[2:]] == [size, 3]:
                return cls(size, classes)
        raise ToolkitError(
            f"{path}: Expected shapes (batch, size, size, 3) and (batch, classes), received "
            f"({', '.join(map(str, taken))}) and ({', '.join(map(str, given))})."
        )

    def __str__(self) -> str:
        return f"images of {self.size} px and {self.classes} classes"
