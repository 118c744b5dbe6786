"""Labelled photos in a folder for each class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from toolkit.data.dataset import Dataset, Photo, class_order
from toolkit.data.labels import label_table
from toolkit.data.layout import class_folders, role_of, unwrapped
from toolkit.data.other_formats import unread_formats
from toolkit.data.reading import AUTO, WARN_SHARE, Found
from toolkit.data.source import Source
from toolkit.data.tables import read_table
from toolkit.data.tree import Folder, contents
from toolkit.errors import DataError
from toolkit.progress import counted


def dataset_of_folders(source: Source) -> Dataset:
    """Return the photos in folders of classes, with all below each.

    Args:
        source: The data folder.

    Raises:
        ToolkitError: There are no such folders.
    """
    parents, validation = _parents(source)
    by_class: dict[str, list[tuple[str, Path, bool]]] = {}
    stray = 0
    for parent in (*parents, *validation):
        # With several parts, a name may stand in each of them.
        before = f"{parent.name}/" if len(parents) + len(validation) > 1 else ""
        stray += len(parent.photos)
        for folder in class_folders(parent):
            photos = by_class.setdefault(folder.name, [])
            for place, path in folder.all_photos(f"{before}{folder.name}/"):
                photos.append((place, path, parent in validation))
    if not by_class:
        _refuse_unlabelled(source, parents)
    classes = class_order(by_class)
    entries = tuple(
        Photo(id, path, label, held_out=held_out)
        for label, category in enumerate(classes)
        for id, path, held_out in sorted(by_class[category])
    )
    return Dataset(
        source.root,
        classes,
        entries,
        found=_found_in_folders(source, entries, parents, validation, stray),
    )


def _parents(source: Source) -> tuple[list[Folder], list[Folder]]:
    """Return the folders that hold a folder a class: for training, and for validation."""
    layout = source.layout
    train = [unwrapped(folder) for folder in layout.train]
    validation = [unwrapped(folder) for folder in layout.validation]
    siblings = class_folders(layout.outside_test)
    is_class = train and not any(class_folders(folder) for folder in train)
    if is_class and len(siblings) > len(train) + len(validation):
        # 'train' is a class among others, as of vehicles.
        return [layout.outside_test], []
    if not train:
        return [unwrapped(layout.outside_test)], []
    return train, [folder for folder in validation if class_folders(folder)]


def _found_in_folders(
    source: Source,
    photos: Sequence[Photo],
    parents: Sequence[Folder],
    validation: Sequence[Folder],
    stray: int,
) -> Found:
    where = ", ".join(f"{parent.place or parent.path}/" for parent in parents)
    deeper = sum(
        len(folder.photos)
        for parent in parents
        for each in class_folders(parent)
        for folder in each.walk()
        if folder is not each
    )
    below = f", {deeper:,} of them in folders below" if deeper else ""
    rows = [
        ("labels", f"a folder a class in {where}"),
        ("photos", f"{len(photos):,} in folders of classes{below}"),
    ]
    held_out = sum(photo.held_out for photo in photos)
    if held_out:
        rows.append(("validation", f"{held_out:,} photos, as the data says"))
    catalogue = source.catalogue
    passed_over = [f"{path.name}: has no labels of photos here" for path in catalogue.train]
    warnings = list(passed_over)
    if stray:
        line = f"{stray:,} photos directly in {where}, which are in no folder of a class"
        passed_over.append(line)
        if stray > WARN_SHARE * (stray + len(photos)):
            warnings.append(line)
    parts = Counter(
        name
        for parent in parents
        for each in class_folders(parent)
        for name in each.folders
        if role_of(name) not in ("", "train")
    )
    if parts:
        name, count = parts.most_common(1)[0]
        warnings.append(
            f"{counted(count, 'folder')} '{name}' below those of classes: their photos are trained "
            f"on too. Move them to {name}/<class>/ to keep them apart"
        )
    elsewhere = source.elsewhere([*parents, *validation])
    if elsewhere:
        passed_over.append(elsewhere)
        warnings.append(f"{elsewhere}: not used")
    passed_over += [*_other_files(parents), *source.left]
    return Found(tuple(rows), tuple(passed_over), tuple(warnings))


def _other_files(parents: Sequence[Folder]) -> list[str]:
    return [
        f"{folder.path / name}: no photo by its suffix"
        for parent in parents
        for each in class_folders(parent)
        for folder in each.walk()
        for name in folder.others
    ]


def _refuse_unlabelled(source: Source, parents: Sequence[Folder]) -> None:
    """Say why there are no labels.

    Raises:
        ToolkitError: Always.
    """
    expected = (
        "Expected a table of ids and labels, which `labels=FILE` names, or a folder of photos for "
        "each class."
    )
    names = [name for parent in parents for name in parent.photos]
    words = Counter(re.split(r"[^A-Za-z]", name)[0].lower() for name in names)
    if len(names) >= 4 and "" not in words and 1 < len(words) <= len(names) / 2:
        shown = ", ".join(f"'{word}' ({count:,})" for word, count in words.most_common(4))
        raise DataError(
            f"{source.root}: no labelled photos, but names of files seem to carry the class: "
            f"{shown}. Labels are not taken from names: write a table with a line such as "
            f"'{names[0]},{next(iter(words))}' for each photo below the header 'id,label', save it "
            f"as {source.root / 'train.csv'}, and run this again.",
            path=source.root,
        )
    unread = unread_formats(source.here.tree, dict(_unread_tables(source)))
    raise DataError(
        f"{source.root}: no labelled photos ({contents(source.here.tree)}). {expected}{unread}",
        path=source.root,
    )


def _unread_tables(source: Source) -> Iterator[tuple[str, str]]:
    """Return name and reason of tables that give no labels."""
    for path in (*source.catalogue.train, *source.catalogue.others):
        try:
            table = read_table(path)
            if sum("pixel" in name.lower() for name in table.columns) in (0, len(table.columns)):
                label_table(table, AUTO, source.resolver.share)
                continue
            said = "holds the pixels of photos; save them as files, and their labels as a CSV"
        except DataError as error:
            said = str(error).partition(": ")[2].rstrip(".")
        yield path.name, said
