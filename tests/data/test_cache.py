"""Decoded photos on disk: the pixels of the one path, found again by content."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit.data import cache as module
from toolkit.data.cache import decoded_photos
from toolkit.data.pixels import BrokenPhotoError, load
from toolkit.data.survey import survey


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path: Path, draw_photo: Callable[..., Image.Image]) -> list[Path]:
    paths = [tmp_path / f"{seed}.jpg" for seed in range(5)]
    for seed, path in enumerate(paths):
        draw_photo(seed, (60 + 10 * seed, 50)).save(path)
    return paths


def hashes(paths: list[Path]) -> list[str]:
    return [facts.sha256 for facts in survey(paths)]


def test_rows_are_the_pixels_of_each_photo(cache: Path, photos: list[Path]) -> None:
    rows = np.load(decoded_photos(photos, hashes(photos), 32), mmap_mode="r")
    assert rows.shape == (5, 32, 32, 3)
    assert rows.dtype == np.uint8
    for row, path in zip(rows, photos, strict=True):
        np.testing.assert_array_equal(row, load(path, 32))


def test_the_same_bytes_elsewhere_use_the_same_file(
    cache: Path, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = decoded_photos(photos, hashes(photos), 32)
    moved = [path.rename(tmp_path / f"moved-{path.name}") for path in photos]
    digests = hashes(moved)
    monkeypatch.setattr(module, "load", lambda *_: pytest.fail("decoded again"))
    assert decoded_photos(moved, digests, 32) == first


def test_what_a_killed_decode_left_is_removed_after_a_day(cache: Path, photos: list[Path]) -> None:
    finished = decoded_photos(photos, hashes(photos), 32)
    killed, running = (finished.with_name(f".{finished.stem}.{n}.npy") for n in ("old", "new"))
    for path, hours in ((killed, 25), (running, 1)):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - 3600 * hours,) * 2)
    finished.unlink()
    decoded_photos(photos, hashes(photos), 32)
    assert set(finished.parent.iterdir()) == {finished, running}


def test_other_sizes_bytes_and_orders_have_their_own_file(cache: Path, photos: list[Path]) -> None:
    digests = hashes(photos)
    files = {
        decoded_photos(photos, digests, 32),
        decoded_photos(photos, digests, 33),
        decoded_photos(photos[::-1], digests[::-1], 32),
        decoded_photos(photos[:4], digests[:4], 32),
    }
    assert len(files) == 4


def test_a_broken_photo_leaves_no_file(
    cache: Path, photos: list[Path], hostile_photos: Path
) -> None:
    paths = [*photos, hostile_photos / "truncated.jpg"]
    with pytest.raises(BrokenPhotoError, match=r"truncated\.jpg"):
        decoded_photos(paths, hashes(paths), 32)
    assert list((cache / "photos").iterdir()) == []
