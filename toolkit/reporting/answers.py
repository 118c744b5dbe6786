"""Answers of submissions, by id: held to labels, and to one another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.bootstrap import difference
from toolkit.data.dataset import class_order
from toolkit.data.labels import read_labels
from toolkit.data.names import match_ids
from toolkit.errors import ToolkitError, UsageError
from toolkit.intervals import Agreement, Difference, Paired, agreement, paired
from toolkit.metrics import Answers, find_metric, have_order, undefined
from toolkit.progress import counted
from toolkit.reporting.answered import Answered, read_answers


@dataclass(frozen=True)
class Held:
    """A submission's answers beside the labels.

    Attributes:
        photos: What it is held to, in words.
        classes: Labels in class order, of answers and truth.
        answers: What it says of each photo.
        ranked: Shape (photos, k), the classes of each photo's list, best first, -1 where there are
            fewer; None but for lists of labels.
    """

    photos: str
    classes: tuple[str, ...]
    answers: Answers
    ranked: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Comparison:
    """Two submissions on the same photos.

    Attributes:
        subject: The first.
        against: The second.
        photos: What they were compared on, in words.
        agreement: How often they say the same.
        paired: Which of them is right how often; None without labels.
        metric: What both are judged by.
        change: The metric of the first less that of the second; None without labels, and where it
            is undefined.
    """

    subject: str
    against: str
    photos: str
    agreement: Agreement
    paired: Paired | None
    metric: str = "accuracy"
    change: Difference | None = None


def hold_to_labels(submission: Path, labels: Path, positive: str | None = None) -> Held:
    """Put a submission's answers beside the labels.

    Args:
        submission: Labels, probabilities, or lists of labels by id.
        labels: The true label by id.
        positive: Of two classes the one whose probability the submission holds.

    Raises:
        ToolkitError: A table cannot be read, the submission lacks an id, or none of the labels is
            answered.
    """
    truth = read_labels(labels)
    said = read_answers(submission, labels=truth.values(), ids=truth, positive=positive)
    truth, remark = _by_answered_id(truth, said, labels)
    return _held(said, labels, truth, remark)


def _by_answered_id(
    labels: Mapping[str, str], said: Answered, path: Path
) -> tuple[dict[str, str], str]:
    """Return labels under the ids by which they are answered, and how these were matched.

    What is not answered keeps its own id.
    """
    found = match_ids(list(labels), said.ids, path)
    return {found.names.get(id, id): label for id, label in labels.items()}, found.remark


def _held(said: Answered, labels: Path, truth: Mapping[str, str], remark: str = "") -> Held:
    _check_rows(said.path, said.ids, truth)
    where = f"{counted(len(truth), 'photo')} of {labels}"
    # A column names its class, whether it is the most probable one of any photo or not.
    spoken = set(said.labels.values()) if said.probabilities is None else set(said.classes)
    if said.ranked is not None:
        spoken = {said.classes[index] for index in np.unique(said.ranked) if index >= 0}
    where += _unanswered(labels, truth, spoken)
    where = "; ".join(filter(None, (where, remark, said.remark)))
    classes = class_order([*truth.values(), *said.classes])
    place = {name: index for index, name in enumerate(classes)}
    moved = np.array([*(place[name] for name in said.classes), -1], dtype=np.int64)
    number = {id: row for row, id in enumerate(said.ids)}
    rows = [number[id] for id in truth]
    probabilities = None
    if said.probabilities is not None:
        probabilities = np.zeros((len(rows), len(classes)))
        probabilities[:, moved[:-1]] = said.probabilities[rows]
    answers = Answers(
        labels=_indices(truth, truth, classes),
        predicted=moved[said.predicted[rows]],
        probabilities=probabilities,
        ordered=have_order(classes),
    )
    ranked = None if said.ranked is None else moved[said.ranked[rows]]
    return Held(where, classes, answers, ranked)


def compare_submissions(
    subject: Path | str,
    against: Path | str,
    *,
    labels: Path | str | None = None,
    metric: str = "accuracy",
    positive: str | None = None,
) -> Comparison:
    """Compare two submissions photo by photo.

    Args:
        subject: The CSV of the first submission.
        against: That of the second, of the same format or another.
        labels: The table of true labels, whose ids are compared. Without it all ids are, and only
            how often both give the same label is returned.
        metric: What both are judged by, besides accuracy: one of `toolkit.metrics.METRICS`.
        positive: Of two classes the one whose probability they hold.

    Returns:
        The first against the second.

    Raises:
        UsageError: One of both is no submission.
        ToolkitError: A table cannot be read or lacks an id, none of the labels is answered, or the
            metric is undefined for these answers.

    Example:
        >>> compare_submissions("submission.csv", "submission-2.csv").agreement.equal
        0.987
    """
    subject, against = Path(subject), Path(against)
    labels = None if labels is None else Path(labels)
    chosen = find_metric(metric)
    for path in (subject, against):
        if path.suffix.lower() != ".csv" or path.is_dir():
            raise UsageError(f"{path}: Expected the CSV of a submission.", path=path)
    truth = read_labels(labels) if labels else {}
    first, second = (
        read_answers(path, labels=truth.values(), ids=truth, positive=positive)
        for path in (subject, against)
    )
    if labels is None:
        found = match_ids(second.ids, first.ids, against)
        second = replace(second, ids=tuple(found.names.get(id, id) for id in second.ids))
        _check_rows(subject, first.ids, second.ids)
        _check_rows(against, second.ids, first.ids)
        classes = class_order([*first.classes, *second.classes])
        mine, theirs = (_indices(each.labels, first.ids, classes) for each in (first, second))
        where = "; ".join(filter(None, (counted(len(first.ids), "photo"), found.remark)))
        return Comparison(str(subject), str(against), where, agreement(mine, theirs), None)
    spoken = [*first.labels.values(), *second.labels.values()]
    where = f"{counted(len(truth), 'photo')} of {labels}{_unanswered(labels, truth, spoken)}"
    classes = class_order([*first.classes, *second.classes, *truth.values()])
    by_id = [_by_answered_id(truth, each, labels) for each in (first, second)]
    where = "; ".join(dict.fromkeys([where, *(remark for _, remark in by_id if remark)]))
    ours, others = (
        _held(_of(each, classes), labels, named).answers
        for each, (named, _) in zip((first, second), by_id, strict=True)
    )
    for path, each in ((subject, ours), (against, others)):
        if reason := undefined(chosen, each):
            raise ToolkitError(f"{path}: no {chosen.title}: {reason}.", path=path)
    return Comparison(
        subject=str(subject),
        against=str(against),
        photos=where,
        agreement=agreement(ours.predicted, others.predicted),
        paired=paired(ours.predicted, others.predicted, ours.labels),
        metric=metric,
        change=difference(chosen, ours, others),
    )


def _of(said: Answered, classes: tuple[str, ...]) -> Answered:
    """Return answers with the indices of more classes."""
    place = {name: index for index, name in enumerate(classes)}
    moved = np.array([place[name] for name in said.classes], dtype=np.int64)
    probabilities = None
    if said.probabilities is not None:
        probabilities = np.zeros((len(said.ids), len(classes)))
        probabilities[:, moved] = said.probabilities
    return replace(
        said,
        classes=classes,
        predicted=moved[said.predicted],
        probabilities=probabilities,
        ranked=None,
    )


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
            f"({_first(answered)}).",
            path=path,
        )
    return f", of whose categories no answer has: {_first(unknown)}"


def _first(categories: Sequence[str], most: int = 5) -> str:
    return ", ".join(categories[:most]) + (", ..." if len(categories) > most else "")


def _check_rows(path: Path, answered: Iterable[str], wanted: Iterable[str]) -> None:
    there = set(answered)
    missing = [id for id in wanted if id not in there]
    if missing:
        others = {1: "", 2: " and 1 other"}.get(len(missing), f" and {len(missing) - 1} others")
        raise ToolkitError(f"{path}: has no row for '{missing[0]}'{others}.", path=path)


def _indices(
    categories: Mapping[str, str], ids: Iterable[str], classes: Sequence[str]
) -> NDArray[np.int64]:
    place = {category: index for index, category in enumerate(classes)}
    return np.array([place[categories[id]] for id in ids], dtype=np.int64)
