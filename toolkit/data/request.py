"""Which photos are to be predicted, and how the answer names them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from toolkit.data.catalogue import Catalogue
from toolkit.data.columns import find_id_column
from toolkit.data.labelled import columns_of_labels, load_labelled
from toolkit.data.layout import Layout, find_layout, role_of, unwrapped
from toolkit.data.reading import AUTO, WARN_SHARE, Found, Reading
from toolkit.data.resolver import Resolution, Resolver
from toolkit.data.sample import Sample, read_sample
from toolkit.data.tables import read_table, stem
from toolkit.data.tree import Folder, check_folder, contents, scan
from toolkit.data.unpacking import unpacked
from toolkit.errors import DataError, ToolkitError, listing
from toolkit.progress import SILENT, Reporter

ID_COLUMN, LABEL_COLUMN = "Id", "Category"
"""The columns of an answer for which there is neither a sample nor a table of labels."""


class NothingToPredictError(DataError):
    """A data folder without any photos to predict."""


class NoPhotosError(DataError):
    """A table of photos to predict, none of which is here."""


@dataclass(frozen=True)
class Request:
    """Photos to predict, each once.

    Attributes:
        ids: As the answer shall name them.
        paths: Their files, which may be missing.
        columns: Names of the answer's id and label columns.
        sample: The sample submission, where there is one: its rows are those of the answer.
        found: How the photos were found.
    """

    ids: tuple[str, ...]
    paths: tuple[Path, ...]
    columns: tuple[str, str] = (ID_COLUMN, LABEL_COLUMN)
    sample: Sample | None = field(default=None, compare=False)
    found: Found = field(default=Found(), compare=False)


def load_request(root: Path, reading: Reading = AUTO, reporter: Reporter = SILENT) -> Request:
    """Read which photos are to be predicted.

    A sample submission of any usual name gives ids and order; else a table of test ids, such as
    `test.csv`; else all photos of a test folder, or of `root` itself, in natural order of their
    names. Archives are extracted first.

    Args:
        root: The data folder.
        reading: What cannot be found by itself.
        reporter: Where progress is told.

    Returns:
        Ids and paths. No photo is opened. Without a sample the answer has the columns of the table
        of labels.

    Raises:
        NothingToPredictError: There is no photo to predict.
        NoPhotosError: None of the photos that a table names is here.
        ToolkitError: A table is not as expected, or none of the photos that it names is here.
    """
    check_folder(root)
    reading = reading.below(root)
    here = unpacked(root, reporter)
    layout = find_layout(here.tree)
    place = _Place.of(layout, here.tree, reading.photos)
    catalogue = Catalogue.of(here)
    path = reading.sample or catalogue.sample()
    request = _of_sample(path, place, reading) if path else _of_list(catalogue, place, reading)
    if request is None:
        request = _of_photos(root, place, layout, reading)
    if request.sample is None:
        request = _as_labelled(request, columns_of_labels(root, here, reading.for_test))
    return replace(request, found=_with_passed_over(request, catalogue, layout, reading))


@dataclass(frozen=True)
class _Place:
    """Where the photos to predict are: folders, and how ids lead to their files."""

    tree: Folder
    folders: tuple[Folder, ...]
    resolver: Resolver

    @classmethod
    def of(cls, layout: Layout, tree: Folder, photos: Path | None) -> _Place:
        if photos is not None:
            check_folder(photos)
            tree = scan(photos)
            return cls(tree, (tree,), Resolver(tree))
        # What an id of a test photo does not mean, even where it fits.
        others = (*layout.train, *layout.validation)
        tree = tree.without(*others)
        folders = tuple(map(unwrapped, layout.test or (layout.top.without(*others),)))
        return cls(tree, folders, Resolver(tree, folders, others))

    @property
    def said(self) -> str:
        return ", ".join(f"{folder.place or folder.path}/" for folder in self.folders)


def _of_sample(path: Path, place: _Place, reading: Reading) -> Request:
    sample = read_sample(path, id_column=_column_of(path, reading), is_photo=place.resolver.share)
    ids = sample.photos
    resolution = _resolved(path, ids, place)
    others = [name for name in sample.columns if name != sample.id_column]
    columns = (sample.id_column, others[0] if others else LABEL_COLUMN)
    repeated = len(sample.ids) - len(ids)
    more = f", {repeated} rows repeat an id" if repeated else ""
    rows = (("sample", f"{path.name}: id '{sample.id_column}', {len(sample.ids):,} rows{more}"),)
    return _request(ids, resolution, place, rows, columns, sample)


def _column_of(path: Path, reading: Reading) -> str | None:
    # A sample may name its ids otherwise than the table of labels, of which a user speaks.
    named = reading.id_column
    return named if named and named in read_table(path).columns else None


def _of_list(catalogue: Catalogue, place: _Place, reading: Reading) -> Request | None:
    """Return the photos that a table of test ids names; None where there is no such table."""
    for path in catalogue.test if reading.photos is None else ():
        table = read_table(path)
        column = find_id_column(table, None, place.resolver.share)
        if column is None or not place.resolver.share(list(table.frame[column][:300])):
            continue
        ids = tuple(dict.fromkeys(table.frame[column]))
        rows = (("test ids", f"{path.name}: id '{column}', {len(ids):,} photos"),)
        resolution = _resolved(path, ids, place)
        return _request(ids, resolution, place, rows, (column, ""))
    return None


def _resolved(path: Path, ids: Sequence[str], place: _Place) -> Resolution:
    resolution = place.resolver.resolve(ids)
    if resolution.missing == len(ids):
        raise NoPhotosError(
            f"{path}: names {len(ids):,} photos, such as '{ids[0]}', and none of them is in "
            f"{place.tree.path} ({contents(place.tree)}). Name their folder with `photos=DIR`; to "
            "predict all photos of a folder, name it as `data=DIR`.",
            path=path,
        )
    return resolution


def _request(
    ids: tuple[str, ...],
    resolution: Resolution,
    place: _Place,
    rows: tuple[tuple[str, str], ...],
    columns: tuple[str, str],
    sample: Sample | None = None,
) -> Request:
    expected = place.folders[0].path
    paths = tuple(
        expected / "/".join(p for p in re.split(r"[\\/]", id) if p not in ("", ".", ".."))
        if path is None
        else path
        for id, path in zip(ids, resolution.paths, strict=True)
    )
    rows = (*rows, ("test photos", f"{place.said} ({resolution.described})"))
    return Request(ids, paths, columns, sample, Found(rows))


def _of_photos(root: Path, place: _Place, layout: Layout, reading: Reading) -> Request:
    """Return all photos of the test folder, or those without a label of a folder of photos."""
    folder = unwrapped(_folder_to_predict(root, place, layout, reading))
    where = f"{folder.place or folder.path}/"
    if layout.test or reading.photos is not None:
        found = list(folder.all_photos())
        said, deeper = f"all {len(found):,}, no sample submission", 0
    else:
        here = [(name, folder.path / name) for name in folder.photos]
        labelled = _labelled(root, reading)
        found = [(name, path) for name, path in here if path not in labelled]
        said = f"all {len(found):,}"
        if len(found) < len(here):
            said = f"the {len(found):,} without a label"
        deeper = 0 if labelled else folder.count - len(found)
    if not found:
        raise NothingToPredictError(
            f"{root}: no photos to predict ({contents(layout.top)}). Expected a sample submission, "
            "a folder test, or photos without a label; name their folder with `photos=DIR`.",
            path=root,
        )
    found.sort(key=lambda pair: (_natural(pair[0]), pair[0]))
    passed_over: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    if deeper:
        passed_over = (f"{deeper:,} photos in folders below {where}",)
    if deeper > WARN_SHARE * folder.count:
        warnings = (
            f"{passed_over[0]} are not predicted: a folder that is named for its photos is read "
            "with all below it",
        )
    ids, paths = zip(*found, strict=True)
    rows = (("test photos", f"{where} ({said})"),)
    return Request(ids, paths, ("", ""), found=Found(rows, passed_over, warnings))


def _as_labelled(request: Request, columns: tuple[str, str] | None) -> Request:
    """Return a request whose answer has the columns of the table of labels, where there is one."""
    by_table = columns or ("", "")
    id_column = request.columns[0] or by_table[0] or ID_COLUMN
    label_column = by_table[1] or LABEL_COLUMN
    if label_column == id_column:
        label_column = LABEL_COLUMN
    row = ("answer", f"columns '{id_column}' and '{label_column}'")
    found = replace(request.found, rows=(*request.found.rows, row))
    return replace(request, columns=(id_column, label_column), found=found)


def _labelled(root: Path, reading: Reading) -> set[Path]:
    """Return the photos that a table or a folder of a class has labels for; none without such."""
    try:
        return {photo.path for photo in load_labelled(root, reading).photos}
    except ToolkitError:
        return set()  # A folder of photos alone is no mistake here.


def _folder_to_predict(root: Path, place: _Place, layout: Layout, reading: Reading) -> Folder:
    if reading.photos is not None or not layout.test:
        return place.folders[0]
    first = layout.test[0]
    alike = [each for each in layout.test if _likelihood(each) == _likelihood(first)]
    if len(alike) > 1:
        raise DataError(
            f"{root}: {len(alike)} folders look like the photos to predict. Name the right one "
            f"with `photos=DIR`:\n{listing(f'{each.place}/ ({each.count:,})' for each in alike)}",
            path=root,
        )
    return first


def _likelihood(folder: Folder) -> tuple[bool, bool]:
    return role_of(folder.name) == "predict", "upload" in folder.name.lower()


def _with_passed_over(
    request: Request, catalogue: Catalogue, layout: Layout, reading: Reading
) -> Found:
    """Return what was found, with what looks like a part of it and is none."""
    used = stem(request.sample.path) if request.sample else None
    others = [path for path in (*catalogue.samples, *catalogue.doubtful) if stem(path) != used]
    lines = [f"{path.name}: looks like a sample submission, not used" for path in others]
    warnings = request.found.warnings if request.sample else (*request.found.warnings, *lines)
    if request.sample is None and reading.photos is None:
        lines += [f"{each.place}/: {each.count:,} photos" for each in layout.test[1:]]
    passed_over = (*request.found.passed_over, *lines)
    return replace(request.found, passed_over=passed_over, warnings=warnings)


def _natural(name: str) -> list[tuple[int, int | str]]:
    pieces = re.split(r"(\d+)", name)
    return [(0, int(piece)) if piece.isdecimal() else (1, piece) for piece in pieces]
