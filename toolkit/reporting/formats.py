"""What the answer's file looks like: labels, probabilities, one probability, or the best labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from toolkit.errors import UsageError

Kind = Literal["labels", "probabilities", "positive", "top"]


@dataclass(frozen=True)
class FormatOptions:
    """What a user says of the answer's file; None leaves it to the sample submission.

    Attributes:
        format: `labels` or `probabilities`.
        positive: Of two classes the one whose probability is written.
        top: How many labels to write for each photo, the most probable first.
        clip: Probabilities are kept from being smaller than this, and larger than 1 less this.
    """

    format: Literal["labels", "probabilities"] | None = None
    positive: str | None = None
    top: int | None = None
    clip: float | None = None

    def check(self) -> None:
        """Refuse what does not fit together.

        Raises:
            UsageError: Names it.
        """
        if self.top is not None and (self.format == "probabilities" or self.positive is not None):
            raise UsageError("`top`: Expected without `format='probabilities'` and `positive`.")
        if self.format == "labels" and self.positive is not None:
            raise UsageError("`positive`: Expected without `format='labels'`.")
        if self.clip is not None and (self.format == "labels" or self.top is not None):
            raise UsageError("`clip`: Expected where probabilities are written, not labels.")


AS_SAMPLED = FormatOptions()
"""The sample submission decides alone."""


@dataclass(frozen=True)
class AnswerFormat:
    """The shape of an answer's file.

    Attributes:
        kind: `labels`: one column of labels. `probabilities`: one column a class. `positive`: one
            column with the probability of one of two classes. `top`: one column with the most
            probable labels, spaces between.
        columns: Names of all columns, in order.
        id_column: The one of ids.
        answers: Those that are answered; the others are the sample's own.
        classes: The class of each of `answers`; of labels, none.
        written: How a label is written, in class order; empty where it stands for itself.
        top: How many labels a photo gets.
        clip: See `FormatOptions`.
        separator: Between the values of a row.
        said: In words, for a user.
        warning: What a user must hear of even where they want no progress; mostly empty.
    """

    kind: Kind
    columns: tuple[str, ...]
    id_column: str
    answers: tuple[str, ...]
    classes: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    top: int = 1
    clip: float | None = None
    separator: str = ","
    said: str = field(default="", compare=False)
    warning: str = field(default="", compare=False)

    @property
    def needs_probabilities(self) -> bool:
        """Whether the most probable labels alone are not enough."""
        return self.kind != "labels"

    def problems(self, classes: Sequence[str]) -> Iterator[str]:
        """Yield what does not fit together, each as `key: what is wrong`.

        Args:
            classes: All labels in class order.
        """
        if self.id_column not in self.columns:
            yield f"id_column: Expected one of columns, received {self.id_column!r}"
        if not self.answers or not set(self.answers) <= set(self.columns) - {self.id_column}:
            yield "answers: Expected columns beside that of ids"
        if self.kind in ("probabilities", "positive"):
            expected = 1 if self.kind == "positive" else len(self.answers)
            if len(self.classes) != expected or not set(self.classes) <= set(classes):
                yield "classes: Expected a class for each of answers"
        if self.kind == "probabilities" and sorted(self.classes) != sorted(classes):
            yield "classes: Expected every class once"
        if self.kind == "positive" and (len(classes), len(self.answers)) != (2, 1):
            yield "kind: Expected two classes and one column of answers"
        if self.written and len(self.written) != len(classes):
            yield "written: Expected one for each class"
        if self.top < 1:
            yield f"top: Expected at least 1, received {self.top}"
