"""Readable names of classes, from a table or a JSON file beside the labels."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from toolkit.data.tables import Table
from toolkit.errors import ToolkitError
from toolkit.files import regular_file

_TELLING = re.compile(r"class|name|categor|map", re.IGNORECASE)

LARGEST_BYTES = 1_000_000
"""Of a JSON file that may name classes; larger ones are annotations."""


def names_of_classes(
    classes: Sequence[str], tables: Sequence[Table], json_files: Sequence[Path]
) -> tuple[dict[str, str], Path | None]:
    """Find readable names of classes.

    Args:
        classes: All labels.
        tables: That may hold them: a column of all labels, each once, beside one of names.
        json_files: Likewise: an object from label to name, or from name to label.

    Returns:
        A name by label, and where they were found. A table whose file is called after classes or
        names may lack some; anything else must name all.
    """
    for table in tables:
        names = _from_table(classes, table.frame, may_lack=bool(_TELLING.search(table.path.name)))
        if names:
            return names, table.path
    for path in json_files:
        names = _from_json(classes, path)
        if names:
            return names, path
    return {}, None


def _from_table(classes: Sequence[str], frame: pd.DataFrame, *, may_lack: bool) -> dict[str, str]:
    for keys in frame.columns:
        known = set(frame[keys])
        is_whole = set(classes) <= known or (may_lack and bool(known) and known <= set(classes))
        if frame[keys].duplicated().any() or not is_whole:
            continue
        for name in frame.columns:
            named = dict(zip(frame[keys], frame[name], strict=True))
            there = [label for label in classes if label in named]
            if name != keys and _are_names(there, named):
                return {label: named[label] for label in there}
    return {}


def _from_json(classes: Sequence[str], path: Path) -> dict[str, str]:
    try:
        regular_file(path, LARGEST_BYTES)
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ToolkitError, OSError, ValueError, RecursionError):
        return {}  # Whatever it is, it names no classes.
    if not isinstance(content, dict):
        return {}
    pairs = {str(key): str(value) for key, value in content.items() if _is_plain(value)}
    turned = {value: key for key, value in pairs.items()}
    for named in (pairs, turned):
        if set(classes) <= set(named) and _are_names(classes, named):
            return {label: named[label] for label in classes}
    return {}


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _are_names(classes: Sequence[str], named: Mapping[str, str]) -> bool:
    """Return whether values name classes: all differ, and some are no numbers."""
    values = [named[label] for label in classes]
    return len(set(values)) == len(values) and not all(v.replace(".", "").isdigit() for v in values)
