"""What all tests share: a cache of their own, photos that go wrong, and the real cars where they are."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

# albumentations asks the network for a newer version as soon as it is imported.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

RED, GREEN, BLUE, YELLOW = (220, 30, 40), (20, 160, 60), (30, 50, 200), (230, 210, 20)

CARS10 = Path(__file__).parents[1] / ".." / "shared" / "data" / "cars10.zip"

# Where the EXIF standard says row 0 and column 0 of the stored picture are in the upright one.
EXIF_SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


@pytest.fixture(scope="session")
def _cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(_cache_of_the_session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_CACHE", str(_cache_of_the_session))


@pytest.fixture(scope="session")
def draw_photo() -> Callable[..., Image.Image]:
    """A function that draws a soft, photo-like picture: other seeds, other pictures."""

    def draw(seed: int, size: tuple[int, int] = (200, 150)) -> Image.Image:
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)

    return draw


@pytest.fixture(scope="session")
def hostile_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos as people really have them; `missing.jpg` is not in it.

    The four quarters of most of them are red, green, blue and yellow: `four_quarters`.
    """
    folder = tmp_path_factory.mktemp("hostile")
    upright = four_quarters()
    photo = Image.fromarray(upright)
    best = {"quality": 95, "subsampling": 0}

    photo.save(folder / "whole.jpg", **best)
    whole = (folder / "whole.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "zero_bytes.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("This is no photo.\n" * 20, encoding="utf-8")
    (folder / "Käfer & Söhne (1) 車.jpg").write_bytes(whole)
    photo.save(folder / "junk_exif.jpg", exif=b"Exif\0\0no such thing", **best)
    for orientation in EXIF_SIDES:
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = Image.fromarray(stored_as(upright, orientation))
        stored.save(folder / f"exif_{orientation}.jpg", exif=exif, **best)

    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(folder / "cmyk.jpg", quality=95)
    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024 + 255
    Image.fromarray(ramp).save(folder / "grey16.png")
    colour16 = np.stack([ramp, ramp[::-1], np.full_like(ramp, 0x80FF)], axis=2)
    assert cv2.imwrite(str(folder / "rgb16.png"), np.ascontiguousarray(colour16[..., ::-1]))

    palette = Image.new("P", (2, 1))
    palette.putpalette([*RED, *GREEN])
    palette.putdata([0, 1])
    palette.save(folder / "palette_alpha.png", transparency=b"\xff\x00")
    rgba = Image.new("RGBA", (3, 1))
    rgba.putdata([(*RED, 255), (*RED, 0), (0, 0, 0, 128)])
    rgba.save(folder / "rgba.png")
    la = Image.new("LA", (2, 1))
    la.putdata([(50, 255), (50, 0)])
    la.save(folder / "la.png")

    Image.new("RGB", (1, 1), RED).save(folder / "one_pixel.png")
    photo.save(folder / "photo.bmp")
    frames = [photo.quantize(16), Image.new("P", photo.size)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (12_000, 9_000), BLUE).save(folder / "huge.jpg", quality=75)
    huge = Image.new("P", (12_000, 9_000))
    huge.putpalette(BLUE)
    huge.save(folder / "huge.png", compress_level=1)
    return folder


@pytest.fixture(scope="session")
def cars10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the real cars, extracted."""
    archive = Path(os.environ.get("TOOLKIT_CARS10", CARS10)).resolve()
    if not archive.is_file():
        pytest.skip(f"the real photos are not here ({archive}); name them with TOOLKIT_CARS10")
    folder = tmp_path_factory.mktemp("cars10")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return next(path.parent for path in sorted(folder.rglob("train.csv")))


def four_quarters() -> NDArray[np.uint8]:
    """Red and green above, blue and yellow below; 48 wide and 32 high."""
    picture = np.empty((32, 48, 3), dtype=np.uint8)
    picture[:16, :24], picture[:16, 24:] = RED, GREEN
    picture[16:, :24], picture[16:, 24:] = BLUE, YELLOW
    return picture


def stored_as(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return the pixels that a camera stores, pixel by pixel as the EXIF standard words it."""
    height, width = upright.shape[:2]
    row_side, column_side = EXIF_SIDES[orientation]
    swapped = row_side in ("left", "right")
    stored = np.empty((width, height, 3) if swapped else (height, width, 3), dtype=np.uint8)
    for row in range(stored.shape[0]):
        for column in range(stored.shape[1]):
            place = {row_side: row, column_side: column}
            y = place["top"] if "top" in place else height - 1 - place["bottom"]
            x = place["left"] if "left" in place else width - 1 - place["right"]
            stored[row, column] = upright[y, x]
    return stored
