"""What the values to be learnt are: classes, one a photo, or something that we do not learn."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from toolkit.errors import DataError

MOST_FRACTIONS = 10
"""Different numbers, some with a fraction, up to which they may be the names of classes."""

_SEPARATORS = ("|", ";", ",", " ")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def refuse_no_classes(where: str, labels: Sequence[str]) -> None:
    """Refuse labels that are no classes, one a photo.

    Args:
        where: The table and its column, for the message.
        labels: One a photo.

    Raises:
        ToolkitError: They are numbers on a scale, or several labels in one value.
    """
    counts = Counter(labels)
    if _is_scale(counts):
        shown = ", ".join(sorted(counts, key=float)[:3])
        raise DataError(
            f"{where} has {len(counts)} different numbers ({shown}, ...): a scale, of which this "
            "toolkit learns nothing, because it classifies. Put them into ranges first."
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
    """Return the columns that hold only 0 and 1; fewer than two are none."""
    binary = [name for name in columns if set(frame[name]) <= {"0", "1", "0.0", "1.0"}]
    return binary if len(binary) > 1 else []


def is_one_hot(frame: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Return whether each row has exactly one 1 in columns that hold only 0 and 1."""
    ones = frame[list(columns)].to_numpy(dtype=np.float64)
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
    ones = frame[list(columns)].to_numpy(dtype=np.float64) == 1.0
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


def _is_scale(counts: Counter[str]) -> bool:
    if not all(_NUMBER.fullmatch(value) for value in counts):
        return False
    numbers = {float(value) for value in counts}
    return any(not number.is_integer() for number in numbers) and len(numbers) > MOST_FRACTIONS


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
