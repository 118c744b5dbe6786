"""Reads answers back, whatever format their file has."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toolkit.data.dataset import class_order
from toolkit.data.names import Names, share_of_ids
from toolkit.data.request import Request
from toolkit.data.sample import Sample, sample_of
from toolkit.data.tables import read_table
from toolkit.data.targets import whole_numbers
from toolkit.errors import ToolkitError, listing
from toolkit.files import sha256_file
from toolkit.reporting.class_columns import match_classes
from toolkit.reporting.format_choice import choose_format
from toolkit.reporting.formats import AnswerFormat, FormatOptions
from toolkit.reporting.manifest import Made

RESCALED = 1e-3
"""How far a row of probabilities may sum to something else than 1 before it is said."""


@dataclass(frozen=True)
class Answered:
    """The answers in a file.

    Attributes:
        path: The file.
        classes: Labels in class order: those that the answers speak of.
        ids: Of the photos, each once, in the order of the rows.
        predicted: Shape (photos,), the most probable class of each.
        probabilities: Shape (photos, classes), rows summing to 1; None for labels.
        ranked: Shape (photos, k), the most probable classes of each, best first, -1 where there
            are fewer; None but for lists of labels.
        remark: What a user should hear of how it was read; mostly empty.
    """

    path: Path
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float64] | None = None
    ranked: NDArray[np.int64] | None = None
    remark: str = ""

    @property
    def labels(self) -> dict[str, str]:
        """The label of each photo."""
        return {id: self.classes[n] for id, n in zip(self.ids, self.predicted, strict=True)}


def read_answers(
    path: Path,
    *,
    labels: Collection[str] = (),
    ids: Collection[str] = (),
    positive: str | None = None,
) -> Answered:
    """Read answers back, whatever their format.

    Args:
        path: The file. A manifest beside it that was written with it says what its format is.
        labels: The true labels, where they are known: what the answers speak of.
        ids: The photos of those labels, by which the column of ids is found.
        positive: Of two classes the one whose probability the file holds.

    Returns:
        The answers.

    Raises:
        ToolkitError: The file cannot be read, a value is no label or no probability, or a photo is
            answered in several rows in different ways.
    """
    table = read_table(path)
    known = Names.of_ids(ids)
    sample = sample_of(table, is_photo=lambda values: share_of_ids(values, known))
    sample = _each_id_once(path, sample)
    recorded = _recorded(path, sample)
    if recorded is not None:
        classes, found = recorded
    else:
        classes, found = _recognised(sample, labels, positive)
    values = sample.values
    if found.kind in ("labels", "top"):
        label_of = dict(zip(found.written, classes, strict=False))
        parts = [_parts(found, value) for value in values[found.answers[0]]]
        said = [" ".join(label_of.get(part, part) for part in each) for each in parts]
        read = _labels if found.kind == "labels" else _lists
        return read(path, sample, said, classes)
    numbers = _numbers(path, values, found.answers)
    if found.kind == "positive":
        place = classes.index(found.classes[0])
        probabilities = np.stack([numbers[:, 0]] * 2, axis=1)
        probabilities[:, 1 - place] = 1 - numbers[:, 0]
        if (numbers > 1).any():
            raise ToolkitError(
                f"{path}: '{found.answers[0]}' is above 1 and so no probability.", path=path
            )
        remark = f"'{found.answers[0]}' read as P({found.classes[0]})"
        return _with_probabilities(path, classes, sample.ids, probabilities, remark)
    order = [found.classes.index(name) for name in classes]
    return _rescaled(path, classes, sample.ids, numbers[:, order])


def _parts(found: AnswerFormat, value: str) -> list[str]:
    return [value] if found.kind == "labels" else value.split()


def _each_id_once(path: Path, sample: Sample) -> Sample:
    table = sample.values.copy()
    table.insert(0, sample.id_column, list(sample.ids))
    table = table.drop_duplicates()
    repeated = table[sample.id_column][table[sample.id_column].duplicated()].unique()
    if len(repeated):
        raise ToolkitError(
            f"{path}: {len(repeated)} ids have several rows with different answers:\n"
            f"{listing(repeated)}",
            path=path,
        )
    values = table.drop(columns=sample.id_column).reset_index(drop=True)
    ids = tuple(table[sample.id_column])
    return Sample(sample.path, sample.columns, sample.id_column, ids, values, sample.separator)


def _recorded(path: Path, sample: Sample) -> tuple[tuple[str, ...], AnswerFormat] | None:
    """Return classes and format that the manifest beside a submission tells; None without one."""
    made = Made.beside(path)
    if made is None:
        return None
    manifest = made.manifest
    same = manifest.submission.sha256 == sha256_file(path)
    found = manifest.format
    return (manifest.classes, found) if same and found.columns == sample.columns else None


def _recognised(
    sample: Sample, labels: Collection[str], positive: str | None
) -> tuple[tuple[str, ...], AnswerFormat]:
    """Tell the format of a file from its columns, its values and the labels that are known."""
    others = [name for name in sample.columns if name != sample.id_column]
    if not others:
        raise ToolkitError(
            f"{sample.path}: has no column beside the ids '{sample.id_column}'.", path=sample.path
        )
    classes = class_order(labels)
    numeric = [name for name in others if _are_numbers(sample.values[name])]
    if len(numeric) > 1:
        # Columns name the classes; not each of them need have a labelled photo.
        by_column = match_classes(numeric, classes) if classes else {}
        if not classes or len(by_column) == len(classes):
            shares = [name for name in numeric if _are_shares(sample.values[name])]
            names = {name: by_column.get(name, name) for name in (*by_column, *shares)}
            classes = class_order(names.values())
            found = AnswerFormat(
                "probabilities",
                sample.columns,
                sample.id_column,
                tuple(names),
                tuple(names.values()),
            )
            return classes, found
    if not classes:
        return _without_labels(sample, others, positive)
    if len(others) == 1 and _are_labels(list(sample.values[others[0]]), set(classes)):
        return classes, AnswerFormat("labels", sample.columns, sample.id_column, tuple(others))
    if len(others) == 1 and _are_lists(sample.values[others[0]], set(classes)):
        return classes, AnswerFormat("top", sample.columns, sample.id_column, tuple(others))
    request = Request(sample.ids, (), sample=sample)
    options = FormatOptions(positive=positive)
    return classes, choose_format(request, classes, wanted=options)


def _without_labels(
    sample: Sample, others: Sequence[str], positive: str | None
) -> tuple[tuple[str, ...], AnswerFormat]:
    """Tell the format of a file of a single column without knowing the classes."""
    column = others[-1]
    values = sample.values[column]
    if _are_numbers(values) and any(float(value) % 1 for value in values):
        raise ToolkitError(
            f"{sample.path}: '{column}' holds probabilities of a class that nothing here names. "
            "Name the true labels (`labels=FILE`), or keep the manifest beside the submission.",
            path=sample.path,
        )
    classes = class_order(whole_numbers(list(values)))
    return classes, AnswerFormat("labels", sample.columns, sample.id_column, (column,))


def _are_numbers(values: pd.Series) -> bool:
    return bool(pd.to_numeric(values, errors="coerce").notna().all())


def _are_labels(values: Sequence[str], classes: Collection[str]) -> bool:
    return set(values) <= set(classes) or set(whole_numbers(values)) <= set(classes)


def _are_lists(values: pd.Series, classes: Collection[str]) -> bool:
    """Return whether values are lists of labels; not each of these need be a true one."""
    lists = [value.split() for value in values]
    return (
        not any(value in classes for value in values)
        and any(len(parts) > 1 for parts in lists)
        and any(part in classes for parts in lists for part in parts)
    )


def _are_shares(values: pd.Series) -> bool:
    return bool(pd.to_numeric(values).between(0, 1).all())


def _labels(path: Path, sample: Sample, values: Sequence[str], classes: Sequence[str]) -> Answered:
    empty = [id for id, value in zip(sample.ids, values, strict=True) if not value]
    if empty:
        raise ToolkitError(f"{path}: '{empty[0]}' has no label.", path=path)
    # Among grades such as 1.0 and 1.5, '1.0' is a label.
    values = values if set(values) <= set(classes) else whole_numbers(values)
    every = class_order([*classes, *values])
    place = {name: index for index, name in enumerate(every)}
    predicted = np.array([place[value] for value in values], dtype=np.int64)
    return Answered(path, every, sample.ids, predicted)


def _lists(path: Path, sample: Sample, values: Sequence[str], classes: Sequence[str]) -> Answered:
    lists = [value.split() for value in values]
    empty = [id for id, value in zip(sample.ids, lists, strict=True) if not value]
    if empty:
        raise ToolkitError(f"{path}: '{empty[0]}' has no label.", path=path)
    every = class_order([*classes, *(name for value in lists for name in value)])
    place = {name: index for index, name in enumerate(every)}
    ranked = np.full((len(lists), max(map(len, lists))), -1, dtype=np.int64)
    for row, value in zip(ranked, lists, strict=True):
        row[: len(value)] = [place[name] for name in value]
    return Answered(path, every, sample.ids, ranked[:, 0], ranked=ranked)


def _numbers(path: Path, values: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.float64]:
    numbers = np.empty((len(values), len(columns)), dtype=np.float64)
    for place, column in enumerate(columns):
        try:
            # NumPy's own way to read numbers from text is exact, pandas's is not always.
            numbers[:, place] = values[column].to_numpy(dtype=np.float64)
        except ValueError as error:
            raise ToolkitError(f"{path}: '{column}': {error}.", path=path) from None
    wrong = np.argwhere(~np.isfinite(numbers) | (numbers < 0))
    if len(wrong):
        row, place = wrong[0]
        raise ToolkitError(
            f"{path}: row {row + 1}: '{columns[place]}': Expected a probability, received "
            f"{values[columns[place]].iloc[row]}.",
            path=path,
        )
    return numbers


def _rescaled(
    path: Path, classes: Sequence[str], ids: tuple[str, ...], numbers: NDArray[np.float64]
) -> Answered:
    """Divide each row by its sum, as scorers do."""
    sums = numbers.sum(axis=1, keepdims=True)
    if (sums <= 0).any():
        raise ToolkitError(
            f"{path}: '{ids[int(sums.argmin())]}' has no probability above 0.", path=path
        )
    off = int((np.abs(sums - 1) > RESCALED).sum())
    remark = f"{off} rows do not sum to 1 and were divided by their sums" if off else ""
    return _with_probabilities(path, classes, ids, numbers / sums, remark)


def _with_probabilities(
    path: Path,
    classes: Sequence[str],
    ids: tuple[str, ...],
    probabilities: NDArray[np.float64],
    remark: str,
) -> Answered:
    predicted = probabilities.argmax(axis=1).astype(np.int64)
    return Answered(path, tuple(classes), ids, predicted, probabilities, remark=remark)


def rows_by_id(path: Path) -> dict[str, str]:
    """Return what stands beside each id, as text, to tell where two submissions differ."""
    sample = sample_of(read_table(path))
    rows = sample.values.agg(sample.separator.join, axis=1)
    return dict(zip(sample.ids, rows, strict=True))
