"""The decoder: upright whatever the EXIF, in documented formats, in bounded memory, in one line."""

from __future__ import annotations

import importlib.util
import io
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from toolkit.data.budget import MemoryBudget
from toolkit.data.decoder import (
    DECODING_BYTES,
    MAX_SIDE,
    BrokenPhotoError,
    decode,
    read_photo,
)
from toolkit.data.formats import DECODER_VERSION, FORMATS

HAS_HEIF = importlib.util.find_spec("pillow_heif") is not None
needs_heif = pytest.mark.skipif(not HAS_HEIF, reason="pillow-heif is not installed")

# Orientation, then a rational with denominator 0, which Pillow reads and cannot write again.
_RATIONAL = struct.pack("<HHII", 0x011A, 10, 1, 8 + 2 + 2 * 12 + 4)


def exif_that_cannot_be_rewritten(orientation: int) -> bytes:
    tags = struct.pack("<HHHII", 2, 0x0112, 3, 1, orientation) + _RATIONAL + bytes(4)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + tags + struct.pack("<ii", -1, 0)


def plain_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def as_tiff(image: Image.Image, exif: bytes) -> bytes:
    """A TIFF keeps the tags itself: the orientation, and a resolution of 1/0."""
    orientation = Image.Exif()
    orientation.load(exif)
    content = saved(image, "TIFF", tiffinfo={0x0112: orientation[0x0112]}, dpi=(72, 72))
    if 0x011A in orientation:
        with Image.open(io.BytesIO(content)) as read:
            entry = content.index(struct.pack("<HHI", 0x011A, 5, 1), read.tag_v2.offset or 0)
        place = struct.unpack_from("<I", content, entry + 8)[0]
        content = content[: place + 4] + bytes(4) + content[place + 8 :]
    return content


def as_mpo(image: Image.Image, exif: bytes) -> bytes:
    best = {"quality": 95, "subsampling": 0}
    return saved(image, "MPO", exif=exif, save_all=True, append_images=[image.rotate(90)], **best)


CONTAINERS: dict[str, Callable[[Image.Image, bytes], bytes]] = {
    "JPEG": lambda image, exif: saved(image, "JPEG", exif=exif, quality=95, subsampling=0),
    "PNG": lambda image, exif: saved(image, "PNG", exif=exif),
    "WebP": lambda image, exif: saved(image, "WEBP", exif=exif, lossless=True),
    "TIFF": as_tiff,
    "MPO": as_mpo,
}
if features.check("avif"):
    CONTAINERS["AVIF"] = lambda image, exif: saved(
        image, "AVIF", exif=exif, quality=95, subsampling="4:4:4"
    )


def assert_upright(image: Image.Image, upright: Image.Image) -> None:
    difference = np.asarray(image).astype(int) - np.asarray(upright)
    # The middle of each quarter; between them formats that lose something blur.
    for y in (8, 24):
        for x in (12, 36):
            assert np.abs(difference[y, x]).max() <= 12, (y, x)


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("container", CONTAINERS)
    def test_photos_of_all_formats_are_turned_upright(
        self, stored: Callable[[int], Image.Image], container: str, orientation: int
    ) -> None:
        content = CONTAINERS[container](stored(orientation), plain_exif(orientation))
        photo = read_photo(content)
        assert photo.image.size == (photo.width, photo.height) == (48, 32)
        assert_upright(photo.image, stored(1))

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("container", ["JPEG", "PNG", "WebP", "TIFF", "MPO"])
    def test_so_are_those_whose_exif_pillow_cannot_write(
        self, stored: Callable[[int], Image.Image], container: str, orientation: int
    ) -> None:
        exif = exif_that_cannot_be_rewritten(orientation)
        content = CONTAINERS[container](stored(orientation), exif)
        photo = read_photo(content)
        assert photo.image.size == (photo.width, photo.height) == (48, 32)
        assert_upright(photo.image, stored(1))

    def test_the_case_is_one_that_pillow_itself_cannot_turn(
        self, stored: Callable[[int], Image.Image]
    ) -> None:
        from PIL import ImageOps

        content = CONTAINERS["JPEG"](stored(6), exif_that_cannot_be_rewritten(6))
        with Image.open(io.BytesIO(content)) as image, pytest.raises(struct.error):
            ImageOps.exif_transpose(image)

    @needs_heif
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_heif_is_turned_once(
        self, stored: Callable[[int], Image.Image], orientation: int
    ) -> None:
        content = saved(
            stored(orientation), "HEIF", exif=plain_exif(orientation), quality=95, chroma=444
        )
        assert_upright(decode(content), stored(1))

    @pytest.mark.parametrize("value", [0, 9, 300, 65535])
    def test_a_number_that_is_no_orientation_counts_as_upright(
        self, stored: Callable[[int], Image.Image], value: int
    ) -> None:
        exif = exif_that_cannot_be_rewritten(value)
        assert_upright(decode(CONTAINERS["JPEG"](stored(1), exif)), stored(1))

    @pytest.mark.parametrize(
        "exif",
        [
            b"Exif\0\0",
            b"Exif\0\0no such thing",
            b"Exif\0\0II*\0" + struct.pack("<I", 10**9),
            b"Exif\0\0II*\0" + struct.pack("<IH", 8, 65535),
            b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 1, 0x0112, 2, 2) + b"6\0\0\0" + bytes(4),
            b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 1, 0x0112, 12, 1) + bytes(8),
        ],
        ids=["empty", "junk", "beyond the end", "many tags", "text", "float elsewhere"],
    )
    def test_broken_exif_counts_as_upright(
        self, stored: Callable[[int], Image.Image], exif: bytes
    ) -> None:
        for container in ("JPEG", "WebP", "PNG"):
            content = saved(stored(1), "PNG" if container == "PNG" else container.upper())
            if container != "PNG":
                content = CONTAINERS[container](stored(1), exif)
            assert_upright(decode(content), stored(1))


class TestFormats:
    OTHERS = ("ICO", "PCX", "SGI", "EPS", "ICNS", "DDS", "PDF")

    @pytest.mark.parametrize("format", OTHERS)
    def test_others_than_the_documented_ones_are_not_tried(self, format: str) -> None:
        with pytest.raises(BrokenPhotoError, match="not a photo in a known format"):
            decode(saved(Image.new("RGB", (32, 32)), format))

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "DIB", "PPM"])
    def test_the_documented_ones_are_read_whatever_the_file_is_called(
        self, format: str, tmp_path: Path, stored: Callable[[int], Image.Image]
    ) -> None:
        path = tmp_path / "photo.of_no_format"
        path.write_bytes(saved(stored(1), format))
        assert_upright(decode(path), stored(1))

    @pytest.mark.parametrize("format", ["JPEG2000", "TGA"])
    def test_rare_ones_are_read_too(
        self, format: str, stored: Callable[[int], Image.Image]
    ) -> None:
        assert_upright(decode(saved(stored(1), format)), stored(1))

    @needs_heif
    def test_heif_is_read_where_its_package_is_installed(
        self, stored: Callable[[int], Image.Image]
    ) -> None:
        assert "HEIF" in FORMATS
        assert "pillow-heif" in DECODER_VERSION
        assert_upright(decode(saved(stored(1), "HEIF", quality=95)), stored(1))

    @pytest.mark.parametrize(
        ("name", "content", "package"),
        [
            ("HEIF", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pillow-heif"),
            ("JXL", b"\xff\x0a\x00\x10", "pillow-jxl-plugin"),
            ("JXL", b"\0\0\0\x0cJXL \r\n\x87\n", "pillow-jxl-plugin"),
        ],
    )
    def test_without_its_package_the_package_is_named(
        self, name: str, content: bytes, package: str
    ) -> None:
        program = (
            "import sys; sys.modules.update(pillow_heif=None, pillow_jxl=None)\n"
            "from toolkit.data.pixels import DECODER_VERSION, BrokenPhotoError, decode\n"
            "assert 'pillow-' not in DECODER_VERSION\n"
            f"try: decode({content!r})\n"
            "except BrokenPhotoError as error: print(error.reason)"
        )
        run = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )
        assert run.stdout == f"a {name} photo, which needs another package: pip install {package}\n"


def png_header(width: int, height: int, colours: int = 0) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b""))


class TestMemory:
    @pytest.mark.parametrize(
        "size",
        [(199_000_000, 1), (1, 199_000_000), (MAX_SIDE + 1, 3), (100_000, 1_000)],
        ids=lambda size: f"{size[0]} x {size[1]}",
    )
    def test_a_side_that_is_too_long_is_one_line(self, size: tuple[int, int]) -> None:
        with pytest.raises(BrokenPhotoError, match=r"a side is longer than 65,535; scale it down"):
            decode(png_header(*size))

    def test_a_thin_photo_of_the_longest_side_is_read(self) -> None:
        content = saved(Image.new("L", (MAX_SIDE, 2), 80), "PNG")
        photo = read_photo(content)
        assert (photo.width, photo.height) == (MAX_SIDE, 2)

    @pytest.mark.parametrize(
        "size", [(14_200, 14_200), (20_100, 20_100), (60_000, 60_000)], ids=str
    )
    def test_a_bomb_is_refused_before_anything_is_decoded(self, size: tuple[int, int]) -> None:
        started = time.process_time()
        with pytest.raises(BrokenPhotoError, match=r"more than the 200,000,000 (pixels )?that are"):
            decode(png_header(*size))
        assert time.process_time() - started < 5

    def test_what_decoding_takes_is_weighed_by_the_format(self) -> None:
        # 9 components x 4 bytes: JPEG 2000 keeps whole numbers of 32 bits.
        size = (12_500, 12_500)
        assert size[0] * size[1] * 20 > DECODING_BYTES
        siz = struct.pack(">HIIIIIIIIH", 0, *size, 0, 0, *size, 0, 0, 3) + 3 * b"\x07\x01\x01"
        content = b"\xff\x4f\xff\x51" + struct.pack(">H", len(siz) + 2) + siz
        with pytest.raises(BrokenPhotoError, match=r"takes \d\.\d GiB of memory, more than 2"):
            decode(content)

    @pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
    def test_too_little_memory_is_one_line(self, tmp_path: Path) -> None:
        Image.new("P", (9_000, 9_000)).save(tmp_path / "large.png", compress_level=1)
        program = (
            "import resource, sys; from pathlib import Path\n"
            "from toolkit.data.decoder import BrokenPhotoError, decode\n"
            "size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
            "resource.setrlimit(resource.RLIMIT_AS, (size + 50 * 2**20,) * 2)\n"
            "try: decode(Path(sys.argv[1]))\n"
            "except BrokenPhotoError as error: print(error.reason)"
        )
        command = [sys.executable, "-c", program, str(tmp_path / "large.png")]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.stdout == "there is too little memory to decode it\n", run.stderr

    def test_a_large_photo_is_averaged_to_no_less_than_1024_a_side(self) -> None:
        values = np.random.default_rng(2).integers(0, 256, (2100, 3300, 3), dtype=np.uint8)
        image = decode(saved(Image.fromarray(values), "PNG", compress_level=0))
        blocks = values.reshape(1050, 2, 1650, 2, 3).mean(axis=(1, 3))
        assert image.size == (1650, 1050)
        assert np.abs(np.asarray(image) - blocks).max() <= 0.5

    def test_bands_of_a_large_photo_leave_no_seam(self) -> None:
        alpha = np.linspace(0, 255, 2500 * 2300).reshape(2500, 2300).astype(np.uint8)
        values = np.dstack([np.zeros((2500, 2300, 3), np.uint8), alpha])
        image = np.asarray(decode(saved(Image.fromarray(values), "PNG", compress_level=0)))
        blocks = (255 - alpha.astype(float)).reshape(1250, 2, 1150, 2).mean(axis=(1, 3))
        assert np.abs(image - blocks[..., None]).max() <= 1


class TestBudget:
    def test_threads_never_hold_more_than_there_is(self) -> None:
        budget, lock = MemoryBudget(10), threading.Lock()
        held = most = 0

        def work(amount: int) -> None:
            nonlocal held, most
            with budget.reserved(amount):
                with lock:
                    held += amount
                    most = max(most, held)
                time.sleep(0.001)
                with lock:
                    held -= amount

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, [3, 10, 1, 6, 6, 2, 9, 4, 5, 10] * 3))
        assert held == 0
        assert 6 < most <= 10

    def test_what_fails_gives_back_what_it_held(self) -> None:
        budget = MemoryBudget(10)
        for _ in range(3):
            with pytest.raises(KeyError), budget.reserved(10):
                raise KeyError


CUT_OFF_EXIF = b"Exif\0\0II*\0" + struct.pack("<IHHHII", 8, 5, 0x0112, 3, 1, 1)


class TestWarnings:
    @pytest.fixture
    def warned(self, draw_photo: Callable[..., Image.Image]) -> bytes:
        return saved(draw_photo(1), "JPEG", exif=CUT_OFF_EXIF)

    def test_they_are_notes_of_the_photo(self, warned: bytes, hostile_photos: Path) -> None:
        notes = read_photo(warned).notes
        assert len(notes) == 1
        assert notes[0].startswith("Corrupt EXIF data.")
        assert read_photo(hostile_photos / "whole.jpg").notes == ()

    def test_a_photo_that_pillow_misreads_as_animated_is_noted(
        self, draw_photo: Callable[..., Image.Image]
    ) -> None:
        content = saved(draw_photo(1), "PNG")
        kind = b"acTL" + struct.pack(">II", 0, 0)
        chunk = struct.pack(">I", 8) + kind + struct.pack(">I", zlib.crc32(kind))
        assert read_photo(content[:33] + chunk + content[33:]).notes[0].startswith("Invalid APNG")

    def test_each_photo_has_its_own_whatever_others_threads_read(
        self, warned: bytes, hostile_photos: Path
    ) -> None:
        whole = (hostile_photos / "whole.jpg").read_bytes()
        with ThreadPoolExecutor(8) as pool:
            photos = list(pool.map(read_photo, [warned, whole] * 40))
        assert [len(photo.notes) for photo in photos] == [1, 0] * 40

    def test_other_warnings_go_where_they_went(self, warned: bytes) -> None:
        with pytest.warns(UserWarning, match="ours"):
            read_photo(warned)
            warnings.warn("ours", stacklevel=1)

    def test_a_broken_tiff_prints_nothing_of_its_own(
        self, stored: Callable[..., Image.Image]
    ) -> None:
        content = bytearray(saved(stored(1), "TIFF", compression="tiff_lzw"))
        content[40:60] = b"\xff" * 20
        assert_broken_in_one_line(bytes(content))

    def test_what_pillow_logs_is_not_printed(self, stored: Callable[..., Image.Image]) -> None:
        content = bytearray(saved(stored(1), "TIFF"))
        entry = content.index(struct.pack("<HHI", 277, 3, 1))  # samples per pixel
        content[entry + 8 : entry + 10] = struct.pack("<H", 2048)
        assert_broken_in_one_line(bytes(content))

    def test_nothing_reaches_standard_error(self, warned: bytes, tmp_path: Path) -> None:
        (tmp_path / "photo.jpg").write_bytes(warned)
        program = (
            "import sys; from pathlib import Path\n"
            "from toolkit.data.survey import survey\n"
            "print(survey([Path(sys.argv[1])])[0].notes)"
        )
        command = [sys.executable, "-W", "always", "-c", program, str(tmp_path / "photo.jpg")]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Corrupt EXIF data" in run.stdout
        assert "EXIF" not in run.stderr


def assert_broken_in_one_line(content: bytes) -> None:
    """Decode it in a process of its own: libraries that print do so past Python."""
    program = (
        "from toolkit.data.decoder import BrokenPhotoError, decode\n"
        f"try: decode({content!r})\n"
        "except BrokenPhotoError as error: print(error.reason)"
    )
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.stdout.count("\n"), run.stderr) == (1, "")


def test_the_survey_remembers_notes(tmp_path: Path, draw_photo: Callable[..., Image.Image]) -> None:
    from toolkit.data.survey import survey

    path = tmp_path / "photo.jpg"
    draw_photo(1).save(path, exif=CUT_OFF_EXIF)
    first, again = survey([path]), survey([path])
    assert first == again
    assert first[0].notes[0].startswith("Corrupt EXIF data.")
