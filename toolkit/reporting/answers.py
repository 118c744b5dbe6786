"""Answers of submissions, by id: held to labels, and to one another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.data.dataset import class_order
from toolkit.data.labels import read_labels
from toolkit.errors import ToolkitError, UsageError
from toolkit.intervals import Agreement, Labels, Paired, agreement, paired
from toolkit.progress import counted


@dataclass(frozen=True)
class Held:
    """A submission's answers beside the labels.

    Attributes:
        photos: What it is held to, in words.
        classes: Category values in class order, of answers and labels.
        predicted: Shape (photos,), class indices.
        labels: Shape (photos,), class indices.
    """

    photos: str
    classes: tuple[str, ...]
    predicted: Labels
    labels: Labels


@dataclass(frozen=True)
class Comparison:
    """Two submissions on the same photos.

    Attributes:
        subject: The first.
        against: The second.
        photos: What they were compared on, in words.
        agreement: How often they say the same.
        paired: Which of them is right how often; None without labels.
    """

    subject: str
    against: str
    photos: str
    agreement: Agreement
    paired: Paired | None


def hold_to_labels(submission: Path, labels: Path) -> Held:
    """Put a submission's answers beside the labels.

    Raises:
        ToolkitError: A CSV cannot be read, the submission lacks an id, or none of the labels is
            answered.
    """
    truth, answers = read_labels(labels), read_labels(submission)
    _check_rows(submission, answers, truth)
    where = f"{counted(len(truth), 'photo')} of {labels}"
    where += _unanswered(labels, truth, answers.values())
    classes = class_order([*truth.values(), *answers.values()])
    predicted, true = (_indices(each, truth, classes) for each in (answers, truth))
    return Held(where, classes, predicted, true)


def compare(subject: Path, against: Path, labels: Path | None = None) -> Comparison:
    """Compare two submissions photo by photo.

    Args:
        subject: The first submission's CSV.
        against: The second's.
        labels: The CSV of labels, whose ids are compared. Where none is named, all ids are, and
            only how often both say the same is told.

    Returns:
        The first against the second.

    Raises:
        UsageError: One of both is no submission.
        ToolkitError: A CSV cannot be read or lacks an id, or none of the labels is answered.
    """
    for path in (subject, against):
        if path.suffix.lower() != ".csv" or path.is_dir():
            raise UsageError(f"{path}: --against compares the CSVs of two submissions.")
    first, second = read_labels(subject), read_labels(against)
    truth = read_labels(labels) if labels else {}
    _check_rows(subject, first, truth or second)
    _check_rows(against, second, truth or first)
    ids = list(truth or first)
    classes = class_order([*first.values(), *second.values(), *truth.values()])
    mine, theirs = _indices(first, ids, classes), _indices(second, ids, classes)
    figures, where = None, counted(len(ids), "photo")
    if labels:
        figures = paired(mine, theirs, _indices(truth, ids, classes))
        where += f" of {labels}{_unanswered(labels, truth, [*first.values(), *second.values()])}"
    return Comparison(str(subject), str(against), where, agreement(mine, theirs), figures)


def _unanswered(path: Path, truth: Mapping[str, str], answers: Iterable[str]) -> str:
    """Tell of categories that no answer has, which may be another spelling of those that have.

    Raises:
        ToolkitError: No category is among the answers.
    """
    answered = class_order(answers)
    unknown = class_order(set(truth.values()) - set(answered))
    if not unknown:
        return ""
    if set(unknown) == set(truth.values()):
        raise ToolkitError(
            f"{path}: none of its categories ({_first(unknown)}) is among the answers "
            f"({_first(answered)})."
        )
    return f", of whose categories no answer has: {_first(unknown)}"


def _first(categories: Sequence[str], most: int = 5) -> str:
    return ", ".join(categories[:most]) + (", ..." if len(categories) > most else "")


def _check_rows(path: Path, answers: Mapping[str, str], wanted: Iterable[str]) -> None:
    missing = [id for id in wanted if id not in answers]
    if missing:
        others = {1: "", 2: " and 1 other"}.get(len(missing), f" and {len(missing) - 1} others")
        raise ToolkitError(f"{path}: has no row for '{missing[0]}'{others}.")


def _indices(
    categories: Mapping[str, str], ids: Iterable[str], classes: Sequence[str]
) -> NDArray[np.int64]:
    place = {category: index for index, category in enumerate(classes)}
    return np.array([place[categories[id]] for id in ids], dtype=np.int64)
