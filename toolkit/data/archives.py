"""Archives of photos, extracted only inside their own folder."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from toolkit.errors import DataError, ToolkitError
from toolkit.files import held, regular_file
from toolkit.progress import SILENT, Reporter

TAR_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar")
ARCHIVE_SUFFIXES = (".zip", *TAR_SUFFIXES, ".7z")
FOREIGN_SUFFIXES = (".rar", ".tar.zst", ".z01", ".001")
"""Archives that only other programs extract."""

MOST_ENTRIES = 10_000_000
"""The largest public sets have some millions of photos."""

LARGEST_RATIO, RATIO_FROM = 200, 10**9
"""Of the bytes extracted to those of the archive, where it becomes at least so many bytes.

Photos are compressed already: even of uncompressed ones 20 is much. Zip reaches 1,032.
"""

_UTF8_NAMES, _ENCRYPTED = 0x800, 0x1
_BROKEN_ARCHIVE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    EOFError,
    UnicodeDecodeError,
)


@dataclass(frozen=True)
class Entry:
    """A file in an archive.

    Attributes:
        name: Its path, with '/'.
        size: Bytes when extracted.
        is_link: Whether it is a link, or anything else that holds no bytes of its own.
        open: Opens its content; None where the library extracts all entries at once.
    """

    name: str
    size: int
    is_link: bool
    open: Callable[[], AbstractContextManager[IO[bytes]]] | None


def archive_stem(name: str) -> str | None:
    """Return an archive's name without its suffix, or None for a file of another kind."""
    for suffix in ARCHIVE_SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return None


@dataclass
class Unpacking:
    """What has come out of an archive, with the archives in it.

    Attributes:
        packed: Bytes of the outermost archive.
        bytes: That were extracted from it, and from the archives in it.
    """

    packed: int
    bytes: int = 0


def extract(
    archive: Path, folder: Path, reporter: Reporter = SILENT, within: Unpacking | None = None
) -> Unpacking:
    """Extract an archive into a folder, unless it exists.

    Args:
        archive: A zip, tar or 7z file.
        folder: Where its content shall stand. It appears only when all is extracted.
        reporter: Where progress is told.
        within: What has come out of the archive that this one lies in; None where it lies in none.

    Returns:
        The same, this archive included.

    Raises:
        ToolkitError: The archive is no regular file, is broken, is encrypted, does not fit on the
            disk, or holds a link or a name that leads outside `folder`; or another process is
            extracting it.
    """
    busy = f"{archive}: another process is extracting it. Wait for it."
    with held(folder.with_name(f".{folder.name}.lock"), busy):
        regular_file(archive)
        within = within or Unpacking(archive.stat().st_size)
        if not folder.is_dir():
            _extract(archive, folder, reporter, within)
        return within


def names_in(archive: Path) -> list[str]:
    """Return the names of the files in an archive; none where it cannot be read."""
    try:
        regular_file(archive)
        with _opened(archive) as (entries, _):
            return [entry.name for entry in entries]
    except (ToolkitError, OSError, *_BROKEN_ARCHIVE):
        return []


def is_inside(name: str) -> bool:
    """Return whether a name is that of a file below a folder, on Windows too."""
    path = PureWindowsPath(name)
    return bool(path.parts) and not path.anchor and ".." not in path.parts


def _extract(archive: Path, folder: Path, reporter: Reporter, within: Unpacking) -> None:
    partial = folder.with_name(f".{folder.name}.extracting")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with _opened(archive) as (entries, extract_all):
            for entry in entries:
                _check(archive, entry)
            _check_space(archive, folder.parent, entries, within)
            partial.mkdir(parents=True)
            with reporter.track(f"extracting {archive.name}", len(entries), "files") as advance:
                if extract_all:
                    extract_all(partial)
                    advance(len(entries))
                for entry in entries if not extract_all else ():
                    _copy(entry, partial)
                    advance(1)
        partial.rename(folder)
        within.bytes += sum(entry.size for entry in entries)
    except _BROKEN_ARCHIVE as error:
        raise DataError(
            f"{archive}: not a readable archive ({_in_one_line(error)}).", path=archive
        ) from None
    except OSError as error:
        raise DataError(
            f"{archive}: cannot be extracted to {folder} ({error.strerror or error}); extract it "
            "there yourself.",
            path=archive,
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _in_one_line(error: Exception) -> str:
    # tarfile tells what it tried, a line for each format.
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


def _copy(entry: Entry, folder: Path) -> None:
    path = folder.joinpath(*PurePosixPath(entry.name).parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert entry.open is not None
    with entry.open() as source, path.open("wb") as copy:
        shutil.copyfileobj(source, copy)


_Opened = tuple[list[Entry], Callable[[Path], None] | None]


@contextmanager
def _opened(archive: Path) -> Iterator[_Opened]:
    name = archive.name.lower()
    if name.endswith(".zip"):
        with zipfile.ZipFile(archive) as opened:
            yield _zip_entries(archive, opened), None
    elif name.endswith(".7z"):
        with _seven_zip(archive) as found:
            yield found
    else:
        with tarfile.open(archive, encoding="utf-8") as tar:
            yield _tar_entries(archive, tar), None


def _zip_entries(archive: Path, opened: zipfile.ZipFile) -> list[Entry]:
    entries = []
    for info in opened.infolist():
        # Some programs of Windows write its separator, against the standard.
        name = _zip_name(archive, info).replace("\\", "/")
        if name.endswith("/") or not _is_wanted(name):
            continue
        if info.flag_bits & _ENCRYPTED:
            raise DataError(
                f"{archive}: the archive is encrypted; extract it yourself.", path=archive
            )
        is_link = stat.S_ISLNK(info.external_attr >> 16)

        def opening(info: zipfile.ZipInfo = info) -> IO[bytes]:
            return opened.open(info)

        entries.append(Entry(name, info.file_size, is_link, opening))
    return entries


def _zip_name(archive: Path, info: zipfile.ZipInfo) -> str:
    """Return an entry's name; many programs write UTF-8 without the flag that says so."""
    if info.flag_bits & _UTF8_NAMES or info.filename.isascii():
        return info.filename
    # zipfile took the bytes for code page 437, which has a character for each byte.
    content = info.orig_filename.encode("cp437")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(_undecodable(archive, content)) from None


def _tar_entries(archive: Path, tar: tarfile.TarFile) -> list[Entry]:
    entries = []
    for member in tar.getmembers():
        if member.isdir() or not _is_wanted(member.name):
            continue
        try:
            member.name.encode("utf-8")
        except UnicodeEncodeError:
            raise DataError(_undecodable(archive, os.fsencode(member.name))) from None

        def opening(member: tarfile.TarInfo = member) -> IO[bytes]:
            content = tar.extractfile(member)
            assert content is not None  # Of a regular file there is one.
            return content

        entries.append(Entry(member.name, member.size, not member.isreg(), opening))
    return entries


@contextmanager
def _seven_zip(archive: Path) -> Iterator[_Opened]:
    try:
        import py7zr
    except ImportError:
        raise DataError(
            f"{archive}: to extract 7z archives, pip install 'toolkit[7z]' first; or extract it "
            "yourself.",
            path=archive,
        ) from None
    try:
        with py7zr.SevenZipFile(archive) as opened:
            if opened.needs_password():
                raise DataError(
                    f"{archive}: the archive is encrypted; extract it yourself.", path=archive
                )
            infos = [info for info in opened.list() if not info.is_directory]
            wanted = [
                Entry(info.filename, info.uncompressed, bool(info.is_symlink), None)
                for info in infos
                if _is_wanted(info.filename)
            ]
            names = [entry.name for entry in wanted]
            yield wanted, lambda folder: opened.extract(path=folder, targets=names)
    except py7zr.exceptions.ArchiveError as error:
        raise DataError(
            f"{archive}: not a readable archive ({_in_one_line(error)}).", path=archive
        ) from None


def _undecodable(archive: Path, name: bytes) -> str:
    shown = name.decode("utf-8", "backslashreplace")
    return (
        f"{archive}: the name of the entry '{shown}' is not UTF-8; nothing was extracted. Extract "
        "it yourself, as with 'unzip -O CP1252', or pack it again."
    )


def _is_wanted(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.name) and "__MACOSX" not in path.parts and not path.name.startswith("._")


def _check(archive: Path, entry: Entry) -> None:
    if entry.is_link or not is_inside(entry.name):
        why = "is a link, or no regular file" if entry.is_link else "leads outside the data folder"
        raise DataError(
            f"{archive}: the entry '{entry.name}' {why}; nothing was extracted.", path=archive
        )


def _check_space(archive: Path, folder: Path, entries: list[Entry], within: Unpacking) -> None:
    needed = sum(entry.size for entry in entries)
    total, packed = within.bytes + needed, within.packed
    if len(entries) > MOST_ENTRIES:
        raise DataError(
            f"{archive}: holds {len(entries):,} files, and at most {MOST_ENTRIES:,} are "
            "extracted. Extract it yourself if you trust it."
        )
    if total > RATIO_FROM and total > LARGEST_RATIO * packed:
        whose = "with the archives in it, the outermost's" if within.bytes else "its"
        raise DataError(
            f"{archive}: {whose} {packed / 1e6:.1f} MB become {total / 1e9:.1f} GB, more than "
            f"{LARGEST_RATIO} times as many; it was not extracted. Extract it yourself if you "
            "trust it."
        )
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{archive}: {needed / 1e9:.1f} GB when extracted, but {folder} has "
            f"{free / 1e9:.1f} GB free.",
            path=archive,
        )
