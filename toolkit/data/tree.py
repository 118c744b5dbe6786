"""All files of a data folder, found in one walk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from toolkit.errors import DataError, listing
from toolkit.files import refuse_undecodable

PHOTO_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".j2k", ".jxl", ".png", ".bmp", ".dib", ".gif"),
    *(".webp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
)
"""What is taken for a photo; one that cannot be read is reported as broken, not passed over."""

_JUNK = ("__MACOSX",)
_HIDDEN = (".", "~$")
"""How hidden names begin, and those of files that a program of Microsoft Office keeps open."""

_JUNK_FILES = ("thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Folder:
    """A folder and what is in it; links to folders are followed.

    Attributes:
        path: Where it really is.
        place: Its path below the data folder, with '/'; empty for the data folder itself. What was
            extracted elsewhere has the place that it would have beside its archive.
        photos: Names of the photos directly in it, sorted.
        others: Names of other files, sorted; hidden ones are nobody's data.
        folders: Those in it, by name.
    """

    path: Path
    place: str
    photos: tuple[str, ...]
    others: tuple[str, ...]
    folders: Mapping[str, Folder] = field(repr=False)

    @property
    def name(self) -> str:
        """Its own name."""
        return self.place.rpartition("/")[2] or self.path.name

    @cached_property
    def count(self) -> int:
        """How many photos are in it and below."""
        return len(self.photos) + sum(folder.count for folder in self.folders.values())

    def walk(self) -> Iterator[Folder]:
        """Return this folder and all below."""
        yield self
        for folder in self.folders.values():
            yield from folder.walk()

    def all_photos(self, below: str = "") -> Iterator[tuple[str, Path]]:
        """Return the photos in it and below: the path from here, with '/', and the file."""
        for name in self.photos:
            # A string is joined in a fifth of the time.
            yield below + name, Path(f"{self.path}{os.sep}{name}")
        for name, folder in self.folders.items():
            yield from folder.all_photos(f"{below}{name}/")

    def find(self, place: str) -> Folder | None:
        """Return the folder at a path from here, or None."""
        folder: Folder | None = self
        for part in place.split("/") if place else ():
            folder = folder.folders.get(part) if folder else None
        return folder

    def without(self, *gone: Folder) -> Folder:
        """Return the same without some folders below it."""
        places = {folder.place for folder in gone}
        kept = {n: f.without(*gone) for n, f in self.folders.items() if f.place not in places}
        return Folder(self.path, self.place, self.photos, self.others, kept)


def scan(root: Path, mounts: Mapping[str, Path] | None = None) -> Folder:
    """Find all files of a data folder. No file is opened, and none asked for its size or time.

    Args:
        root: The data folder.
        mounts: Folders that stand elsewhere, by the place below `root` that they stand for.

    Returns:
        The folder with all below it. Hidden files and folders are not among them.

    Raises:
        ToolkitError: A folder cannot be listed, or names of photos are not UTF-8.
    """
    undecodable: list[str] = []
    found = _scan(root, "", mounts or {}, (), undecodable)
    if undecodable:
        raise DataError(
            f"{root}: {len(undecodable)} file names are not UTF-8, so that no table can name them. "
            f"Rename them, as with 'convmv -f latin1 -t utf-8 -r':\n{listing(undecodable)}",
            path=root,
        )
    return found


def contents(folder: Folder) -> str:
    """Say what a folder holds, in words."""
    parts = [f"{each.name}/ with {each.count:,} photos" for each in folder.folders.values()][:6]
    if folder.photos:
        parts.append(f"{len(folder.photos):,} photos such as '{folder.photos[0]}'")
    first = next(folder.all_photos(), None)
    if first and not folder.photos:
        parts.append(f"the first photo is '{first[0]}'")
    parts += [f"'{name}'" for name in folder.others[:4]]
    return f"it holds {', '.join(parts)}" if parts else "it is empty"


def check_folder(folder: Path) -> None:
    """Refuse a data folder that is not there.

    Raises:
        ToolkitError: There is no such folder, or its name is not UTF-8.
    """
    refuse_undecodable(folder)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder (the data is read from it). Name another with `data=DIR`.",
            path=folder,
        )


def _scan(
    path: Path,
    place: str,
    mounts: Mapping[str, Path],
    above: tuple[tuple[int, int], ...],
    undecodable: list[str],
) -> Folder:
    photos: list[str] = []
    others: list[str] = []
    folders: dict[str, Path] = {}
    status = path.stat()
    here = (status.st_dev, status.st_ino)
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(_HIDDEN) or name in _JUNK or name.lower() in _JUNK_FILES:
                    continue
                if _is_folder(entry):
                    folders[name] = path / name
                elif name.lower().endswith(PHOTO_SUFFIXES):
                    photos.append(name)
                else:
                    others.append(name)
                    continue
                if not name.isascii() and not _is_text(name):
                    undecodable.append(_escaped(path / name))
    except OSError as error:
        raise DataError(f"{path}: cannot be listed ({error.strerror}).", path=path) from None
    before = f"{place}/" if place else ""
    for mounted, elsewhere in mounts.items():
        if mounted.startswith(before) and "/" not in (name := mounted[len(before) :]):
            folders.setdefault(name, elsewhere)
    known = (*above, here)
    below = {
        name: _scan(folders[name], before + name, mounts, known, undecodable)
        for name in sorted(folders)
        if not _is_loop(folders[name], known)
    }
    return Folder(path, place, tuple(sorted(photos)), tuple(sorted(others)), below)


def _is_loop(folder: Path, above: tuple[tuple[int, int], ...]) -> bool:
    """Return whether a link leads back to a folder that it lies in."""
    status = folder.stat()
    return (status.st_dev, status.st_ino) in above


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # A link that leads back to itself; as a photo it is a broken one.


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _escaped(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
