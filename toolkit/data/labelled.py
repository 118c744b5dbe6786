"""The labelled photos of a data folder: from a table of labels, or from a folder a class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.data.catalogue import Catalogue
from toolkit.data.classnames import LARGEST_BYTES, names_of_classes
from toolkit.data.columns import SAMPLED
from toolkit.data.dataset import Dataset, Photo, class_order
from toolkit.data.labels import LabelTable, NoLabelsError, label_table, read_labels
from toolkit.data.layout import Layout, Role, class_folders, find_layout, unwrapped
from toolkit.data.reading import AUTO, WARN_SHARE, Found, Reading
from toolkit.data.resolver import Resolution, Resolver
from toolkit.data.tables import Table, read_table
from toolkit.data.tree import Folder, check_folder, contents, scan
from toolkit.data.unpacking import Unpacked, unpacked
from toolkit.errors import ToolkitError, listing
from toolkit.progress import SILENT, Reporter, counted


def load_labelled(root: Path, reading: Reading = AUTO, reporter: Reporter = SILENT) -> Dataset:
    """Read the labelled photos of a data folder.

    Either a table names them with their labels, or each class has a folder, below a folder of
    training photos or the root itself. Archives are extracted first.

    Args:
        root: The data folder.
        reading: What cannot be found by itself.
        reporter: Where progress is told.

    Returns:
        The index. No photo is opened.

    Raises:
        ToolkitError: The folder or a table is not as expected, or can be read in several ways.
    """
    check_folder(root)
    reading = reading.below(root)
    here = unpacked(root, reporter)
    source = _Source.of(root, here, reading)
    dataset = _from_tables(source, reading) or _from_class_folders(source, reading)
    return _with_names(dataset, source)


def load_labels(csv: Path, photos: Path, classes: tuple[str, ...]) -> Dataset:
    """Read labelled photos from a table of ids and labels and a folder.

    Args:
        csv: With a column of ids and one of labels.
        photos: The folder its ids are found in, at any depth.
        classes: The class order to use.

    Returns:
        The index.

    Raises:
        ToolkitError: The table is not as expected, or has a class that is not among `classes`.
    """
    labels = read_labels(csv)
    if not photos.is_dir():
        raise ToolkitError(f"{photos}: no such folder (the photos of the labels).")
    known = {category: index for index, category in enumerate(classes)}
    unknown = sorted(set(labels.values()) - set(known))
    if unknown:
        raise ToolkitError(
            f"{csv}: unknown category '{unknown[0]}'. Expected one of: {', '.join(classes)}."
        )
    resolution = Resolver(scan(photos)).resolve(list(labels), list(labels.values()))
    entries = tuple(
        Photo(id, path or photos / id, known[category])
        for (id, category), path in zip(labels.items(), resolution.paths, strict=True)
    )
    return Dataset(photos, classes, entries)


@dataclass(frozen=True)
class _Source:
    """A data folder on its way to be read.

    Attributes:
        root: The data folder.
        here: Its files.
        layout: Where its parts are.
        tree: Where labelled photos may be.
        folders: Where they are looked for first.
        resolver: How ids lead to them.
        catalogue: The tables.
    """

    root: Path
    here: Unpacked
    layout: Layout
    tree: Folder
    folders: tuple[Folder, ...]
    resolver: Resolver
    catalogue: Catalogue

    @classmethod
    def of(cls, root: Path, here: Unpacked, reading: Reading) -> _Source:
        catalogue, layout = Catalogue.of(here), find_layout(here.tree)
        if reading.photos is not None:
            check_folder(reading.photos)
            tree = scan(reading.photos)
            layout = Layout(tree)
            return cls(root, here, layout, tree, (tree,), Resolver(tree), catalogue)
        tree = here.tree.without(*layout.test)
        parts = (*layout.train, *layout.validation)
        folders = tuple(unwrapped(folder) for folder in parts) or (unwrapped(layout.outside_test),)
        resolver = Resolver(tree, folders, layout.test)
        return cls(root, here, layout, tree, folders, resolver, catalogue)

    @property
    def said(self) -> str:
        """The folders of photos, in words."""
        return ", ".join(f"{folder.place or folder.path}/" for folder in self.folders)


def _from_tables(source: _Source, reading: Reading) -> Dataset | None:
    """Return the photos that a table names; None where none does."""
    if reading.labels is not None:
        return _dataset(source, [_read(reading.labels, source, reading)], ())
    catalogue = source.catalogue
    remarks: list[str] = []
    lost: list[LabelTable] = []
    for paths in (catalogue.train, catalogue.others):
        tables = list(_candidates(paths, source, reading, remarks))
        found = [table for table in tables if source.resolver.share(table.ids[:SAMPLED])]
        lost += [table for table in tables if table not in found and table.path in catalogue.train]
        if not found:
            continue
        chosen = _chosen(found, source)
        given = list(_candidates(catalogue.validation, source, reading, remarks))
        remarks += [f"{t.path.name}: has labels too, not used" for t in found if t is not chosen]
        return _dataset(source, [chosen, *map(_for_validation, given[:1])], remarks)
    if lost:
        return _dataset(source, lost[:1], remarks)  # Which says that its photos are not here.
    if reading.label_column or reading.id_column or reading.group_column:
        raise ToolkitError(
            f"{source.root}: columns were named, but no table of labels was found. Name it with "
            "labels=FILE."
        )
    return None


def _for_validation(table: LabelTable) -> LabelTable:
    part: Role = "validation"
    return replace(table, parts=(part,) * len(table.ids))


def _candidates(
    paths: Iterable[Path], source: _Source, reading: Reading, remarks: list[str]
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
        frame, share = table.frame, source.resolver.share
        if not is_named_so and not any(share(list(frame[c][:SAMPLED])) for c in frame.columns):
            continue  # What it is about is not here: names of classes, for one.
        try:
            yield label_table(table, reading, share, _wanted(source))
        except NoLabelsError as error:
            remarks.append(str(error))


def _read(path: Path, source: _Source, reading: Reading) -> LabelTable:
    return label_table(read_table(path), reading, source.resolver.share, _wanted(source))


def _wanted(source: _Source) -> tuple[str, ...]:
    """Return the columns that the sample submission has beside its ids."""
    samples = source.catalogue.samples
    return read_table(samples[0]).columns[1:] if len(samples) == 1 else ()


def _chosen(found: Sequence[LabelTable], source: _Source) -> LabelTable:
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
            raise ToolkitError(
                f"{source.root}: {len(found)} tables have labels of photos here, and they differ. "
                "Name the right one with labels=FILE, its columns with id_column=A and "
                f"label_column=B, and the photos with photos=DIR:\n{listing(readings)}"
            )
    return ranked[0]


def _dataset(source: _Source, tables: Sequence[LabelTable], remarks: Sequence[str]) -> Dataset:
    ids = [id for table in tables for id in table.ids]
    labels = [label for table in tables for label in table.labels]
    groups = [group for table in tables for group in table.groups or [""] * len(table.ids)]
    parts = [part for table in tables for part in table.parts or ("",) * len(table.ids)]
    twice = [id for id, count in Counter(ids).items() if count > 1]
    if twice:
        raise ToolkitError(
            f"{tables[1].path}: {counted(len(twice), 'id')} stand in {tables[0].path.name} too:\n"
            f"{listing(map(repr, twice))}"
        )
    resolution = source.resolver.resolve(ids, labels)
    names = " and ".join(str(table.path) for table in tables)
    if resolution.missing == len(ids):
        raise ToolkitError(
            f"{names}: names {counted(len(ids), 'photo')}, such as '{ids[0]}', and none of them is "
            f"in {source.tree.path} ({contents(source.tree)}). Name their folder with photos=DIR, "
            "or their column with id_column=A; to take labels from folders, move the table away."
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


def _expected(source: _Source, id: str, label: str) -> Path:
    """Return where a user would look for a photo that is missing."""
    folder = source.folders[0]
    inside = folder.folders.get(label)
    parts = [part for part in re.split(r"[\\/]", id) if part not in ("", ".", "..")]
    return (inside or folder).path / "/".join(parts)


def _held_out(source: _Source, parts: Sequence[str], resolution: Resolution) -> list[bool]:
    """Return which photos the data itself holds out: by a table, or by the folder they are in."""
    if "validation" in parts:
        return [part == "validation" for part in parts]
    if not (source.layout.train and source.layout.validation):
        return [False] * len(parts)
    folders = tuple(f"{folder.path}/" for folder in source.layout.validation)
    return [path is not None and str(path).startswith(folders) for path in resolution.paths]


def _found(
    source: _Source,
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
    if resolution.missing > WARN_SHARE * count:
        warnings.append(f"{resolution.missing:,} of {count:,} labelled photos are not there")
    there = sum(folder.count for folder in source.folders)
    unlabelled = there - (count - resolution.missing)
    if unlabelled > 0:
        line = f"{unlabelled:,} of {there:,} photos in {source.said}: without a label"
        passed_over.append(line)
        # Where test photos lie among them, that is no sign of a mistake.
        if unlabelled > WARN_SHARE * there and source.layout.train:
            warnings.append(line)
    passed_over += _left_archives(source)
    return Found(tuple(rows), tuple(passed_over), tuple(warnings))


def _left_archives(source: _Source) -> list[str]:
    return [f"{path.name}: not extracted" for path in source.here.left]


def _from_class_folders(source: _Source, reading: Reading) -> Dataset:
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
        source.root, classes, entries, found=_found_in_folders(source, entries, parents, stray)
    )


def _parents(source: _Source) -> tuple[list[Folder], list[Folder]]:
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
    source: _Source, photos: Sequence[Photo], parents: Sequence[Folder], stray: int
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
    passed_over += [*_other_files(parents), *_left_archives(source)]
    return Found(tuple(rows), tuple(passed_over), tuple(warnings))


def _other_files(parents: Sequence[Folder]) -> list[str]:
    return [
        f"{folder.path / name}: no photo by its suffix"
        for parent in parents
        for each in class_folders(parent)
        for folder in each.walk()
        for name in folder.others
    ]


def _refuse_unlabelled(source: _Source, parents: Sequence[Folder]) -> None:
    """Say why there are no labels.

    Raises:
        ToolkitError: Always.
    """
    expected = (
        "Expected a table of ids and labels, which labels=FILE names, or a folder of photos for "
        "each class."
    )
    names = [name for parent in parents for name in parent.photos]
    words = Counter(re.split(r"[^A-Za-z]", name)[0].lower() for name in names)
    if len(names) >= 4 and "" not in words and 1 < len(words) <= len(names) / 2:
        shown = ", ".join(f"'{word}' ({count:,})" for word, count in words.most_common(4))
        raise ToolkitError(
            f"{source.root}: no labelled photos, but names of files seem to carry the class: "
            f"{shown}. Labels are not taken from names: write a table with a line such as "
            f"'{names[0]},{next(iter(words))}' for each photo below the header 'id,label', save it "
            f"as {source.root / 'train.csv'}, and run this again."
        )
    raise ToolkitError(
        f"{source.root}: no labelled photos ({contents(source.here.tree)}). {expected}"
    )


def _with_names(dataset: Dataset, source: _Source) -> Dataset:
    """Add readable names of classes where a file beside the labels has them."""
    catalogue = source.catalogue
    paths = [*catalogue.others, *catalogue.train]
    small = [path for path in paths if path.stat().st_size < LARGEST_BYTES]
    tables = list(_readable(small))
    names, path = names_of_classes(dataset.classes, tables, catalogue.json)
    if path is None:
        return dataset
    found = dataset.found
    rows = (*found.rows, ("class names", path.name))
    return replace(dataset, names=names, found=replace(found, rows=rows))


def _readable(paths: Iterable[Path]) -> Iterator[Table]:
    for path in paths:
        try:
            yield read_table(path)
        except ToolkitError:
            continue  # It names nothing; where its labels are wanted, this was reported.
