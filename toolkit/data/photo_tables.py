"""Labelled photos that a table names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from toolkit.data.catalogue import is_telling
from toolkit.data.columns import SAMPLED
from toolkit.data.dataset import Dataset, Photo, class_order
from toolkit.data.labels import LabelTable, NoLabelsError, label_table
from toolkit.data.layout import Role
from toolkit.data.reading import WARN_SHARE, Found, Reading
from toolkit.data.resolver import CLASS_FOLDER, Resolution
from toolkit.data.source import Source
from toolkit.data.tables import Table, read_table
from toolkit.data.tree import contents
from toolkit.errors import DataError, ToolkitError, listing
from toolkit.progress import counted


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
    for paths in (catalogue.train, catalogue.others):
        tables = list(_candidates(paths, source, reading, remarks))
        found = [table for table in tables if source.resolver.share(table.ids[:SAMPLED])]
        lost += [table for table in tables if table not in found]
        if not found:
            continue
        chosen = _chosen(found, source)
        given = list(_candidates(catalogue.validation, source, reading, remarks))
        remarks += [f"{t.path.name}: has labels too, not used" for t in found if t is not chosen]
        return _dataset(source, [chosen, *map(_for_validation, given[:1])], remarks)
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
    paths: Iterable[Path], source: Source, reading: Reading, remarks: list[str]
) -> Iterator[LabelTable]:
    """Return the tables that have ids and labels; what the others lack becomes a remark."""
    for path in paths:
        is_named_so = path in source.catalogue.train
        try:
            table = read_table(path)
        except ToolkitError as error:
            if is_named_so:
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
            yield label_table(table, reading, share, _wanted(source, reading))
        except NoLabelsError as error:
            remarks.append(str(error))


def is_list_beside_folders(table: Table, source: Source) -> bool:
    """Return whether a table is a mere list of photos whose folders say their classes."""
    return len(table.columns) == 1 and source.has_class_folders


def _read(path: Path, source: Source, reading: Reading) -> LabelTable:
    return label_table(read_table(path), reading, source.resolver.share, _wanted(source, reading))


def _wanted(source: Source, reading: Reading) -> tuple[str, ...]:
    """Return the columns that the sample submission has beside its ids."""
    samples = (reading.sample,) if reading.sample else source.catalogue.samples
    return read_table(samples[0]).columns[1:] if len(samples) == 1 else ()


def _chosen(found: Sequence[LabelTable], source: Source) -> LabelTable:
    """Return the table to take; of several that say the same, the largest.

    Raises:
        ToolkitError: They say different things.
    """
    ranked = sorted(found, key=lambda table: (-len(table.ids), len(table.path.name)))
    largest = dict(zip(ranked[0].ids, ranked[0].labels, strict=True))
    for other in ranked[1:]:
        pairs = zip(other.ids, other.labels, strict=True)
        if any(largest.get(id) != label for id, label in pairs):
            readings = [
                f"{table.path}: {table.columns}, {len(table.ids):,} photos, "
                f"{len(set(table.labels)):,} classes"
                for table in found
            ]
            raise DataError(
                f"{source.root}: {len(found)} tables have labels of photos here, and they differ. "
                "Name the right one with `labels=FILE`, its columns with `id_column=A` and "
                f"`label_column=B`, and the photos with `photos=DIR`:\n{listing(readings)}",
                path=source.root,
            )
    return ranked[0]


def _dataset(source: Source, tables: Sequence[LabelTable], remarks: Sequence[str]) -> Dataset:
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
        raise DataError(
            f"{names}: names {counted(len(ids), 'photo')}, such as '{ids[0]}', and none of them is "
            f"in {source.tree.path} ({contents(source.tree)}). Name their folder with "
            "`photos=DIR`, or their column with `id_column=A`; to take labels from folders, move "
            "the table away.",
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
    return Dataset(source.root, classes, photos, dict(tables[0].names), found)


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
    labels = ", ".join(f"{table.path.name} ({table.columns})" for table in tables)
    rows = [("labels", labels), ("photos", source.said), ("ids to files", resolution.described)]
    if any(held_out):
        rows.append(("validation", f"{sum(held_out):,} photos, as the data says"))
    groups = {group for table in tables for group in table.groups}
    if groups:
        rows.append(("groups", f"{len(groups):,}"))
    passed_over = [*remarks, *(remark for table in tables for remark in table.remarks)]
    warnings = []
    count = len(resolution.paths)
    there = sum(folder.count for folder in source.folders)
    elsewhere = source.elsewhere(source.folders)
    if elsewhere:
        passed_over.append(elsewhere)
    unlabelled = there - (count - resolution.missing)
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
    if CLASS_FOLDER not in resolution.rules:
        return []
    labels = [label for table in tables for label in table.labels]
    classes = set(labels)
    return [
        f"{path} ('{label}')"
        for path, label in zip(resolution.paths, labels, strict=True)
        if path is not None and path.parent.name != label and path.parent.name in classes
    ]
