"""Decoded photos on disk: the pixels of the one path, found again by content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit.data import cache as module
from toolkit.data.cache import decoded_photos
from toolkit.data.pixels import BrokenPhotoError, PixelDefinition, Pixels, Square, load
from toolkit.data.ranges import Range, Ranges
from toolkit.data.survey import survey

PLAIN, SQUARE, TWELVE = PixelDefinition(), Square(32), Range(0, 4095)


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
    rows = np.load(decoded_photos(photos, hashes(photos), SQUARE, PLAIN), mmap_mode="r")
    assert rows.shape == (5, 32, 32, 3)
    assert rows.dtype == np.uint8
    for row, path in zip(rows, photos, strict=True):
        np.testing.assert_array_equal(row, load(path, SQUARE))


def test_the_same_bytes_elsewhere_use_the_same_file(
    cache: Path, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = decoded_photos(photos, hashes(photos), SQUARE, PLAIN)
    moved = [path.rename(tmp_path / f"moved-{path.name}") for path in photos]
    digests = hashes(moved)
    monkeypatch.setattr(module, "load", lambda *_: pytest.fail("decoded again"))
    assert decoded_photos(moved, digests, SQUARE, PLAIN) == first


def test_what_killed_decodes_left_is_removed_before_room_is_looked_for(
    cache: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = hashes(photos)
    finished = decoded_photos(photos, digests, SQUARE, PLAIN)
    left = [finished.with_name(f".{stem}.0123abcd.npy") for stem in (finished.stem, "other-64px")]
    for path in left:
        path.write_bytes(b"half")
        path.with_suffix(".lock").touch()  # A kill leaves the file, but nobody holds it.
    finished.unlink()

    def seen(*_: object) -> None:
        assert not list((cache / "photos").iterdir())

    monkeypatch.setattr(module, "_check_space", seen)
    decoded_photos(photos, digests, SQUARE, PLAIN)
    assert list((cache / "photos").iterdir()) == [finished]


def test_a_decode_that_is_going_on_is_left_alone(
    cache: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    digests, decode = hashes(photos), module.load
    others = []

    def with_another_beside(path: Path, square: Square, ranges: Ranges) -> Pixels:
        if (path, square) == (photos[0], SQUARE):
            others.append(decoded_photos(photos, digests, Square(33), PLAIN))
        return decode(path, square, ranges)

    monkeypatch.setattr(module, "load", with_another_beside)
    finished = decoded_photos(photos, digests, SQUARE, PLAIN)
    np.testing.assert_array_equal(np.load(finished)[0], decode(photos[0], SQUARE, {}))
    assert {finished, *others} == set((cache / "photos").iterdir())
    assert len(others) == 1


def test_other_squares_ranges_bytes_and_orders_have_their_own_file(
    cache: Path, photos: list[Path]
) -> None:
    digests = hashes(photos)
    files = {
        decoded_photos(photos, digests, SQUARE, PLAIN),
        decoded_photos(photos, digests, Square(33), PLAIN),
        decoded_photos(photos, digests, Square(32, "letterbox"), PLAIN),
        decoded_photos(photos, digests, Square(32, "center_crop"), PLAIN),
        decoded_photos(photos, digests, SQUARE, PixelDefinition(ranges={"16-bit grey": TWELVE})),
        decoded_photos(photos[::-1], digests[::-1], SQUARE, PLAIN),
        decoded_photos(photos[:4], digests[:4], SQUARE, PLAIN),
    }
    assert len(files) == 7


def test_a_broken_photo_leaves_no_file(
    cache: Path, photos: list[Path], hostile_photos: Path
) -> None:
    paths = [*photos, hostile_photos / "truncated.jpg"]
    with pytest.raises(BrokenPhotoError, match=r"truncated\.jpg"):
        decoded_photos(paths, hashes(paths), SQUARE, PLAIN)
    assert list((cache / "photos").iterdir()) == []
