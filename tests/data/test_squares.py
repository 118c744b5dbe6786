"""How a photo becomes square: stretched, letterboxed or cropped, pixel by pixel as documented."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from toolkit.data.pixels import PADDING, RESIZES, Square, from_array, load

SIZES = [(97, 61), (61, 97), (64, 64), (50, 200), (201, 50), (3, 1), (1, 400), (33, 32), (10, 11)]


def noise(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def triangle(length: int, size: int) -> NDArray[np.float64]:
    """Weights of `length` pixels in each of `size` new ones, by loops and half-pixel centres."""
    scale = length / size
    reach = max(scale, 1.0)
    weights = np.zeros((size, length))
    for new in range(size):
        for old in range(length):
            weights[new, old] = max(0.0, 1 - abs(old + 0.5 - (new + 0.5) * scale) / reach)
    return weights / weights.sum(axis=1, keepdims=True)


def resized(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.float64]:
    rows, columns = triangle(len(pixels), height), triangle(pixels.shape[1], width)
    result: NDArray[np.float64] = np.einsum("yh,xw,hwc->yxc", rows, columns, pixels.astype(float))
    return result


def half_up(numerator: int, denominator: int) -> int:
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest >= denominator)


def letterbox(
    pixels: NDArray[np.uint8], size: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The square and where in it the photo lies, by loops."""
    height, width = pixels.shape[:2]
    if width >= height:
        new_width, new_height = size, max(1, half_up(size * height, width))
    else:
        new_width, new_height = max(1, half_up(size * width, height)), size
    small = resized(pixels, new_width, new_height)
    left, top = (size - new_width) // 2, (size - new_height) // 2
    square = np.empty((size, size, 3))
    inside = np.zeros((size, size), dtype=bool)
    for y in range(size):
        for x in range(size):
            is_photo = top <= y < top + new_height and left <= x < left + new_width
            square[y, x] = small[y - top, x - left] if is_photo else (124, 116, 104)
            inside[y, x] = is_photo
    return square, inside


def center_crop(pixels: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resized(pixels[top : top + side, left : left + side], size, size)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("size", [16, 31, 50])
class TestAgainstLoops:
    def test_a_letterbox(self, width: int, height: int, size: int) -> None:
        pixels = noise(width, height)
        made = Square(size, "letterbox")(Image.fromarray(pixels))
        expected, inside = letterbox(pixels, size)
        assert made.shape == (size, size, 3)
        assert np.abs(made - expected).max() <= 1.1
        np.testing.assert_array_equal(made[~inside], np.tile(PADDING, ((~inside).sum(), 1)))

    def test_a_center_crop(self, width: int, height: int, size: int) -> None:
        pixels = noise(width, height)
        made = Square(size, "center_crop")(Image.fromarray(pixels))
        assert np.abs(made - center_crop(pixels, size)).max() <= 1.1

    def test_what_is_stretched(self, width: int, height: int, size: int) -> None:
        pixels = noise(width, height)
        made = Square(size)(Image.fromarray(pixels))
        assert np.abs(made - resized(pixels, size, size)).max() <= 1.1


@pytest.mark.parametrize("size", [16, 31, 50])
def test_a_square_photo_is_the_same_in_every_way(size: int) -> None:
    photo = Image.fromarray(noise(64, 64))
    made = [Square(size, resize)(photo) for resize in RESIZES]
    for each in made[1:]:
        np.testing.assert_array_equal(each, made[0])


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("turn", [Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_180])
def test_a_turned_photo_gives_a_turned_square_where_the_rest_is_even(
    width: int, height: int, turn: Image.Transpose
) -> None:
    photo = Image.fromarray(noise(width, height))
    for resize in RESIZES:
        square = Square(48, resize)
        made = np.asarray(Image.fromarray(square(photo)).transpose(turn))
        again = square(photo.transpose(turn))
        if turn == Image.Transpose.TRANSPOSE or resize == "stretch":
            assert np.abs(made.astype(int) - again).max() <= 1


def test_a_circle_stays_a_circle_where_proportions_are_kept() -> None:
    y, x = np.mgrid[:200, :400]
    disc = (np.hypot(y - 99.5, x - 199.5) < 80)[..., None] * np.uint8([255, 255, 255])
    photo = Image.fromarray(disc)

    def proportion(resize: str) -> float:
        white = Square(100, resize)(photo)[..., 0] > 180
        return float(np.ptp(np.flatnonzero(white.any(axis=0)))) / np.ptp(
            np.flatnonzero(white.any(axis=1))
        )

    assert proportion("letterbox") == pytest.approx(1, abs=0.05)
    assert proportion("center_crop") == pytest.approx(1, abs=0.05)
    assert proportion("stretch") == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("resize", RESIZES)
def test_a_file_and_its_decoded_pixels_become_the_same_square(
    resize: str, tmp_path: Path, draw_photo: Callable[..., Image.Image]
) -> None:
    for number, size in enumerate([(300, 200), (90, 400), (3000, 2100)]):
        photo = draw_photo(number, size)
        photo.save(tmp_path / "photo.png", compress_level=1)
        square = Square(64, resize)
        np.testing.assert_array_equal(
            load(tmp_path / "photo.png", square), square(from_array(np.asarray(photo)))
        )


def test_squares_that_differ_are_told_apart() -> None:
    assert [str(Square(150, resize)) for resize in RESIZES] == [
        "150 px",
        "150 px, letterbox",
        "150 px, center_crop",
    ]
    assert len({Square(size, resize) for size in (32, 48) for resize in RESIZES}) == 6
