"""`toolkit data`: what is in a folder, before anything is trained on it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def messy(home: Path) -> Path:
    """With a broken photo, a near-duplicate of another class, and a test photo among the others."""
    train = home / "data" / "train"
    (train / "2" / "t0.png").write_bytes(b"")
    with Image.open(train / "10" / "t1.png") as photo:
        photo.save(train / "x y" / "t2.png")
    (home / "data" / "test_upload" / "11.png").write_bytes((train / "2" / "t3.png").read_bytes())
    (home / "data" / "classes.csv").write_text("Category,Name\n2,Small car\n", encoding="utf-8")
    return home


def test_a_tidy_folder_has_classes_counts_and_sizes(toolkit, home: Path) -> None:
    found = toolkit("data", "--json").json
    assert found["photos"] == 12
    assert found["to_predict"] == 9
    assert found["classes"] == {"2": 4, "10": 4, "x y": 4}
    assert found["sizes"] == dict.fromkeys(("smallest", "median", "largest"), "100 x 75")
    assert found["broken"] == {}
    assert found["duplicates"] == found["conflicts"] == found["overlap"] == []


def test_all_that_is_wrong_is_in_the_json(toolkit, messy: Path) -> None:
    told = toolkit("data", "--json", "--quiet")
    assert (told.code, told.err) == (0, "")
    found = told.json
    assert found["broken"] == {"data/train/2/t0.png": "the file is empty"}
    pair = {"data/train/10/t1.png", "data/train/x y/t2.png"}
    assert [set(group) for group in found["duplicates"]] == [pair]
    assert [set(group) for group in found["conflicts"]] == [pair]
    assert found["overlap"] == [["data/train/2/t3.png", "data/test_upload/11.png"]]
    assert found["names"] == {"2": "Small car"}


def test_a_test_photo_that_is_like_many_stands_once_with_the_most_like(toolkit, home: Path) -> None:
    labelled = home / "data" / "train" / "2"
    for copy in ("t0.png", "t3.png"):
        shutil.copy(labelled / "t6.png", labelled / copy)
    for copy in ("11.png", "9.png"):
        shutil.copy(labelled / "t6.png", home / "data" / "test_upload" / copy)
    overlap = toolkit("data", "--json").json["overlap"]
    assert overlap == [
        ["data/train/2/t0.png", "data/test_upload/11.png"],
        ["data/train/2/t0.png", "data/test_upload/9.png"],
    ]


def test_all_that_is_wrong_is_in_the_tables(toolkit, messy: Path) -> None:
    told = toolkit("data")
    assert told.code == 0
    assert "data: 12 labelled photos, 9 to predict" in told.out
    assert "Small car" in told.out
    assert "broken photos: 1\n  data/train/2/t0.png: the file is empty\n" in told.out
    assert "groups of near-duplicates: 1\n  data/train/10/t1.png  ~  " in told.out
    assert "of them with different labels: 1\n" in told.out
    assert (
        "near-duplicates between train and test: 1\n"
        "  data/train/2/t3.png  ~  data/test_upload/11.png\n"
    ) in told.out


def test_long_lists_are_cut_and_say_so(toolkit, home: Path) -> None:
    for path in (home / "data" / "train").glob("*/*.png"):
        path.write_bytes(b"")
    told = toolkit("data")
    assert "broken photos: 12\n" in told.out
    assert "  ... and 2 more (--json lists all)\n" in told.out


def test_pictures_are_drawn(toolkit, messy: Path) -> None:
    told = toolkit("data", "--pictures", "pictures")
    assert told.code == 0, told.err
    assert sorted(path.name for path in (messy / "pictures").iterdir()) == [
        "classes.png",
        "samples.png",
    ]


def test_where_no_photo_can_be_read_the_samples_are_left_out(toolkit, home: Path) -> None:
    for path in (home / "data" / "train").glob("*/*.png"):
        path.write_bytes(b"")
    told = toolkit("data", "--pictures", "pictures")
    assert told.code == 0, told.err
    assert "pictures/samples.png: not drawn" in told.err
    assert [path.name for path in (home / "pictures").iterdir()] == ["classes.png"]


def test_what_is_passed_over_in_folders_without_a_csv_is_told(toolkit, home: Path) -> None:
    data = home / "data"
    (data / "train" / "2" / "raw.cr2").write_bytes(b"")
    (data / "train" / "2" / ".hidden").write_bytes(b"")
    (data / "test_upload" / "more").mkdir()
    (data / "test_upload" / "more" / "a.png").write_bytes(b"")
    assert toolkit("data", "--json").json["passed_over"] == []
    assert "passed over: 0\n" in toolkit("data").out
    (data / "train.csv").unlink()
    (data / "sample-submission.csv").unlink()
    told = toolkit("data")
    assert "passed over: 1\n  data/train/2/raw.cr2: no photo by its suffix\n" in told.out
    assert "data: 12 labelled photos, 10 to predict" in told.out


def test_a_folder_without_photos_is_refused(toolkit, here: Path) -> None:
    (here / "data").mkdir()
    told = toolkit("data")
    assert told.code == 1
    assert told.err == (
        "error: data: no labelled photos (it is empty). Expected a table of ids and labels, which "
        "--labels FILE names, or a folder of photos for each class.\n"
    )


def test_without_test_photos_there_is_nothing_to_predict(toolkit, home: Path) -> None:
    (home / "data" / "sample-submission.csv").unlink()
    shutil.rmtree(home / "data" / "test_upload")
    assert toolkit("data", "--json").json["to_predict"] == 0
