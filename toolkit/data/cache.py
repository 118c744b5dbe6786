"""Decoded photos on disk, so that only the first epoch decodes."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from toolkit.data.pixels import DECODER_VERSION, DEFINITION, load
from toolkit.errors import ToolkitError
from toolkit.files import cache_folder, sha256_json, written_whole
from toolkit.machine import usable_cores
from toolkit.progress import SILENT, Reporter

LEFT_BEHIND_SECONDS = 24 * 3600
"""An unfinished file of this age is of a process that was killed."""


def decoded_photos(
    paths: Sequence[Path], hashes: Sequence[str], size: int, reporter: Reporter = SILENT
) -> Path:
    """Decode photos into one file, or find the file made before from the same bytes.

    Args:
        paths: The photos.
        hashes: SHA-256 of each; the file is found again by them, not by the paths.
        size: Side of the square in pixels.
        reporter: Where progress is told.

    Returns:
        A `.npy` file of shape (photos, size, size, 3), uint8, RGB: open it with
        `numpy.load(file, mmap_mode="r")`.

    Raises:
        BrokenPhotoError: A photo cannot be read.
        ToolkitError: The disk is too full.
    """
    key = sha256_json([DEFINITION, DECODER_VERSION, size, list(hashes)])
    path = cache_folder() / "photos" / f"{key[:32]}-{size}px.npy"
    if path.is_file():
        return path
    _remove_left_behind(path)
    _check_space(path, len(paths) * size * size * 3)
    with (
        written_whole(path) as temporary,
        ThreadPoolExecutor(usable_cores()) as pool,
        reporter.track(f"decoding at {size} px", len(paths)) as advance,
    ):
        photos = np.lib.format.open_memmap(
            temporary, mode="w+", dtype=np.uint8, shape=(len(paths), size, size, 3)
        )

        def decode_into(index: int) -> None:
            # Each thread writes its own row, so that no finished photo waits in memory.
            photos[index] = load(paths[index], size)

        for _ in pool.map(decode_into, range(len(paths))):
            advance(1)
        photos.flush()
    return path


def _remove_left_behind(path: Path) -> None:
    for unfinished in path.parent.glob(f".{path.stem}.*{path.suffix}"):
        # Another process may remove it at the same time.
        with contextlib.suppress(OSError):
            if time.time() - unfinished.stat().st_mtime > LEFT_BEHIND_SECONDS:
                unfinished.unlink()


def _check_space(path: Path, needed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise ToolkitError(
            f"{path.parent}: decoded photos need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are "
            "free. Name a larger disk with the environment variable TOOLKIT_CACHE."
        )
