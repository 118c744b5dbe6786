"""The file of a photo: opened only where it is a regular file of a bounded size."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from toolkit.errors import DataError
from toolkit.files import irregularity

MAX_BYTES = 512 * 2**20
"""A larger file is not read as a photo."""


class BrokenPhotoError(DataError):
    """A photo that cannot be read.

    Attributes:
        source: The file, or a name for bytes that came without one.
        reason: What is wrong with it.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason

    def __reduce__(self) -> tuple[type[BrokenPhotoError], tuple[str, str]]:
        return type(self), (self.source, self.reason)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open the file of a photo, following links.

    What is no regular file is never opened: a named pipe would wait for ever, and a device has no
    end.

    Args:
        path: The photo.

    Yields:
        The open file.

    Raises:
        BrokenPhotoError: It is missing, no regular file, empty, too large or cannot be opened.
    """
    try:
        _check(path, path.stat())
        # Another file may have taken its place since: one that must be waited for is not.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(path, flags), "rb")
    except FileNotFoundError:
        raise BrokenPhotoError(str(path), "no such file") from None
    except OSError as error:
        raise BrokenPhotoError(str(path), f"cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise BrokenPhotoError(str(path), f"no file can have this name ({error})") from None
    with file:
        _check(path, os.fstat(file.fileno()))
        yield file


def photo_sha256(path: Path) -> str:
    """Return the SHA-256 of a photo's file; empty where `opened` refuses it."""
    try:
        with opened(path) as file:
            return hashlib.file_digest(cast("io.BufferedReader", file), "sha256").hexdigest()
    except (BrokenPhotoError, OSError):
        return ""


def _check(path: Path, status: os.stat_result) -> None:
    if other := irregularity(status):
        raise BrokenPhotoError(str(path), f"is {other}, not a file")
    if not status.st_size:
        raise BrokenPhotoError(str(path), "the file is empty")
    if status.st_size > MAX_BYTES:
        raise BrokenPhotoError(
            str(path),
            f"the file has {status.st_size / 2**20:,.0f} MiB, and photos of more than "
            f"{MAX_BYTES // 2**20} are not read",
        )
