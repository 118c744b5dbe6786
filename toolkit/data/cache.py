"""Decoded photos on disk, so that only the first epoch decodes."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np

from toolkit.data.pixels import DECODER_VERSION, PixelDefinition, Square, load
from toolkit.errors import ToolkitError
from toolkit.files import cache_folder, held, sha256_json, written_whole
from toolkit.machine import usable_cores
from toolkit.progress import SILENT, Reporter


def decoded_photos(
    paths: Sequence[Path],
    hashes: Sequence[str],
    square: Square,
    definition: PixelDefinition,
    reporter: Reporter = SILENT,
) -> Path:
    """Decode photos into one file, or find the file made before from the same bytes.

    Args:
        paths: The photos.
        hashes: SHA-256 of each; the file is found again by them, not by the paths.
        square: What each becomes.
        definition: Of the pixels; its ranges scale photos of more than 8 bits.
        reporter: Where progress is told.

    Returns:
        A `.npy` file of shape (photos, size, size, 3), uint8, RGB: open it with
        `numpy.load(file, mmap_mode="r")`.

    Raises:
        BrokenPhotoError: A photo cannot be read.
        ToolkitError: The disk is too full.
    """
    size = square.size
    key = sha256_json([definition.settings, DECODER_VERSION, asdict(square), list(hashes)])
    path = cache_folder() / "photos" / f"{key[:32]}-{size}px.npy"
    if path.is_file():
        return path
    _remove_left_behind(path.parent)
    _check_space(path, len(paths) * size * size * 3)
    with (
        contextlib.ExitStack() as afterwards,
        written_whole(path) as temporary,
        ThreadPoolExecutor(usable_cores()) as pool,
        reporter.track(f"decoding at {square}", len(paths)) as advance,
    ):
        # Held before the file is there, and until it has its name.
        afterwards.enter_context(_held(temporary))
        photos = np.lib.format.open_memmap(
            temporary, mode="w+", dtype=np.uint8, shape=(len(paths), size, size, 3)
        )

        def decode_into(index: int) -> None:
            # Each thread writes its own row, so that no finished photo waits in memory.
            photos[index] = load(paths[index], square, definition.ranges)

        for _ in pool.map(decode_into, range(len(paths))):
            advance(1)
        photos.flush()
    return path


def _remove_left_behind(folder: Path) -> None:
    """Remove what processes that were killed had begun; nobody holds it any more."""
    for unfinished in folder.glob(".*.npy"):
        # Another process may remove it at the same time.
        with contextlib.suppress(ToolkitError, OSError), _held(unfinished):
            unfinished.unlink()


def _held(unfinished: Path) -> contextlib.AbstractContextManager[None]:
    busy = f"{unfinished}: another process is decoding into it."
    return held(unfinished.with_suffix(".lock"), busy)


def _check_space(path: Path, needed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise ToolkitError(
            f"{path.parent}: decoded photos need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are "
            "free. Name a larger disk with the environment variable TOOLKIT_CACHE."
        )
