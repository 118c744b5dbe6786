"""The one pixel path: the right colours from every kind of photo, or one line that says why not."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, features

from toolkit.data.formats import MAX_PIXELS
from toolkit.data.pixels import (
    DRAFT_SIDE,
    BrokenPhotoError,
    Square,
    decode,
    from_array,
    load,
)
from toolkit.errors import ToolkitError

RED, GREEN, BLUE, YELLOW = (220, 30, 40), (20, 160, 60), (30, 50, 200), (230, 210, 20)
WHITE = (255, 255, 255)


def decoded(path: Path) -> NDArray[np.int64]:
    image = decode(path)
    assert image.mode == "RGB"
    return np.asarray(image).astype(np.int64)


def assert_four_quarters(pixels: NDArray[np.int64]) -> None:
    """The middle of each quarter has its colour, as far as JPEG keeps it."""
    assert pixels.shape == (32, 48, 3)
    for (y, x), colour in {
        (8, 12): RED,
        (8, 36): GREEN,
        (24, 12): BLUE,
        (24, 36): YELLOW,
    }.items():
        assert np.abs(pixels[y, x] - colour).max() <= 8, (y, x)


@pytest.mark.parametrize(
    "name", ["whole.jpg", "junk_exif.jpg", "photo.bmp", "animated.gif", "Käfer & Söhne (1) 車.jpg"]
)
def test_ordinary_photos_keep_their_colours(hostile_photos: Path, name: str) -> None:
    assert_four_quarters(decoded(hostile_photos / name))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(hostile_photos: Path, orientation: int) -> None:
    assert_four_quarters(decoded(hostile_photos / f"exif_{orientation}.jpg"))


def test_cmyk_becomes_rgb(hostile_photos: Path) -> None:
    # No cyan, full magenta and yellow: red.
    assert np.abs(decoded(hostile_photos / "cmyk.jpg") - (255, 0, 0)).max() <= 8


def test_sixteen_bit_grey_keeps_its_high_byte(hostile_photos: Path) -> None:
    expected = (np.arange(64).reshape(8, 8) * 1024 + 255) // 256
    pixels = decoded(hostile_photos / "grey16.png")
    for channel in range(3):
        np.testing.assert_array_equal(pixels[..., channel], expected)


def test_sixteen_bit_colour_keeps_its_high_byte(hostile_photos: Path) -> None:
    expected = (np.arange(64).reshape(8, 8) * 1024 + 255) // 256
    pixels = decoded(hostile_photos / "rgb16.png")
    np.testing.assert_array_equal(pixels[..., 0], expected)
    np.testing.assert_array_equal(pixels[..., 1], expected[::-1])
    np.testing.assert_array_equal(pixels[..., 2], 0x80)


def test_what_is_transparent_becomes_white(hostile_photos: Path) -> None:
    np.testing.assert_array_equal(decoded(hostile_photos / "palette_alpha.png"), [[RED, WHITE]])
    np.testing.assert_array_equal(decoded(hostile_photos / "la.png"), [[[50] * 3, WHITE]])
    red, white, half = decoded(hostile_photos / "rgba.png")[0]
    np.testing.assert_array_equal([red, white], [RED, WHITE])
    # Black that lets half of the white through.
    assert np.abs(half - 255 * (1 - 128 / 255)).max() <= 1


def test_one_pixel_fills_the_square(hostile_photos: Path) -> None:
    np.testing.assert_array_equal(
        load(hostile_photos / "one_pixel.png", Square(32)), np.full((32, 32, 3), RED)
    )


@pytest.mark.parametrize("name", ["huge.jpg", "huge.png"])
def test_huge_photos_are_read(hostile_photos: Path, name: str) -> None:
    pixels = load(hostile_photos / name, Square(64)).astype(np.int64)
    assert pixels.shape == (64, 64, 3)
    assert np.abs(pixels - BLUE).max() <= 4


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated.jpg", "image file is truncated"),
        ("header_only.jpg", "cannot be decoded"),
        ("zero_bytes.jpg", "empty"),
        ("text.jpg", "not a photo"),
        pytest.param(
            *("damaged.avif", "cannot be decoded"),
            marks=pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF"),
        ),
        ("missing.jpg", "no such file"),
    ],
)
def test_broken_photos_say_which_and_why_in_one_line(
    hostile_photos: Path, name: str, reason: str
) -> None:
    with pytest.raises(BrokenPhotoError) as caught:
        decode(hostile_photos / name)
    assert reason in caught.value.reason
    assert str(caught.value) == f"{hostile_photos / name}: {caught.value.reason}"
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ToolkitError)


def test_bytes_are_read_like_the_file(hostile_photos: Path) -> None:
    path = hostile_photos / "exif_6.jpg"
    np.testing.assert_array_equal(load(path.read_bytes(), Square(40)), load(path, Square(40)))
    with pytest.raises(BrokenPhotoError, match=r"^photo: "):
        decode(b"no photo")


@pytest.mark.parametrize("side", [20_000, 60_000])
def test_a_picture_that_would_fill_the_memory_is_refused_unread(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    with pytest.raises(BrokenPhotoError, match=f"the {MAX_PIXELS:,} .*scale it down"):
        decode(
            b"\x89PNG\r\n\x1a\n"
            + png_chunk(b"IHDR", header)
            + png_chunk(b"IDAT", zlib.compress(b""))
        )


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def test_a_large_jpeg_scaled_down_while_decoded_is_close_to_a_full_decode(
    tmp_path: Path, draw_photo: Callable[..., Image.Image]
) -> None:
    draw_photo(3, (4200, 3100)).save(tmp_path / "large.jpg", quality=90)
    quick = decode(tmp_path / "large.jpg")
    assert DRAFT_SIDE <= min(quick.size) < 3100
    full = np.asarray(Image.open(tmp_path / "large.jpg").convert("RGB"))
    for size in (80, 240):
        difference = np.abs(Square(size)(quick) - Square(size)(Image.fromarray(full)).astype(float))
        assert difference.mean() < 1
        assert difference.max() <= 8


def test_resize_of_a_soft_photo_is_the_area_average(draw_photo: Callable[..., Image.Image]) -> None:
    photo = draw_photo(1, (240, 180))
    average = np.asarray(photo).reshape(60, 3, 60, 4, 3).mean(axis=(1, 3))
    difference = np.abs(Square(60)(photo) - average)
    assert difference.mean() < 1
    assert difference.max() < 6


def test_resize_blends_fine_stripes_instead_of_picking_pixels() -> None:
    stripes = np.zeros((160, 160, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    inner = Square(40)(Image.fromarray(stripes))[2:-2, 2:-2].astype(float)
    # A resize without antialiasing would show some of the stripes: 0 or 255.
    assert np.abs(inner - 127.5).max() <= 2


@pytest.mark.parametrize(("width", "height", "size"), [(97, 61, 24), (13, 40, 50), (30, 30, 30)])
def test_resize_weighs_pixels_by_a_triangle_as_wide_as_the_shrinking(
    width: int, height: int, size: int
) -> None:
    photo = np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)
    rows, columns = triangle_weights(height, size), triangle_weights(width, size)
    expected = np.einsum("yh,xw,hwc->yxc", rows, columns, photo.astype(float))
    assert np.abs(Square(size)(Image.fromarray(photo)) - expected).max() <= 1.1


def triangle_weights(length: int, size: int) -> NDArray[np.float64]:
    """Weights of `length` pixels in each of `size` new ones, by loops and half-pixel centres."""
    scale = length / size
    reach = max(scale, 1.0)
    weights = np.zeros((size, length))
    for new in range(size):
        centre = (new + 0.5) * scale
        for old in range(length):
            weights[new, old] = max(0.0, 1 - abs(old + 0.5 - centre) / reach)
    return weights / weights.sum(axis=1, keepdims=True)


def test_all_image_sizes_are_made_from_the_same_decoded_photo(
    tmp_path: Path, draw_photo: Callable[..., Image.Image]
) -> None:
    # Were the decoder's scaling chosen by the wanted size, the small one would be another picture.
    draw_photo(8, (2400, 2400)).save(tmp_path / "large.jpg", quality=60)
    small, large = (
        load(tmp_path / "large.jpg", Square(32)),
        load(tmp_path / "large.jpg", Square(512)),
    )
    average = large.reshape(32, 16, 32, 16, 3).mean(axis=(1, 3))
    assert np.abs(small - average).mean() < 1.5


def test_an_array_takes_the_place_of_a_decoded_photo() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    lossless = io.BytesIO()
    Image.fromarray(pixels).save(lossless, "PNG")
    np.testing.assert_array_equal(
        Square(16)(from_array(pixels)), Square(16)(decode(lossless.getvalue()))
    )


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
    ],
    ids=["grey", "alpha", "channels first", "empty", "float"],
)
def test_an_array_of_another_kind_is_refused(pixels: NDArray[np.uint8]) -> None:
    with pytest.raises(ToolkitError, match=r"Expected .*uint8 \(RGB\), received"):
        from_array(pixels)
