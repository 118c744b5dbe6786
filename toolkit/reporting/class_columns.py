"""Columns that are named as classes are: whatever the case, by readable names, or numbered."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from toolkit.errors import UsageError, suggestion

POSITIVE_NAMES = ("1", "true", "yes", "positive", "pos")
"""Names of the class of two whose probability is meant where nothing else says so."""


def match_classes(
    columns: Sequence[str], classes: Sequence[str], names: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Find the class that each column is named by.

    Args:
        columns: Names.
        classes: Labels.
        names: Readable names of some of them.

    Returns:
        Class by column, for the columns that have one: by equal names; else whatever the case,
        spaces, hyphens and underscores; else by readable names; else by what is left of names that
        all begin alike, as `class_0`, `class_1`. The first way that finds a column for every class
        counts, or else the one that finds most.
    """
    readable = {name: (names or {}).get(name, name) for name in classes}
    stripped = _without_common_beginning(columns)
    ways: list[tuple[Callable[[str], str], Callable[[str], str]]] = [
        (str, str),
        (folded, folded),
        (folded, lambda name: folded(readable[name])),
        (lambda column: folded(stripped[column]), folded),
    ]
    best: dict[str, str] = {}
    for of_column, of_class in ways:
        keys = {of_class(name): name for name in classes}
        if len(keys) < len(classes):
            continue
        found: dict[str, str] = {}
        for column in columns:
            name = keys.get(of_column(column))
            if name is not None and name not in found.values():
                found[column] = name
        if len(found) > len(best):
            best = found
        if len(best) == len(classes):
            break
    return best


def positive_class(column: str, classes: Sequence[str], named: str | None) -> tuple[str, str]:
    """Choose the class of two whose probability a column holds, and say why.

    Args:
        column: Its name.
        classes: Two labels in class order.
        named: The one that a user named.

    Raises:
        UsageError: There is no such class, or there are not two.
    """
    if len(classes) != 2:
        raise UsageError(f"`positive`: Expected data of two classes, received {len(classes)}.")
    if named is not None:
        alike = [name for name in classes if folded(name) == folded(named)]
        if not alike:
            raise UsageError.of("positive", named, f"unknown class. {suggestion(named, classes)}")
        return alike[0], "as requested"
    words = set(_words(column))
    by_name = [name for name in classes if set(_words(name)) <= words and _words(name)]
    if len(by_name) == 1 and not by_name[0].isdecimal():
        return by_name[0], "which the column names"
    usual = [name for name in classes if folded(name) in POSITIVE_NAMES]
    if len(usual) == 1:
        return usual[0], "the positive class by its name"
    return classes[1], "the second class in order (`positive=CLASS` chooses)"


def folded(name: str) -> str:
    """Return a name whatever its case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFC", name).strip().casefold())


def _words(name: str) -> list[str]:
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W_]+", split.casefold())


def _without_common_beginning(columns: Sequence[str]) -> dict[str, str]:
    """Take off what all names begin with, up to a place between words."""
    if len(columns) < 2:
        return {name: name for name in columns}
    first, last = min(columns), max(columns)
    length = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    while length and first[length - 1].isalnum() and not _is_break(first[length - 1], columns):
        length -= 1
    return {name: name[length:] for name in columns}


def _is_break(before: str, columns: Sequence[str]) -> bool:
    # 'class0', 'class1': letters before numbers are a break too.
    return before.isalpha() and all(re.search(r"\d+$", name) for name in columns)
