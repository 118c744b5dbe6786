"""Files that are written whole or not at all, their hashes, and the folder for caches."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, and rename it into place when the block succeeds.

    Args:
        path: The file that shall appear. Its folder is created where it is missing.

    Yields:
        The temporary path to write to. It is removed when the block raises.

    Raises:
        ToolkitError: The system refuses the file, or its disk is full; names `path`, not the
            temporary one.
    """
    # The suffix stays last, because many writers choose the format by it.
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with `\\n` line ends, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ToolkitError: The file is missing or is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ToolkitError(f"{path}: no such file.") from None
    except (OSError, ValueError) as error:
        raise ToolkitError(f"{path}: cannot be read as JSON ({error}).") from None
    if not isinstance(content, dict):
        raise ToolkitError(f"{path}: Expected a JSON object, received {type(content).__name__}.")
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
    """Remove a folder so that at no moment a half-removed one stands under its name."""
    if folder.exists():
        doomed = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.removed")
        folder.rename(doomed)
        shutil.rmtree(doomed)


def cache_folder() -> Path:
    """Return the folder for what can be made again: `TOOLKIT_CACHE`, or the user's cache folder."""
    import platformdirs

    chosen = os.environ.get("TOOLKIT_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("toolkit"))
