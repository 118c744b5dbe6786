"""What the values to be learnt are: classes, one a photo, or something that we do not learn."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toolkit.errors import DataError

MOST_FRACTIONS = 10
"""Different numbers, some with a fraction, up to which they may be the names of classes."""

_QUANTITIES = re.compile(
    r"(^|_)(age|score|price|cost|weight|height|width|length|size|rating|count|amount|quantity|"
    r"temperature|percent|percentage|ratio|value|pawpularity|yield|biomass|volume|area|angle|"
    r"depth|distance|speed|income|votes|likes)s?($|_)"
)
"""Names of columns that measure or count something."""

_HOT = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0}
"""What a column of a class holds, in lower case."""

_EMPTY = {"nan", "na", "n/a", "#n/a", "<na>", "null", "unlabeled", "unlabelled"}
"""How people and programs write that there is no label, in lower case."""

_LIST = re.compile(r"[\[{(].*[\]})]", re.DOTALL)
_BOXES = re.compile(r"\S*[^\s\d]\S*(\s+-?\d+(\.\d+)?){4}(\s.*)?", re.DOTALL)
"""A class and the four sides of a box, perhaps with more of these."""

_WHOLE = re.compile(r"([+-]?\d+)\.0+")
_SEPARATORS = ("|", ";", ",", " ")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def refuse_no_classes(
    where: str, labels: Sequence[str], column: str = "", placeholders: Sequence[str] = ()
) -> None:
    """Refuse labels that are no classes, one a photo.

    Args:
        where: The table and its column, for the message.
        labels: One a photo.
        column: The name of their column, as `toolkit.data.columns.normalised` writes it.
        placeholders: What the sample submission has in the column of that name.

    Raises:
        ToolkitError: They are numbers on a scale, or several labels in one value.
    """
    counts = Counter(labels)
    if _is_scale(counts, column, placeholders):
        shown = ", ".join(sorted(counts, key=float)[:3])
        asked = next(filter(_is_fraction, placeholders), "")
        also = f", and the sample submission asks for numbers such as {asked}" if asked else ""
        raise DataError(
            f"{where} has {len(counts)} different numbers ({shown}, ...){also}: a scale, of which "
            "this toolkit learns nothing, because it classifies. Put them into ranges first."
        )
    boxes = [value for value in counts if _BOXES.fullmatch(value)]
    if len(boxes) > len(counts) / 2:
        raise DataError(
            f"{where} has boxes in photos, such as '{boxes[0]}'. This toolkit learns one class per "
            "photo. Write the class alone."
        )
    lists = [value for value in counts if _LIST.fullmatch(value)]
    several = [value for value in lists if _length(value) != 1]
    if several:
        raise DataError(
            f"{where} has lists of labels, such as '{several[0]}'. This toolkit learns one class "
            "per photo. Keep one label of each."
        )
    separator = _label_separator(counts)
    if separator is not None:
        example = next(value for value in counts if separator in value)
        raise DataError(
            f"{where} has several labels in one value, such as '{example}'. This toolkit learns "
            "one class per photo. Keep one label of each, or make each combination a class by "
            f"writing it without '{separator}'."
        )


def one_hot_columns(frame: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Return the columns that hold only 0 and 1, or False and True; fewer than two are none."""
    binary = [
        name for name in columns if {value.lower() for value in set(frame[name])} <= set(_HOT)
    ]
    return binary if len(binary) > 1 else []


def is_one_hot(frame: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Return whether each row has exactly one 1 in columns that hold only 0 and 1."""
    ones = _ones(frame, columns)
    return bool((ones.sum(axis=1) == 1.0).all())


def one_hot_labels(where: str, frame: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Return the label of each row of a table with one column a class.

    Args:
        where: The table, for messages.
        frame: Its rows under their line numbers.
        columns: The columns, which hold only 0 and 1.

    Raises:
        ToolkitError: A row has several classes, or none.
    """
    ones = _ones(frame, columns) == 1.0
    several, none = int((ones.sum(axis=1) > 1).sum()), int((~ones.any(axis=1)).sum())
    if several:
        line = frame.index[int(np.flatnonzero(ones.sum(axis=1) > 1)[0])]
        raise DataError(
            f"{where}: {several} of {len(frame)} rows (the first in line {line}) have a 1 in "
            f"several of the columns {', '.join(columns[:6])}: several labels per photo. This "
            "toolkit learns one class per photo.",
        )
    if none:
        line = frame.index[int(np.flatnonzero(~ones.any(axis=1))[0])]
        raise DataError(
            f"{where}: {none} of {len(frame)} rows (the first in line {line}) have no 1 in any of "
            f"the columns {', '.join(columns[:6])}, and so no class.",
        )
    return [columns[place] for place in ones.argmax(axis=1)]


def doubtful_classes(classes: Sequence[str]) -> list[str]:
    """Say which classes may be mistakes, a line each.

    Args:
        classes: Each once.
    """
    by_letters: dict[str, list[str]] = {}
    for name in classes:
        key = str(float(name)) if _NUMBER.fullmatch(name) else " ".join(name.lower().split())
        by_letters.setdefault(key, []).append(name)
    alike = [" and ".join(map(repr, names)) for names in by_letters.values() if len(names) > 1]
    lines = []
    if alike:
        more = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        lines = [
            "classes that differ in case, spaces or zeros alone are taken as different: "
            f"{alike[0]}{more}"
        ]
    empty = [name for name in classes if name.lower() in _EMPTY]
    return lines + [
        f"'{name}' is taken as a class; remove its photos if it means that they have none"
        for name in empty
    ]


def whole_numbers(labels: Sequence[str]) -> list[str]:
    """Return labels with '1.0' written as '1' where all of them are whole numbers.

    pandas writes a column of numbers so if a single one of them is missing.

    Args:
        labels: One a photo.
    """
    if not all(_WHOLE.fullmatch(label) or _is_whole(label) for label in set(labels)):
        return list(labels)
    return [_WHOLE.sub(r"\1", label) for label in labels]


def _ones(frame: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.float64]:
    """Return 0 and 1 of columns of classes, shape (rows, columns)."""
    values = [[_HOT[value.lower()] for value in frame[name]] for name in columns]
    return np.array(values, dtype=np.float64).T


def _is_whole(label: str) -> bool:
    return label.lstrip("+-").isdecimal()


def _is_scale(counts: Counter[str], column: str, placeholders: Sequence[str]) -> bool:
    if not all(_NUMBER.fullmatch(value) for value in counts):
        return False
    numbers = {float(value) for value in counts}
    if len(numbers) > 2 and any(_is_fraction(value) for value in placeholders):
        return True  # For two classes it may be a probability.
    if any(not number.is_integer() for number in numbers):
        return len(numbers) > (2 if _QUANTITIES.search(column) else MOST_FRACTIONS)
    return len(numbers) > MOST_FRACTIONS and bool(_QUANTITIES.search(column))


def _is_fraction(value: str) -> bool:
    return bool(_NUMBER.fullmatch(value)) and not float(value).is_integer()


def _length(value: str) -> int:
    """Return how many labels are in a list as JSON or Python writes it."""
    return len(_parts(value[1:-1], ","))


def _label_separator(counts: Counter[str]) -> str | None:
    """Return what separates the labels in a value; None where each value is one label."""
    for separator in _SEPARATORS:
        together = [value for value in counts if separator in value]
        parts = {value: frozenset(_parts(value, separator)) for value in together}
        together = [value for value in together if len(parts[value]) > 1]
        if together and _recombine(separator, counts, together, parts):
            return separator
    return None


def _recombine(
    separator: str,
    counts: Counter[str],
    together: Sequence[str],
    parts: dict[str, frozenset[str]],
) -> bool:
    """Return whether values are made of the same few labels, and are no names of several words.

    'golden retriever' is a name. Labels stand alone too ('clear' beside 'clear primary'), or in a
    value with more of them.
    """
    uses = Counter(label for value in together for label in parts[value])
    uses.update(value for value in counts if value not in together)
    recurring = sum(uses[label] > 1 for value in together for label in parts[value])
    if recurring < 0.8 * sum(len(parts[value]) for value in together):
        return False
    if separator == "|" or all(_NUMBER.fullmatch(label) for label in uses):
        return True
    alone = [frozenset((value,)) for value in counts if value not in together]
    known = {*alone, *parts.values()}
    contained = sum(any(other < parts[value] for other in known) for value in together)
    return contained >= 0.5 * len(together)


def _parts(value: str, separator: str) -> list[str]:
    return [part.strip() for part in value.split(separator) if part.strip()]
