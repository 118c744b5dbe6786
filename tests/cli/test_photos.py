"""Photos that no command may hang at, start a program for, take silently or fall over."""

from __future__ import annotations

import os
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs the files of Unix")


@pytest.fixture
def pipe(home: Path) -> Path:
    """The photo `5.png` of those to predict is a named pipe."""
    path = home / "data" / "test_upload" / "5.png"
    path.unlink()
    os.mkfifo(path)
    return path


def test_ensemble_names_a_pipe_and_does_not_wait_for_it(toolkit, pipe: Path) -> None:
    told = toolkit("ensemble")
    assert told.code == 1
    assert "5.png: is a named pipe, not a file" in told.err
    assert not Path("submission.csv").exists()


def test_ensemble_skips_a_pipe_where_broken_photos_are_skipped(toolkit, pipe: Path) -> None:
    told = toolkit("ensemble", "--skip-broken")
    assert told.code == 0
    assert "5.png: is a named pipe, not a file" in told.out + told.err
    assert len(Path("submission.csv").read_text(encoding="utf-8").splitlines()) == 10


def test_data_lists_a_pipe_among_the_broken_photos(toolkit, pipe: Path) -> None:
    told = toolkit("data")
    assert told.code == 0
    assert "5.png: is a named pipe, not a file" in told.out


def test_training_names_a_pipe_before_it_begins(toolkit, home: Path) -> None:
    path = home / "data" / "train" / "2" / "t0.png"
    path.unlink()
    os.mkfifo(path)
    told = toolkit("train-all", "--recipes", "demo")
    assert told.code == 1
    assert "t0.png: " in told.err
    assert not list(Path("runs").glob("*/*/run.json"))


def test_evaluate_names_a_device_under_the_name_of_a_photo(toolkit, home: Path) -> None:
    photos = home / "data" / "train" / "2"
    (photos / "t0.png").unlink()
    (photos / "t0.png").symlink_to("/dev/zero")
    labels = home / "labels.csv"
    labels.write_text("Id,Category\nt0.png,2\nt3.png,2\n", encoding="utf-8")
    told = toolkit("evaluate", "bundle", "--labels", labels, "--photos", photos)
    assert told.code == 1
    assert "t0.png: is a device, not a file" in told.err


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


def test_no_photo_starts_another_program(
    toolkit, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "programs").mkdir()
    for name in ("gs", "gswin32c", "ghostscript"):
        program = home / "programs" / name
        program.write_text(f"#!{sys.executable}\nopen({str(home / 'started')!r}, 'w')\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(home / "programs"), prepend=os.pathsep)
    assert shutil.which("gs") == str(home / "programs" / "gs")
    (home / "data" / "test_upload" / "5.png").write_bytes(POSTSCRIPT)
    told = toolkit("ensemble")
    assert told.code == 1
    assert "5.png: not a photo in a known format" in told.err
    assert not (home / "started").exists()


def test_a_warning_of_the_decoder_is_one_line_that_names_the_photo(
    toolkit, home: Path, warned: Callable[[Path], None]
) -> None:
    for name in ("data/test_upload/5.png", "data/train/2/t0.png"):
        warned(home / name)
    told = toolkit("ensemble")
    assert told.code == 0
    lines = [line for line in told.err.splitlines() if "Corrupt EXIF data" in line]
    assert len(lines) == 1
    assert lines[0].startswith(str(Path("data/test_upload/5.png")) + ": Corrupt EXIF data")
    told = toolkit("data")
    assert "warnings of the decoder: 2" in told.out
    assert "t0.png: Corrupt EXIF data" in told.out
    assert "Warning" not in told.err


CUT_OFF_EXIF = b"Exif\0\0II*\0" + struct.pack("<IHHHII", 8, 5, 0x0112, 3, 1, 1)


@pytest.fixture
def warned(draw_photo: Callable[..., Image.Image]) -> Callable[[Path], None]:
    """A function that writes a photo which Pillow reads with a warning."""

    def write(path: Path) -> None:
        draw_photo(7).save(path, "JPEG", exif=CUT_OFF_EXIF)
        with pytest.warns(UserWarning, match="Corrupt EXIF data"), Image.open(path) as image:
            image.getexif()

    return write


class TestPhotosOfMoreThanEightBits:
    """The members of the bundle were trained on 12-bit grey kept in 16 bits."""

    @pytest.fixture
    def scaled(self, home: Path) -> Path:
        from dataclasses import replace

        from toolkit.data.ranges import GREY_16, Range
        from toolkit.inference.bundle import load_bundle, save_bundle

        bundle = load_bundle(home / "bundle")
        pixels = replace(bundle.pixels, ranges={GREY_16: Range(0, 4095)})
        save_bundle(replace(bundle, pixels=pixels))
        return home

    def test_one_beyond_the_range_is_clipped_and_reported(self, toolkit, scaled: Path) -> None:
        photo = np.full((8, 8), 5000, dtype=np.uint16)
        Image.fromarray(photo).save(scaled / "data" / "test_upload" / "5.png")
        told = toolkit("ensemble")
        assert told.code == 0
        assert "5.png: its values from 5000 to 5000 are clipped to 0 and 4095" in told.err

    def test_one_of_a_kind_that_was_not_trained_on_is_refused(self, toolkit, scaled: Path) -> None:
        photo = np.full((8, 8), 0.5, dtype=np.float32)
        path = scaled / "data" / "test_upload" / "5.png"
        Image.fromarray(photo).save(path, format="TIFF")
        told = toolkit("ensemble")
        assert told.code == 1
        assert "5.png: has floating-point grey values up to 0.5, and no photo" in told.err


def test_a_link_that_leads_to_itself_is_a_broken_photo(toolkit, home: Path) -> None:
    path = home / "data" / "test_upload" / "5.png"
    path.unlink()
    path.symlink_to(path.name)
    told = toolkit("ensemble")
    assert told.code == 1
    assert "5.png: cannot be read (Too many levels of symbolic links)" in told.err


@pytest.mark.parametrize(
    "name", ["dataset", "images", "labels.json", "class_names.csv", "x.zip", "x.tar.gz", "x.7z"]
)
def test_a_pipe_under_a_name_that_is_looked_at_is_not_waited_for(
    toolkit, home: Path, name: str
) -> None:
    os.mkfifo(home / "data" / name)
    assert toolkit("data").code == 0


@pytest.mark.parametrize("name", ["train.zip", "train.tar.gz", "train.7z"])
def test_a_pipe_in_the_place_of_an_archive_is_named(toolkit, home: Path, name: str) -> None:
    (home / "data" / "train").rename(home / "elsewhere")
    shutil.rmtree(home / "data" / "test_upload")
    os.mkfifo(home / "data" / name)
    told = toolkit("data")
    assert told.code == 1
    assert f"{name}: is a named pipe, not a file" in told.err


@pytest.mark.parametrize("name", ["mine.json", "mine-latency.json"])
def test_what_is_written_beside_a_submission_replaces_no_pipe(
    toolkit, home: Path, name: str
) -> None:
    os.mkfifo(home / name)
    told = toolkit("ensemble", "--out", "mine.csv")
    assert told.code == 1
    assert f"{name}: is a named pipe" in told.err
    assert (home / name).is_fifo()
    assert not (home / "mine.csv").exists()


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("ensemble", "--out"),
        ("ensemble", "--data"),
        ("ensemble", "--bundle"),
        ("ensemble", "--probabilities"),
        ("train-all", "--runs"),
        ("report", "--out"),
        ("plan", "--out"),
        ("data", "--pictures"),
    ],
)
def test_a_path_that_is_not_utf8_is_refused_before_any_work(
    toolkit, home: Path, command: str, option: str
) -> None:
    before = sorted(home.iterdir())
    told = toolkit(command, option, "caf\udce9.csv")
    assert told.code == 2
    assert option in told.err
    assert r"caf\xe9.csv: the name is not UTF-8" in told.err
    assert sorted(home.iterdir()) == before


def test_a_folder_that_is_not_utf8_is_refused_from_python(home: Path) -> None:
    from toolkit.errors import ToolkitError
    from toolkit.reporting.submission import check_paths

    with pytest.raises(ToolkitError, match="not UTF-8"):
        check_paths(Path("caf\udce9/submission.csv"), None)
