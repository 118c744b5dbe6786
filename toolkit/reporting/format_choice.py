"""Which format an answer's file has: the sample submission decides, and what a user says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import pandas as pd

from toolkit.data.columns import LABEL_NAMES, WEAK_LABEL_NAMES, normalised
from toolkit.data.request import Request
from toolkit.data.sample import Sample
from toolkit.errors import ToolkitError, UsageError
from toolkit.reporting.class_columns import folded, match_classes, positive_class
from toolkit.reporting.formats import AS_SAMPLED, AnswerFormat, FormatOptions, Kind

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_SEVERAL = re.compile(r"[|;,]")
_SHOWN = 8


def choose_format(
    request: Request,
    classes: Sequence[str],
    names: Mapping[str, str] | None = None,
    wanted: FormatOptions = AS_SAMPLED,
) -> AnswerFormat:
    """Find out what file is wanted.

    Args:
        request: What is to be predicted; its sample, where there is one, decides.
        classes: Labels in class order.
        names: Readable names of some of them, by which a sample may call its columns.
        wanted: What a user says.

    Returns:
        The format.

    Raises:
        UsageError: What a user says does not fit together, the sample, or the classes.
        ToolkitError: The sample wants something that is no answer of a classifier.
    """
    wanted.check()
    if request.sample is None:
        found = _without_sample(request, classes, wanted)
    else:
        found = _Wish(request.sample, tuple(classes), dict(names or {}), wanted).format()
    _check_limits(found, classes)
    return found


def _without_sample(
    request: Request, classes: Sequence[str], wanted: FormatOptions
) -> AnswerFormat:
    id_column, label_column = request.columns
    kind: Kind
    answers: tuple[str, ...]
    if wanted.positive is not None:
        positive = positive_class(label_column, classes, wanted.positive)[0]
        kind, answers, said = "positive", (positive,), f"P({positive})"
    elif wanted.format == "probabilities" or wanted.clip is not None:
        kind, answers, said = "probabilities", tuple(classes), "probabilities, one column a class"
    elif wanted.top is not None:
        kind, answers, said = "top", (label_column,), f"the {wanted.top} most probable labels"
    else:
        kind, answers, said = "labels", (label_column,), "labels"
    return AnswerFormat(
        kind=kind,
        columns=(id_column, *answers),
        id_column=id_column,
        answers=answers,
        classes=answers if kind in ("positive", "probabilities") else (),
        top=wanted.top or 1,
        clip=wanted.clip,
        said=f"no sample submission: {said}",
    )


@dataclass(frozen=True)
class _Wish:
    """A sample submission beside what the classes are and what a user says."""

    sample: Sample
    classes: tuple[str, ...]
    names: Mapping[str, str]
    wanted: FormatOptions

    def format(self) -> AnswerFormat:
        others = tuple(name for name in self.sample.columns if name != self.sample.id_column)
        if not others:
            raise ToolkitError(
                f"{self.sample.path}: has no column beside the ids '{self.sample.id_column}', so "
                "it does not say what to answer. Leave it out (`sample=FILE` names another).",
                path=self.sample.path,
            )
        by_column = match_classes(others, self.classes, self.names)
        if len(by_column) == len(self.classes):
            return self._probabilities(by_column)
        if len(others) > 1 and len(by_column) > 1:
            self._refuse_unmatched(others, by_column)
        column = others[0] if len(others) == 1 else self._answer_column(others, by_column)
        return self._of_column(column)

    def _made(self, kind: Kind, answers: Sequence[str], said: str, **more: object) -> AnswerFormat:
        return AnswerFormat(
            kind=kind,
            columns=self.sample.columns,
            id_column=self.sample.id_column,
            answers=tuple(answers),
            separator=self.sample.separator,
            said=f"{self.sample.path.name}: {said}",
            **more,  # type: ignore[arg-type]
        )

    def _probabilities(self, by_column: Mapping[str, str]) -> AnswerFormat:
        if self.wanted.format == "labels" or self.wanted.top is not None:
            self._refuse("has one column a class, so that it takes probabilities, not labels")
        if self.wanted.positive is not None:
            self._refuse("has one column a class, so that no class is to be chosen by positive")
        return self._made(
            "probabilities",
            tuple(by_column),
            f"probabilities, one column a class ({len(by_column)})",
            classes=tuple(by_column.values()),
            clip=self.wanted.clip,
        )

    def _of_column(self, column: str) -> AnswerFormat:
        values = self.sample.values[column]
        length = self._lists(column, values)
        if self.wanted.top is not None or (length and self.wanted.format is None):
            top = self.wanted.top or length
            return self._made("top", [column], f"the {top} most probable labels", top=top)
        if self._wants_probability(column, values):
            positive, why = positive_class(column, self.classes, self.wanted.positive)
            return self._made(
                "positive",
                [column],
                f"column '{column}' is P({positive}), {why}; the other class is "
                f"'{next(name for name in self.classes if name != positive)}'",
                classes=(positive,),
                clip=self.wanted.clip,
            )
        if self.wanted.clip is not None:
            self._refuse(f"has one column of labels, '{column}', and clip is for probabilities")
        return self._made("labels", [column], f"labels in '{column}'")

    def _wants_probability(self, column: str, values: pd.Series) -> bool:
        """Return whether a column takes the probability of one of two classes."""
        if self.wanted.format == "labels":
            return False
        two = len(self.classes) == 2
        if self.wanted.format == "probabilities" or self.wanted.positive is not None:
            if not two:
                self._refuse(
                    f"has one column, '{column}', which cannot hold the probabilities of "
                    f"{len(self.classes)} classes"
                )
            return True
        numbers = all(_NUMBER.fullmatch(value) for value in values)
        if two:
            # A sample that spells both classes shows labels; one of 0 alone is filled in.
            spells = set(self.classes) == set(values)
            return numbers and not spells and all(0 <= float(value) <= 1 for value in values)
        unknown = set(values) - set(self.classes)
        if numbers and any(float(value) % 1 for value in unknown):
            self._refuse(
                f"has numbers with decimals in its only column, '{column}', and the bundle has "
                f"{len(self.classes)} classes: it asks for a number on a scale. This toolkit "
                "classifies; where labels are wanted, say `format='labels'`"
            )
        return False

    def _lists(self, column: str, values: pd.Series) -> int:
        """Return how many labels a value of a column holds at the most; 0 where it holds one."""
        known = {folded(name) for name in self.classes}
        several = [value for value in values.unique() if folded(value) not in known]
        for value in several:
            parts = [part.strip() for part in _SEVERAL.split(value)]
            if len(parts) > 1 and all(folded(part) in known for part in parts):
                self._refuse(
                    f"has several labels in one value of '{column}', such as '{value}': several "
                    "labels per photo. This toolkit gives one class per photo"
                )
        lists = [value.split() for value in several if len(value.split()) > 1]
        if not lists or not all(folded(part) in known for parts in lists for part in parts):
            return 0
        return max(len(parts) for parts in lists)

    def _answer_column(self, others: Sequence[str], by_column: Mapping[str, str]) -> str:
        """Return the only column that is named as a class or as labels; the others are kept."""
        if len(by_column) == 1 and len(self.classes) == 2:
            return next(iter(by_column))
        labels = (*LABEL_NAMES, *WEAK_LABEL_NAMES)
        usual = [name for name in others if normalised(name) in labels]
        # A column of one value alone is to be filled in, too.
        blank = [name for name in others if self.sample.values[name].nunique() == 1]
        if len(usual) != 1 or set(blank) - set(usual):
            self._refuse(
                f"has {len(others)} columns that are no classes of the bundle: {_first(others)} "
                f"(classes: {_first(self.classes)}). Several values per photo, such as several "
                "labels, boxes or numbers on scales, are no answer of a classifier"
            )
        return usual[0]

    def _refuse_unmatched(self, others: Sequence[str], by_column: Mapping[str, str]) -> None:
        columns = [name for name in others if name not in by_column]
        classes = [name for name in self.classes if name not in by_column.values()]
        reasons = [f"classes without a column: {_first(classes)}"]
        if columns:
            reasons.append(f"columns that are no class: {_first(columns)}")
        self._refuse(
            f"has a column for {len(by_column)} of {len(self.classes)} classes; "
            f"{'; '.join(reasons)}"
        )

    def _refuse(self, reason: str) -> NoReturn:
        raise ToolkitError(f"{self.sample.path}: {reason}.", path=self.sample.path)


def _check_limits(found: AnswerFormat, classes: Sequence[str]) -> None:
    if found.kind == "top":
        if found.top > len(classes):
            raise UsageError.of("top", found.top, f"Expected at most the {len(classes)} classes.")
        spaced = [name for name in classes if len(name.split()) != 1]
        if spaced:
            raise ToolkitError(
                f"The class '{spaced[0]}' has a space in its name, and the labels of a list have "
                "spaces between them: it could not be read again."
            )
    if found.clip is not None and not 0 < found.clip <= 1 / len(classes):
        raise UsageError(
            f"clip: Expected a number above 0 and at most 1/{len(classes)}, received {found.clip}."
        )


def _first(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
