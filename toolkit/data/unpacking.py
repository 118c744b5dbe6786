"""A data folder with its archives extracted, beside themselves or where one can write."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from toolkit.data.archives import FOREIGN_SUFFIXES, Unpacking, archive_stem, extract, names_in
from toolkit.data.layout import role_of
from toolkit.data.tables import TABLE_SUFFIXES, is_table
from toolkit.data.tree import Folder, scan
from toolkit.files import cache_folder, sha256_json
from toolkit.progress import SILENT, Reporter

MOST_NESTED = 4
"""How often archives are looked for again in what was extracted: a zip in a zip in a zip."""


@dataclass(frozen=True)
class Unpacked:
    """A data folder whose archives are extracted.

    Attributes:
        tree: All files, those of archives included.
        tables: Archives that hold nothing but a table, which is read from them.
        left: Archives that were not extracted, because their photos are there already.
    """

    tree: Folder
    tables: tuple[Path, ...]
    left: tuple[Path, ...]


def unpacked(
    root: Path,
    reporter: Reporter = SILENT,
    can_write: Callable[[Path], bool] = lambda folder: os.access(folder, os.W_OK),
) -> Unpacked:
    """Scan a data folder, and extract the archives that its photos are in.

    An archive is extracted into a folder of its name beside it, or below the cache folder where
    that cannot be written. It is left alone where that folder, one of the same part (`train_images`
    for `train.zip`), or photos of no archive are there already.

    Args:
        root: The data folder.
        reporter: Where progress is told.
        can_write: Tells where files can be made.

    Raises:
        ToolkitError: A folder cannot be listed, or an archive not be extracted.
    """
    mounts: dict[str, Path] = {}
    came_of: dict[str, Unpacking] = {}
    before: dict[str, tuple[Path, Path]] = {}
    for _ in range(MOST_NESTED):
        tree = scan(root, mounts)
        tables: list[Path] = []
        left: list[Path] = []
        extracted = False
        for folder in tree.walk():
            for name in _archives(folder):
                archive, stem = folder.path / name, archive_stem(name)
                if stem is None:
                    left.append(archive)
                    continue
                place = f"{folder.place}/{stem}".lstrip("/")
                if stem in folder.folders:
                    before.setdefault(place, (archive, folder.folders[stem].path))
                elif is_table(archive) or _holds_a_table(archive):
                    tables.append(archive)
                elif _is_needed(folder, stem):
                    target = _target(archive, stem, can_write)
                    came_of[place] = extract(
                        archive, target, reporter, _outermost(place, came_of, before)
                    )
                    mounts[place] = target
                    extracted = True
                else:
                    left.append(archive)
        if not extracted:
            break
    else:
        tree = scan(root, mounts)
    return Unpacked(tree, tuple(tables), tuple(left))


def _outermost(
    place: str, came_of: dict[str, Unpacking], before: Mapping[str, tuple[Path, Path]]
) -> Unpacking | None:
    """Return what came out of the archive in whose folder a place lies; None of no archive's.

    Args:
        place: Of a folder.
        came_of: By the place of its folder, what came out of an archive; completed.
        before: Archives that had been extracted before, with their folders, likewise.
    """
    for each, (archive, folder) in before.items():
        if place.startswith(f"{each}/") and each not in came_of:
            files = (path.stat().st_size for path in folder.rglob("*") if path.is_file())
            came_of[each] = Unpacking(archive.stat().st_size, sum(files))
    around = [each for each in came_of if place.startswith(f"{each}/")]
    return came_of[min(around, key=len)] if around else None


def would_extract(root: Path) -> bool:
    """Return whether `unpacked` would extract an archive, which writes files.

    Raises:
        ToolkitError: The folder cannot be listed.
    """
    for folder in scan(root).walk():
        for name in _archives(folder):
            stem = archive_stem(name)
            if stem is None or stem in folder.folders or is_table(folder.path / name):
                continue
            if not _holds_a_table(folder.path / name) and _is_needed(folder, stem):
                return True
    return False


def _archives(folder: Folder) -> list[str]:
    known = [n for n in folder.others if archive_stem(n) or n.lower().endswith(FOREIGN_SUFFIXES)]
    return sorted(known)


def _holds_a_table(archive: Path) -> bool:
    if archive.suffix.lower() != ".zip":
        return False
    names = names_in(archive)
    return len(names) == 1 and names[0].lower().endswith(TABLE_SUFFIXES)


def _is_needed(folder: Folder, stem: str) -> bool:
    role = role_of(stem)
    packed = {archive_stem(name) for name in folder.others}
    own = [each for name, each in folder.folders.items() if name not in packed and each.count]
    if role:
        return not any(role_of(each.name) == role for each in own)
    return not (own or folder.photos)


def _target(archive: Path, stem: str, can_write: Callable[[Path], bool]) -> Path:
    if can_write(archive.parent):
        return archive.parent / stem
    status = archive.stat()
    key = sha256_json([str(archive.absolute()), status.st_size, status.st_mtime_ns])
    return cache_folder() / "extracted" / key[:16] / stem
