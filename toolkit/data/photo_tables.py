"""Labelled photos that a table names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from toolkit.data.catalogue import is_telling
from toolkit.data.columns import LABEL_NAMES, MOSTLY, SAMPLED, normalised
from toolkit.data.dataset import Dataset, Photo, class_order
from toolkit.data.label_columns import AmbiguousColumnError, NoLabelsError
from toolkit.data.labels import LabelTable, label_table
from toolkit.data.layout import Role, class_folders
from toolkit.data.names import CLASS_FOLDER, EXACT, SPELLING, SUFFIX
from toolkit.data.other_formats import unread_formats
from toolkit.data.reading import WARN_SHARE, Found, Reading
from toolkit.data.resolver import Resolution
from toolkit.data.source import Source
from toolkit.data.table_choice import agree, chosen_table, telling
from toolkit.data.tables import TEXT_SUFFIXES, Table, read_table
from toolkit.data.tree import contents
from toolkit.errors import DataError, ToolkitError, listing
from toolkit.progress import counted

_SHOWN = 3
"""Tables that are named where there are more."""


def dataset_of_tables(source: Source, reading: Reading) -> Dataset | None:
    """Return the photos that a table of labels names; None where there is no such table.

    Args:
        source: The data folder.
        reading: The table, and its columns, that a user named.

    Raises:
        ToolkitError: A table is not as expected, can be read in several ways, or names no photo
            that is here.
    """
    if reading.labels is not None:
        return _dataset(source, [_read(reading.labels, source, reading)], ())
    catalogue = source.catalogue
    remarks: list[str] = []
    lost: list[LabelTable] = []
    unclear: list[AmbiguousColumnError] = []
    wanted = _wanted(source, reading)[0]
    for paths in (catalogue.train, catalogue.others):
        tables = list(_candidates(paths, source, reading, remarks, unclear))
        found = [table for table in tables if source.resolver.share(table.ids[:SAMPLED])]
        lost += [table for table in tables if table not in found]
        best = max(map(telling, found), default=0)
        # What names itself so comes before a table that is unclear; nothing else does.
        if unclear and (not found or best <= max(telling(each) for each in unclear)):
            raise unclear[0]
        if not found:
            continue
        one_each = _one_a_folder(found, source)
        chosen = one_each or [chosen_table(found, source.root, wanted)]
        given = list(_candidates(catalogue.validation, source, reading, remarks, unclear))
        others = [table.path for table in found if table not in chosen]
        others += [each.path for each in unclear if each.path]
        remarks += [f"{_below(path, source)}: has labels too, not used" for path in others]
        return _dataset(source, [*chosen, *map(_for_validation, given[:1])], remarks)
    if lost:
        return _dataset(source, lost[:1], remarks)  # Which says that its photos are not here.
    if reading.label_column or reading.id_column or reading.group_column:
        raise DataError(
            f"{source.root}: columns were named, but no table of labels was found. Name it with "
            "`labels=FILE`.",
            path=source.root,
        )
    return None


def _for_validation(table: LabelTable) -> LabelTable:
    part: Role = "validation"
    return replace(table, parts=(part,) * len(table.ids))


def _candidates(
    paths: Iterable[Path],
    source: Source,
    reading: Reading,
    remarks: list[str],
    unclear: list[AmbiguousColumnError],
) -> Iterator[LabelTable]:
    """Return the tables that have ids and labels; what the others lack becomes a remark."""
    for path in paths:
        # Text beside photos is often something else, whatever its name says.
        is_text = path.suffix.lower() == TEXT_SUFFIXES[-1]
        is_named_so = path in source.catalogue.train and not is_text
        try:
            table = read_table(path)
        except ToolkitError as error:
            if is_named_so and path.suffix.lower() != ".parquet":
                raise
            remarks.append(str(error))
            continue
        if is_list_beside_folders(table, source):
            remarks.append(f"{path.name}: a list without labels, not used")
            continue
        frame, share = table.frame, source.resolver.share
        # With photos in no folder of a class, a table must be what has their labels.
        must = is_named_so or (is_telling(path) and not source.has_class_folders)
        if not must and not any(share(list(frame[c][:SAMPLED])) for c in frame.columns):
            continue  # What it is about is not here: names of classes, for one.
        try:
            yield label_table(table, reading, share, *_wanted(source, reading))
        except NoLabelsError as error:
            for name in table.columns:
                rest = [list(frame[other]) for other in table.columns if other != name]
                _refuse_folder_names(path, name, list(frame[name]), rest, source)
            remarks.append(str(error))
        except AmbiguousColumnError as error:
            unclear.append(error)
        except ToolkitError as error:
            if not is_text or not source.has_class_folders:
                raise
            remarks.append(str(error))


def _refuse_folder_names(
    path: Path, column: str, values: Sequence[str], others: Sequence[Sequence[str]], source: Source
) -> None:
    """Refuse a table that gives a label to each folder of photos, whose names are no classes.

    Raises:
        ToolkitError: It is such a table.
    """
    folders = {each.name for top in source.folders for each in class_folders(top)}
    # Of classes each folder would have a label of its own.
    is_shared = any(1 < len(set(other)) < len(values) for other in others)
    if is_shared and len(folders & set(values)) > MOSTLY * len(folders):
        raise DataError(
            f"{path}: the column '{column}' names folders of photos, such as '{values[0]}', not "
            "photos. Write a row for each photo, with its path, such as "
            f"'{values[0]}/1.jpg', beside the label; a column with the folder's name keeps its "
            "photos together where `group_column=NAME` names it.",
            path=path,
        )


def _below(path: Path, source: Source) -> str:
    root = source.here.tree.path
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def is_list_beside_folders(table: Table, source: Source) -> bool:
    """Return whether a table is a mere list of photos whose folders say their classes."""
    return len(table.columns) == 1 and source.has_class_folders


def _read(path: Path, source: Source, reading: Reading) -> LabelTable:
    return label_table(read_table(path), reading, source.resolver.share, *_wanted(source, reading))


def _wanted(source: Source, reading: Reading) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns that the sample submission has beside its ids, and what is in them.

    The latter only where there is a single one.
    """
    samples = (reading.sample,) if reading.sample else source.catalogue.samples
    if len(samples) != 1:
        return (), ()
    sample = read_table(samples[0])
    names = sample.columns[1:]
    return names, tuple(sample.frame[names[0]]) if len(names) == 1 else ()


def _one_a_folder(found: Sequence[LabelTable], source: Source) -> list[LabelTable]:
    """Return tables that belong together: each beside its own photos, with the same columns.

    The German traffic signs have one in the folder of each class, for example.

    Returns:
        All of them; none where they are something else.
    """
    folders = {table.path.parent for table in found}
    is_same = len({table.columns for table in found}) == 1
    is_usual = all(normalised(table.label_columns[0]) in LABEL_NAMES for table in found)
    belong = len(folders) == len(found) > 1 and is_same and is_usual
    if not belong or agree(found):
        return []
    are_beside = all(_placed(table, source) is not table for table in found)
    return list(found) if are_beside else []


def _dataset(source: Source, tables: Sequence[LabelTable], remarks: Sequence[str]) -> Dataset:
    tables = [_placed(table, source) for table in tables] if len(tables) > 1 else tables
    ids = [id for table in tables for id in table.ids]
    labels = [label for table in tables for label in table.labels]
    groups = [group for table in tables for group in table.groups or [""] * len(table.ids)]
    parts = [part for table in tables for part in table.parts or ("",) * len(table.ids)]
    twice = [id for id, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(
            f"{tables[1].path}: {counted(len(twice), 'id')} stand in {tables[0].path.name} too:\n"
            f"{listing(map(repr, twice))}",
            path=tables[1].path,
        )
    resolution = source.resolver.resolve(ids, labels)
    names = " and ".join(str(table.path) for table in tables)
    if resolution.missing == len(ids):
        _refuse_folder_names(tables[0].path, tables[0].id_column, ids, [labels], source)
        raise DataError(
            f"{names}: names {counted(len(ids), 'photo')}, such as '{ids[0]}', and none of them is "
            f"in {source.tree.path} ({contents(source.tree)}). Name their folder with "
            "`photos=DIR`, or their column with `id_column=A`; to take labels from folders, move "
            f"the table away.{unread_formats(source.tree, {})}",
        )
    classes = class_order(labels)
    number = {label: index for index, label in enumerate(classes)}
    held_out = _held_out(source, parts, resolution)
    photos = tuple(
        Photo(id, path or _expected(source, id, label), number[label], group, is_held_out)
        for id, label, path, group, is_held_out in zip(
            ids, labels, resolution.paths, groups, held_out, strict=True
        )
    )
    found = _found(source, tables, resolution, held_out, remarks)
    first = tables[0]
    label_column = first.label_columns[0] if len(first.label_columns) == 1 else ""
    columns = first.id_column, label_column
    return Dataset(source.root, classes, photos, dict(first.names), columns, found)


def _placed(table: LabelTable, source: Source) -> LabelTable:
    """Return a table of one part of the data with paths for ids: each part may have its 1.jpg."""
    folder = next((f for f in source.tree.walk() if f.path == table.path.parent), None)
    place = folder.place[len(source.tree.place) :].lstrip("/") if folder else ""
    ids = tuple(f"{place}/{id}" for id in table.ids)
    direct = (EXACT, SUFFIX, SPELLING)
    if not place or not any(source.resolver.candidates(id)[0] in direct for id in ids):
        return table
    return replace(table, ids=ids, for_test=tuple(f"{place}/{id}" for id in table.for_test))


def _expected(source: Source, id: str, label: str) -> Path:
    """Return where a user would look for a photo that is missing."""
    folder = source.folders[0]
    inside = folder.folders.get(label)
    parts = [part for part in re.split(r"[\\/]", id) if part not in ("", ".", "..")]
    return (inside or folder).path / "/".join(parts)


def _held_out(source: Source, parts: Sequence[str], resolution: Resolution) -> list[bool]:
    """Return which photos the data itself holds out: by a table, or by the folder they are in."""
    if "validation" in parts:
        return [part == "validation" for part in parts]
    if not (source.layout.train and source.layout.validation):
        return [False] * len(parts)
    folders = tuple(f"{folder.path}/" for folder in source.layout.validation)
    return [path is not None and str(path).startswith(folders) for path in resolution.paths]


def _found(
    source: Source,
    tables: Sequence[LabelTable],
    resolution: Resolution,
    held_out: Sequence[bool],
    remarks: Sequence[str],
) -> Found:
    several = len(tables) > 1
    shown = [
        f"{_below(table.path, source) if several else table.path.name} ({table.columns})"
        for table in tables[:_SHOWN]
    ]
    more = len(tables) - len(shown)
    labels = ", ".join(shown) + (f" and {counted(more, 'table')} more" if more else "")
    rows = [("labels", labels), ("photos", source.said), ("ids to files", resolution.described)]
    if any(held_out):
        rows.append(("validation", f"{sum(held_out):,} photos, as the data says"))
    groups = {group for table in tables for group in table.groups}
    if groups:
        rows.append(("groups", f"{len(groups):,}"))
    passed_over = [*remarks, *(remark for table in tables for remark in table.remarks)]
    warnings = [line for table in tables for line in table.warnings]
    count = len(resolution.paths)
    there = sum(folder.count for folder in source.folders)
    elsewhere = source.elsewhere(source.folders)
    if elsewhere:
        passed_over.append(elsewhere)
    for_test = {id for table in tables for id in table.for_test}
    known = (
        count - resolution.missing + sum(bool(source.resolver.candidates(i)[1]) for i in for_test)
    )
    unlabelled = there - known
    if unlabelled > 0:
        line = f"{unlabelled:,} of {there:,} photos in {source.said}: without a label"
        passed_over.append(line)
        # Where test photos lie among them, that is no sign of a mistake.
        if unlabelled > WARN_SHARE * there and source.layout.train:
            warnings.append(line)
    passed_over += source.left
    contradictions = _contradictions(tables, resolution)
    if contradictions:
        warnings.append(
            f"{len(contradictions):,} photos lie in the folder of another class than the table "
            f"says, and the table is followed: {contradictions[0]}"
        )
    return Found(tuple(rows), tuple(passed_over), tuple(warnings))


def _contradictions(tables: Sequence[LabelTable], resolution: Resolution) -> list[str]:
    """Return the photos that lie in the folder of another class."""
    labels = [label for table in tables for label in table.labels]
    classes = set(labels)
    folders = {path.parent.name for path in resolution.paths if path is not None}
    if CLASS_FOLDER not in resolution.rules and not folders <= classes:
        return []  # The folders are no classes.
    return [
        f"{path} ('{label}')"
        for path, label in zip(resolution.paths, labels, strict=True)
        if path is not None and path.parent.name != label and path.parent.name in classes
    ]
