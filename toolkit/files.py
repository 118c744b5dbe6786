"""Files and folders that appear whole or not at all, their hashes and locks; the cache folder."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import itertools
import json
import os
import shutil
import stat
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from toolkit.errors import ResourceError, ToolkitError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, and rename it into place when the block succeeds.

    Args:
        path: The file that shall appear. Its folder is created where it is missing. Of a link, the
            file that it leads to is replaced and the link stays.

    Yields:
        The temporary path to write to. It is removed when the block raises.

    Raises:
        ToolkitError: Something else than a file stands there, the system refuses the file, or its
            disk is full; names `path`, not the temporary one.
    """
    refuse_other_than_file(path)
    path = path.resolve() if path.is_symlink() else path
    # The suffix stays last, because many writers choose the format by it.
    temporary = path.with_name(f".{path.stem}.{_mark_of_writer()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_over(path)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise  # Of the terminal, where the block tells progress.
        # The user does not know the temporary name, and a full disk has no name at all.
        if error.filename is None or str(error.filename) in (str(temporary), str(path.parent)):
            reason = error.strerror or error
            raise ToolkitError(f"{path}: cannot be written ({reason}).") from None
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


_writings = itertools.count()


def _mark_of_writer() -> str:
    """Return eight digits that begin with the number of this process, and differ in it."""
    return f"{os.getpid() & 0xFFFFFF:06x}{next(_writings) & 0xFF:02x}"


def _remove_left_over(path: Path) -> None:
    """Remove what processes that were killed had begun to write for a file."""
    import psutil

    for found in path.parent.glob(f".{glob.escape(path.stem)}.????????{glob.escape(path.suffix)}"):
        mark = found.name.removeprefix(f".{path.stem}.")[:8]
        with contextlib.suppress(ValueError, OSError):
            if not psutil.pid_exists(int(mark[:6], 16)):
                found.unlink()


def refuse_other_than_file(path: Path) -> None:
    """Refuse to write where a folder, device, named pipe or socket stands, also behind a link.

    Raises:
        ToolkitError: One does.
    """
    try:
        other = irregularity(path.stat())
    except (OSError, ValueError):
        return  # Nothing stands there; whether a file can, shows when it is written.
    if other:
        raise ToolkitError(f"{path}: is {other}, and no file can be written there. Name another.")


def remove_half_written(folder: Path) -> None:
    """Remove what killed processes had begun to write into a folder with `written_whole`.

    No other process may be writing into it.
    """
    for path in folder.glob(f".*.{'[0-9a-f]' * 8}.*"):
        path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with `\\n` line ends, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def refuse_undecodable(path: Path) -> None:
    """Refuse a path that is not UTF-8: no JSON or CSV file could name it.

    Raises:
        ToolkitError: It is not, or the working folder that it goes on from is not.
    """
    try:
        str(path.absolute()).encode("utf-8")
    except UnicodeEncodeError:
        shown = os.fsencode(path.absolute()).decode("utf-8", "backslashreplace")
        raise ToolkitError(
            f"{shown}: the name is not UTF-8. Rename it, as with 'convmv -f latin1 -t utf-8'."
        ) from None


LARGEST_JSON = 512 * 2**20
"""Bytes of a JSON file that is read; a manifest of a million photos has 20 million."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def irregularity(status: os.stat_result) -> str:
    """Return what a path leads to where it is no regular file; empty where it is one.

    A named pipe would wait for ever, and a device has no end.
    """
    kind = stat.S_IFMT(status.st_mode)
    return "" if kind == stat.S_IFREG else _KINDS.get(kind, "something else")


def regular_file(path: Path, most_bytes: int | None = None) -> None:
    """Refuse what is no regular file, or too large, before it is opened.

    Raises:
        ToolkitError: It is missing, something else than a file, or has too many bytes.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise ToolkitError(f"{path}: no such file.") from None
    except (OSError, ValueError) as error:
        raise ToolkitError(f"{path}: cannot be read ({error}).") from None
    if other := irregularity(status):
        raise ToolkitError(f"{path}: is {other}, not a file.")
    if most_bytes is not None and status.st_size > most_bytes:
        raise ToolkitError(
            f"{path}: has {status.st_size / 2**20:,.0f} MiB; at most "
            f"{most_bytes / 2**20:,.0f} are read."
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a bounded size, in which no key stands twice.

    Raises:
        ToolkitError: The file is missing or is no such object.
    """
    regular_file(path, LARGEST_JSON)
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_each_key_once)
    except (OSError, ValueError) as error:
        raise ToolkitError(f"{path}: cannot be read as JSON ({error}).") from None
    except RecursionError:
        raise ToolkitError(f"{path}: cannot be read as JSON (nested too deeply).") from None
    if not isinstance(content, dict):
        raise ToolkitError(f"{path}: Expected a JSON object, received {type(content).__name__}.")
    return content


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key '{twice}' stands twice")
    return content


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(content: Any) -> str:
    """Return the SHA-256 of a JSON-able value, whatever the order of its keys."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def remove_folder(folder: Path) -> None:
    """Remove a folder so that at no moment a half-removed one stands under its name.

    Raises:
        ToolkitError: It is a link, and so the folder of somebody else.
    """
    if folder.is_symlink():
        raise ToolkitError(
            f"{folder}: is a link, and what it leads to is not removed. Remove the link yourself."
        )
    if folder.exists():
        folder.rename(_doomed(folder))
    _remove_doomed(folder)


def replace_folder(folder: Path, new: Path) -> None:
    """Put a folder in the place of another, which is removed only when the new one stands there.

    Args:
        folder: The place; need not exist. It must be no link.
        new: The folder to put there, in the same parent.
    """
    aside = _doomed(folder)
    if folder.exists():
        folder.rename(aside)
    try:
        new.rename(folder)
    except OSError:
        if aside.exists():
            aside.rename(folder)
        raise
    _remove_doomed(folder)


@contextmanager
def held(lock: Path, busy: str, wait_s: float = 0) -> Iterator[None]:
    """Keep other processes out of the block.

    Args:
        lock: The file that stands for what is held; it is removed at the end.
        busy: What to tell the user where another process is in the block.
        wait_s: How long to wait for it.

    Raises:
        ToolkitError: Another process is, or the file's folder cannot be written.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        taken = filelock.FileLock(lock).acquire(timeout=wait_s)
    except filelock.Timeout:
        raise ResourceError(busy) from None
    except OSError as error:
        raise ToolkitError(f"{lock.parent}: cannot be written ({error.strerror}).") from None
    with taken:
        try:
            yield
        finally:
            # While it is held: else it might be another process's by now.
            with contextlib.suppress(OSError):
                lock.unlink()


def cache_folder() -> Path:
    """Return the folder for what can be made again: `TOOLKIT_CACHE`, or the user's cache folder.

    Raises:
        ToolkitError: It cannot be written, or there is no home folder for it to be in.
    """
    import platformdirs

    chosen = os.environ.get("TOOLKIT_CACHE")
    way_out = "Set TOOLKIT_CACHE to a folder that can be written."
    try:
        folder = (
            Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("toolkit"))
        )
    except RuntimeError:
        raise ToolkitError(f"the cache: this user has no home folder. {way_out}") from None
    if not folder.is_absolute() and str(folder).startswith("~"):
        raise ToolkitError(f"the cache, {folder}: this user has no home folder. {way_out}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        reason = error.strerror or error
        raise ToolkitError(f"{folder}: the cache cannot be written ({reason}). {way_out}") from None


def _doomed(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.removed")


def _remove_doomed(folder: Path) -> None:
    """Remove what stood under a folder's name, also of a process that was killed at it."""
    for doomed in folder.parent.glob(f".{glob.escape(folder.name)}.????????.removed"):
        shutil.rmtree(doomed, ignore_errors=True)
