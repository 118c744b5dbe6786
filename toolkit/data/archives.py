"""Zip archives of photos, extracted only inside the data folder."""

from __future__ import annotations

import lzma
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from toolkit.errors import ToolkitError
from toolkit.files import held

WRAPPERS = ("train", "test", "test_upload")
"""Folders that an archive may wrap its photos in; they are taken off."""

_BROKEN_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    EOFError,
    UnicodeDecodeError,
)


def extract(archive: Path, folder: Path) -> None:
    """Extract an archive of photos into a folder, unless it exists.

    Args:
        archive: The zip file.
        folder: Where its content shall stand. It appears only when all is extracted.

    Raises:
        ToolkitError: The archive is broken, is encrypted, does not fit on the disk, or holds a
            link or a name that leads outside `folder`; or another process is extracting it.
    """
    busy = f"{archive}: another process is extracting it. Wait for it."
    with held(folder.with_name(f".{folder.name}.lock"), busy):
        if not folder.is_dir():
            _extract(archive, folder)


def is_inside(name: str) -> bool:
    """Return whether a name is that of a file below a folder, on Windows too."""
    path = PureWindowsPath(name)
    return bool(path.parts) and not path.anchor and ".." not in path.parts


def _extract(archive: Path, folder: Path) -> None:
    partial = folder.with_name(f".{folder.name}.extracting")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if _is_wanted(entry)]
            for entry in entries:
                _check(archive, entry)
            targets = [_target(entry) for entry in entries]
            _check_space(archive, entries)
            strip = 1 if _is_wrapped(targets) else 0
            partial.mkdir(parents=True)
            for entry, target in zip(entries, targets, strict=True):
                path = partial.joinpath(*target.parts[strip:])
                path.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as source, path.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
        partial.rename(folder)
    except _BROKEN_ARCHIVE as error:
        raise ToolkitError(f"{archive}: not a readable zip archive ({error}).") from None
    except OSError as error:
        raise ToolkitError(
            f"{archive}: cannot be extracted beside itself ({error.strerror or error}); extract it "
            f"yourself to {folder}."
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _target(entry: zipfile.ZipInfo) -> PurePosixPath:
    # Some programs of Windows write its separator, against the standard.
    return PurePosixPath(entry.filename.replace("\\", "/"))


def _is_wanted(entry: zipfile.ZipInfo) -> bool:
    path = _target(entry)
    is_file = bool(path.name) and not entry.filename.endswith(("/", "\\"))
    return is_file and "__MACOSX" not in path.parts and not path.name.startswith("._")


def _check(archive: Path, entry: zipfile.ZipInfo) -> None:
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    if is_link or not is_inside(entry.filename):
        why = "is a link" if is_link else "leads outside the data folder"
        raise ToolkitError(f"{archive}: the entry '{entry.filename}' {why}; nothing was extracted.")
    if entry.flag_bits & 0x1:
        raise ToolkitError(f"{archive}: the archive is encrypted; extract it yourself.")


def _is_wrapped(targets: list[PurePosixPath]) -> bool:
    tops = {target.parts[0] if len(target.parts) > 1 else "" for target in targets}
    return len(tops) == 1 and tops <= set(WRAPPERS)


def _check_space(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    needed = sum(entry.file_size for entry in entries)
    free = shutil.disk_usage(archive.parent).free
    if needed > free:
        raise ToolkitError(
            f"{archive}: {needed / 1e9:.1f} GB when extracted, but {archive.parent} has "
            f"{free / 1e9:.1f} GB free."
        )
