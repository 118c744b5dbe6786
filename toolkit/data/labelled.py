"""The labelled photos of a data folder: from a table of labels, or from a folder a class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from toolkit.data.class_folders import dataset_of_folders
from toolkit.data.classnames import LARGEST_BYTES, names_of_classes
from toolkit.data.columns import MOSTLY, SAMPLED
from toolkit.data.dataset import Dataset, Photo
from toolkit.data.labels import read_labels
from toolkit.data.photo_tables import dataset_of_tables
from toolkit.data.reading import AUTO, Found, Reading
from toolkit.data.resolver import Resolver
from toolkit.data.source import Source
from toolkit.data.tables import Table, read_table
from toolkit.data.targets import doubtful_classes
from toolkit.data.tree import check_folder, scan
from toolkit.data.unpacking import Unpacked, unpacked
from toolkit.errors import DataError, ToolkitError
from toolkit.progress import SILENT, Reporter


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
    source = Source.of(root, here, reading)
    dataset = dataset_of_tables(source, reading) or dataset_of_folders(source)
    doubts = Found(warnings=tuple(doubtful_classes(dataset.classes)))
    dataset = replace(dataset, found=dataset.found.joined(doubts))
    return dataset if dataset.names else _with_names(dataset, source)


def columns_of_labels(root: Path, here: Unpacked, reading: Reading) -> tuple[str, str] | None:
    """Return what the table of labels calls its ids and its labels.

    Args:
        root: The data folder.
        here: Its files.
        reading: What cannot be found by itself.

    Returns:
        As `Dataset.columns`; None too where no table can be read.
    """
    try:
        dataset = dataset_of_tables(Source.of(root, here, reading), reading)
    except ToolkitError:
        return None  # An error where its labels are needed.
    return dataset.columns if dataset else None


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
        raise DataError(f"{photos}: no such folder (the photos of the labels).", path=photos)
    known = {category: index for index, category in enumerate(classes)}
    unknown = sorted(set(labels.values()) - set(known))
    if unknown:
        raise DataError(
            f"{csv}: unknown category '{unknown[0]}'. Expected one of: {', '.join(classes)}.",
            path=csv,
        )
    resolution = Resolver(scan(photos)).resolve(list(labels), list(labels.values()))
    entries = tuple(
        Photo(id, path or photos / id, known[category])
        for (id, category), path in zip(labels.items(), resolution.paths, strict=True)
    )
    return Dataset(photos, classes, entries)


def _with_names(dataset: Dataset, source: Source) -> Dataset:
    """Add readable names of classes where a file beside the labels has them."""
    catalogue = source.catalogue
    small = [path for path in catalogue.others if path.stat().st_size < LARGEST_BYTES]
    tables = [table for table in _readable(small) if not _is_of_photos(table, source)]
    names, path = names_of_classes(dataset.classes, tables, catalogue.json)
    if path is None:
        return dataset
    found = dataset.found
    rows = (*found.rows, ("class names", path.name))
    return replace(dataset, names=names, found=replace(found, rows=rows))


def _is_of_photos(table: Table, source: Source) -> bool:
    columns = (list(table.frame[name][:SAMPLED]) for name in table.columns)
    return any(source.resolver.share(values) > MOSTLY for values in columns)


def _readable(paths: Iterable[Path]) -> Iterator[Table]:
    for path in paths:
        try:
            yield read_table(path)
        except ToolkitError:
            continue  # It names nothing; where its labels are wanted, this was reported.
