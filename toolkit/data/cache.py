"""Decoded photos on disk, so that only the first epoch decodes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np

from toolkit.capacity import free_disk
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
    path, size = _file(hashes, square, definition), square.size
    if path.is_file():
        return path
    _remove_left_behind(path.parent)
    _check_space(path, decoded_bytes(len(paths), [size]))
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


def decoded_folder() -> Path:
    """Return where decoded photos are kept."""
    return cache_folder() / "photos"


def decoded_bytes(count: int, sizes: Iterable[int]) -> int:
    """Return what so many photos take at different sizes."""
    return sum(count * size * size * 3 for size in set(sizes))


def bytes_to_decode(
    hashes: Sequence[str], squares: Iterable[Square], definition: PixelDefinition
) -> int:
    """Return what `decoded_photos` has still to write for photos as different squares."""
    missing = {each for each in squares if not _file(hashes, each, definition).is_file()}
    return sum(decoded_bytes(len(hashes), [square.size]) for square in missing)


def _file(hashes: Sequence[str], square: Square, definition: PixelDefinition) -> Path:
    key = sha256_json([definition.settings, DECODER_VERSION, asdict(square), list(hashes)])
    return decoded_folder() / f"{key[:32]}-{square.size}px.npy"


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
    free = free_disk(path.parent)
    if needed > free:
        raise ToolkitError(
            f"{path.parent}: decoded photos need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are "
            "free. Name a larger disk with the environment variable TOOLKIT_CACHE.",
            path=path.parent,
        )
