"""Photos of more than 8 bits: one range a kind, for a whole data set, the same wherever used."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from toolkit.data.holdout import prepare
from toolkit.data.labelled import load_labelled
from toolkit.data.pixels import BrokenPhotoError, Square, decode, load, read_photo
from toolkit.data.ranges import (
    COLOUR_16,
    GREY_16,
    GREY_32,
    GREY_FLOAT,
    Range,
    natural,
    ranges_of,
)
from toolkit.progress import Reporter

RAMP = np.arange(64, dtype=np.uint16).reshape(8, 8)
LEVELS = 4 * np.arange(64).reshape(8, 8)
"""What a ramp becomes whose 64 steps fill its range: 256 levels, every fourth."""

TWELVE = Range(0, 4095)


def grey(pixels: Image.Image) -> NDArray[np.uint8]:
    array = np.asarray(pixels)
    assert (array == array[..., :1]).all()
    return array[..., 0]


def encoded(values: NDArray[np.generic], format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, format, **options)
    return stream.getvalue()


def by_opencv(values: NDArray[np.generic], suffix: str, *options: int) -> bytes:
    """RGB(A) values of 16 bits, which Pillow cannot write."""
    order = [2, 1, 0, 3][: values.shape[2]]
    done, content = cv2.imencode(suffix, np.ascontiguousarray(values[..., order]), options)
    assert done
    return content.tobytes()


def signed_tiff(values: NDArray[np.integer], *, unsigned: bool = False) -> bytes:
    """A TIFF of whole numbers, which says whether they have a sign."""
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    bits, height, width = 8 * values.itemsize, *values.shape
    tags = [
        (256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8 + 2 + 12 * 9 + 4),
        (277, 1), (278, height), (339, 1 if unsigned else 2),
    ]  # fmt: skip
    tags.insert(8, (279, len(data)))
    tags[5] = (273, 8 + 2 + 12 * len(tags) + 4)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    start = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return start + data


def png(depth: int, colours: int, rows: list[bytes], width: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, colours, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), chunk(b"IDAT", body), chunk(b"IEND", b""))
    )


def big_endian_tiff(values: NDArray[np.uint16]) -> bytes:
    return encoded(values.astype(">u2"), "TIFF")


GREYS = {
    "12 bits in a PNG": (encoded(RAMP * 64, "PNG"), GREY_16, 4095),
    "8 bits in a PNG of 16": (encoded(RAMP * 4, "PNG"), GREY_16, 255),
    "6 bits in a PNG of 16": (encoded(RAMP, "PNG"), GREY_16, 63),
    "14 bits in a TIFF": (encoded(RAMP * 256, "TIFF"), GREY_16, 16383),
    "12 bits in a compressed TIFF": (
        encoded(RAMP * 64, "TIFF", compression="tiff_lzw"),
        GREY_16,
        4095,
    ),
    "12 bits in a TIFF of the other byte order": (big_endian_tiff(RAMP * 64), GREY_16, 4095),
    "12 bits in a PGM of 16": (
        b"P5 8 8 65535\n" + (RAMP * 64).astype(">u2").tobytes(),
        GREY_16,
        4095,
    ),
    "32 bits with a sign": (encoded((RAMP * 64).astype(np.int32), "TIFF"), GREY_32, 4095),
    "32 bits without": (
        signed_tiff(RAMP.astype(np.uint32) << 26, unsigned=True),
        GREY_32,
        2**32 - 1,
    ),
    "16 bits with a sign": (signed_tiff((RAMP * 64).astype(np.int16)), GREY_32, 4095),
}


@pytest.mark.parametrize(("content", "kind", "high"), GREYS.values(), ids=GREYS)
def test_grey_is_scaled_by_the_bits_that_are_used(content: bytes, kind: str, high: int) -> None:
    photo = read_photo(content)
    assert photo.kind == kind
    assert natural(kind, photo.found) == Range(0, high)
    np.testing.assert_array_equal(grey(photo.image), LEVELS)
    np.testing.assert_array_equal(grey(decode(content, {kind: Range(0, high)})), LEVELS)


COLOUR = np.stack([RAMP * 64, RAMP[::-1] * 64, np.full_like(RAMP, 2048)], axis=2)
COLOUR_LEVELS = np.stack([LEVELS, LEVELS[::-1], np.full_like(LEVELS, 128)], axis=2)
OPAQUE = np.dstack([COLOUR, np.full_like(RAMP, 65535)])
COLOURS = {
    "PNG": by_opencv(COLOUR, ".png"),
    "PNG with alpha": by_opencv(OPAQUE, ".png"),
    "TIFF": by_opencv(COLOUR, ".tif", cv2.IMWRITE_TIFF_COMPRESSION, 1),
    "TIFF, LZW": by_opencv(COLOUR, ".tif", cv2.IMWRITE_TIFF_COMPRESSION, 5),
    "TIFF, Deflate": by_opencv(COLOUR, ".tif", cv2.IMWRITE_TIFF_COMPRESSION, 8),
    "TIFF with alpha": by_opencv(OPAQUE, ".tif", cv2.IMWRITE_TIFF_COMPRESSION, 1),
}


@pytest.mark.parametrize("content", COLOURS.values(), ids=COLOURS)
@pytest.mark.parametrize("as_a_file", [False, True], ids=["bytes", "file"])
def test_colour_of_12_bits_in_16_is_not_black(
    content: bytes, as_a_file: bool, tmp_path: Path
) -> None:
    source: Path | bytes = content
    if as_a_file:
        source = tmp_path / "photo"
        source.write_bytes(content)
    photo = read_photo(source, {COLOUR_16: TWELVE})
    np.testing.assert_array_equal(np.asarray(photo.image), COLOUR_LEVELS)
    assert photo.notes == ()
    np.testing.assert_array_equal(np.asarray(decode(source)), COLOUR_LEVELS)


def test_grey_with_alpha_of_16_bits_is_scaled_and_laid_on_white() -> None:
    alpha = np.full((8, 8), 65535, dtype=np.uint16)
    alpha[0, 0] = 0
    values = np.dstack([RAMP * 64, alpha]).astype(">u2")
    content = png(16, 4, [row.tobytes() for row in values], 8)
    expected = LEVELS.copy()
    expected[0, 0] = 255
    np.testing.assert_array_equal(grey(decode(content, {GREY_16: TWELVE})), expected)


def test_colour_whose_lower_bits_are_out_of_reach_is_refused_rather_than_black() -> None:
    content = b"P6 8 8 65535\n" + COLOUR.astype(">u2").tobytes()
    with pytest.raises(BrokenPhotoError, match="only the lower ones are used; save it with 8"):
        decode(content)
    bright = b"P6 8 8 65535\n" + (16 * COLOUR).astype(">u2").tobytes()
    assert np.asarray(decode(bright)).max() >= 250


FLOATS = {
    "0 to 1": ((RAMP / 63).astype(np.float32), Range(0, 1)),
    "0 to 255": ((RAMP * 4.0).astype(np.float32), Range(0, 255)),
    "12 bits": ((RAMP * 64.0).astype(np.float32), TWELVE),
    "negative": ((RAMP * 1.0 - 20).astype(np.float32), Range(-20, 43)),
}


@pytest.mark.parametrize(("values", "scale"), FLOATS.values(), ids=FLOATS)
def test_floats_are_rounded_half_up(values: NDArray[np.float32], scale: Range) -> None:
    content = encoded(values, "TIFF")
    photo = read_photo(content)
    assert natural(GREY_FLOAT, photo.found) == scale
    share = (values.astype(float) - scale.low) / (scale.high - scale.low)
    np.testing.assert_array_equal(grey(photo.image), np.floor(255 * share + 0.5))


def test_what_is_no_number_is_black_and_what_is_endless_is_white() -> None:
    values = (RAMP / 63).astype(np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    pixels = grey(decode(encoded(values, "TIFF")))
    assert pixels[0, :3].tolist() == [0, 255, 0]
    with pytest.raises(BrokenPhotoError, match="none of its values is a number"):
        decode(encoded(np.full((2, 2), np.nan, dtype=np.float32), "TIFF"))


def test_whole_numbers_are_floored_as_the_high_byte_is() -> None:
    values = np.random.default_rng(1).integers(0, 65536, 1000, dtype=np.uint16)
    np.testing.assert_array_equal(Range(0, 65535).levels(values), values >> 8)
    np.testing.assert_array_equal(TWELVE.levels(values >> 4), values >> 8)
    np.testing.assert_array_equal(Range(0, 255).levels(values >> 8), values >> 8)
    hounsfield = np.array([-2000, -1024, 0, 3071, 9000])
    assert Range(-1024, 3071).levels(hounsfield).tolist() == [0, 0, 64, 255, 255]


def test_a_constant_photo_has_a_range() -> None:
    for value in (-5.0, 0.0, 7.5):
        scale = natural(GREY_FLOAT, Range(value, value))
        assert scale.high > scale.low


class TestRule:
    def test_it_is_the_range_of_all_photos_of_a_kind(self) -> None:
        found = [(GREY_16, Range(5, 900)), (GREY_16, Range(0, 3000)), (COLOUR_16, Range(0, 70))]
        assert ranges_of(found) == {COLOUR_16: Range(0, 127), GREY_16: TWELVE}

    def test_a_dark_photo_stays_darker_than_a_bright_one(self) -> None:
        dark, bright = (encoded(RAMP * step, "PNG") for step in (4, 64))
        pixels = [grey(decode(each, {GREY_16: TWELVE})).max() for each in (dark, bright)]
        assert pixels == [252 // 16, 252]

    def test_values_beyond_it_are_clipped_and_noted(self) -> None:
        photo = read_photo(encoded(RAMP * 128, "PNG"), {GREY_16: TWELVE})
        np.testing.assert_array_equal(grey(photo.image), np.minimum(2 * LEVELS, 255))
        assert photo.notes == (
            "its values from 0 to 8064 are clipped to 0 and 4095, the range of the photos trained "
            "on",
        )

    @pytest.mark.parametrize(
        "content",
        [GREYS["12 bits in a PNG"][0], COLOURS["PNG"], GREYS["32 bits with a sign"][0]],
        ids=["grey", "colour", "32 bits"],
    )
    def test_a_kind_that_nothing_is_known_of_is_refused(self, content: bytes) -> None:
        with pytest.raises(BrokenPhotoError, match="which value is white is unknown; save it with"):
            decode(content, {})

    def test_16_bits_that_are_used_need_no_rule(self) -> None:
        values = RAMP * 1024
        np.testing.assert_array_equal(grey(decode(encoded(values, "PNG"), {})), values >> 8)
        colour = by_opencv(16 * COLOUR, ".png")
        np.testing.assert_array_equal(np.asarray(decode(colour, {})), (16 * COLOUR) >> 8)

    def test_photos_of_8_bits_do_not_care(self, hostile_photos: Path) -> None:
        for name in ("whole.jpg", "cmyk.jpg", "palette_alpha.png", "la.png", "rgba.png"):
            path = hostile_photos / name
            plain, ruled = (load(path, Square(16), ranges) for ranges in ({}, {GREY_16: TWELVE}))
            np.testing.assert_array_equal(plain, ruled)


class Heard(Reporter):
    """Keeps what it is given to say."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        object.__setattr__(self, "lines", list[str]())

    def say(self, line: str) -> None:
        self.lines.append(line)


class TestDataSet:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        for name, step in (("dark", 16), ("bright", 64)):
            folder = tmp_path / name
            folder.mkdir()
            for number in range(3):
                values = np.random.default_rng(number).permutation(RAMP.ravel()).reshape(8, 8)
                Image.fromarray(values * step).save(folder / f"{number}.png")
        return tmp_path

    def test_its_rule_is_found_and_reported(self, data: Path) -> None:
        heard = Heard()
        prepared = prepare(load_labelled(data), skip_broken=False, reporter=heard)
        assert prepared.pixels.ranges == {GREY_16: TWELVE}
        assert heard.lines == [
            "6 photos of 16-bit grey: values from 0 to 4095 become 0 to 255, here and wherever the "
            "networks are used"
        ]

    def test_one_hot_pixel_that_makes_the_others_black_is_reported(self, data: Path) -> None:
        values = RAMP.copy()
        values[3, 3] = 65535
        Image.fromarray(values).save(data / "dark" / "hot.png")
        heard = Heard()
        prepared = prepare(load_labelled(data), skip_broken=False, reporter=heard)
        assert prepared.pixels.ranges == {GREY_16: Range(0, 65535)}
        assert heard.lines[1] == (
            f"6 of them will look black: {data / 'dark' / 'hot.png'} has the value 65535. Remove "
            "or fix it if that is no real brightness"
        )

    def test_a_second_look_knows_the_same(self, data: Path) -> None:
        rules = [prepare(load_labelled(data), skip_broken=False).pixels for _ in range(2)]
        assert rules[0] == rules[1]

    def test_8_bits_have_no_rule(self, demo_data: Path) -> None:
        assert prepare(load_labelled(demo_data), skip_broken=False).pixels.ranges == {}
