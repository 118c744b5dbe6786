"""What the answer's file looks like: labels, probabilities, one probability, or the best labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

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
        top: How many labels a photo gets.
        clip: See `FormatOptions`.
        separator: Between the values of a row.
        said: In words, for a user.
    """

    kind: Kind
    columns: tuple[str, ...]
    id_column: str
    answers: tuple[str, ...]
    classes: tuple[str, ...] = ()
    top: int = 1
    clip: float | None = None
    separator: str = ","
    said: str = field(default="", compare=False)

    @property
    def needs_probabilities(self) -> bool:
        """Whether the most probable labels alone are not enough."""
        return self.kind != "labels"

    def record(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return what a manifest has to say of it, with all labels in class order."""
        return {**asdict(self), "all_classes": list(classes)}

    @classmethod
    def of_record(cls, content: Mapping[str, Any]) -> tuple[AnswerFormat, tuple[str, ...]]:
        """Return what `record` wrote: the format, and all labels in class order."""
        said = dict(content)
        classes = tuple(said.pop("all_classes"))
        lists = {key: tuple(said[key]) for key in ("columns", "answers", "classes")}
        return cls(**{**said, **lists}), classes
