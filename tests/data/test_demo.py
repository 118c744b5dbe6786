"""The demo set: the same bytes for the same seed, a complete layout, nothing overwritten.

What tells the kinds apart is the vehicle: neither the mean colour nor anything of the file does.
"""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from toolkit.data.demo import CLASSES, make_demo
from toolkit.errors import ToolkitError


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def photos(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name.endswith(".jpg")}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set") / "demo"
    make_demo(folder, seed=7, train_per_class=2, test_per_class=1)
    return folder


def test_same_seed_gives_the_same_bytes(demo: Path, tmp_path: Path) -> None:
    make_demo(tmp_path, seed=7, train_per_class=2, test_per_class=1)  # Empty, so it may exist.
    assert contents(tmp_path) == contents(demo)


def test_another_seed_gives_other_photos(demo: Path, tmp_path: Path) -> None:
    make_demo(tmp_path / "demo", seed=8, train_per_class=2, test_per_class=1)
    assert not set(photos(tmp_path / "demo").values()) & set(photos(demo).values())


def test_more_photos_leave_the_earlier_ones(demo: Path, tmp_path: Path) -> None:
    make_demo(tmp_path / "demo", seed=7, train_per_class=3, test_per_class=2)
    extended = photos(tmp_path / "demo")
    assert len(extended) == 5 * CLASSES
    assert photos(demo).items() <= extended.items()


def test_layout_is_complete(demo: Path) -> None:
    train, test = rows(demo / "train.csv"), rows(demo / "test-labels.csv")
    listed = {f"train/{row['Category']}/{row['Id']}" for row in train}
    listed |= {f"test_upload/{row['Id']}" for row in test}
    assert listed == set(photos(demo))
    ids = [row["Id"] for row in train + test]
    assert len(set(ids)) == len(ids) == 3 * CLASSES
    assert all(len(name) == len("387071.jpg") for name in ids)
    assert sorted(row["Category"] for row in test) == [str(c) for c in range(CLASSES)]
    submission = rows(demo / "sample-submission.csv")
    assert submission == [{"Id": row["Id"], "Category": "0"} for row in test]
    classes = rows(demo / "classes.csv")
    assert [row["Category"] for row in classes] == [str(c) for c in range(CLASSES)]
    assert len({row["Name"] for row in classes}) == CLASSES
    assert (demo / "train.csv").read_bytes().startswith(b"Id,Category\n")
    assert [path.name for path in demo.parent.iterdir()] == ["demo"]  # Nothing temporary is left.


def test_photos_are_landscape_and_differ(demo: Path) -> None:
    assert len(set(photos(demo).values())) == 3 * CLASSES
    for name in photos(demo):
        image = cv2.imread(str(demo / name))
        assert image is not None
        height, width = image.shape[:2]
        assert 120 <= width <= 240
        assert 1.3 < width / height < 1.81


def test_refuses_a_folder_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(ToolkitError, match="not an empty folder") as raised:
        make_demo(tmp_path, train_per_class=1, test_per_class=1)
    assert str(tmp_path) in str(raised.value)
    assert contents(tmp_path) == {"mine.txt": b"keep me"}


def test_refuses_numbers_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="train_per_class"):
        make_demo(tmp_path / "demo", train_per_class=0)
    with pytest.raises(ToolkitError, match="seed"):
        make_demo(tmp_path / "demo", seed=-1)
    assert not (tmp_path / "demo").exists()


MANY = 60


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many") / "demo"
    make_demo(folder, train_per_class=MANY, test_per_class=1)
    return folder


def shares_found(
    facts: NDArray[np.floating], labels: NDArray[np.int64]
) -> list[NDArray[np.floating]]:
    """Return the share of each kind that each of three classifiers finds, cross-validated."""
    classifiers = (
        RandomForestClassifier(40, min_samples_leaf=4, random_state=0),
        KNeighborsClassifier(25),
        make_pipeline(StandardScaler(), PolynomialFeatures(2), LogisticRegression(max_iter=2000)),
    )
    predicted = [cross_val_predict(each, facts, labels, cv=5) for each in classifiers]
    return [
        np.array([(rows[labels == kind] == kind).mean() for kind in range(CLASSES)])
        for rows in predicted
    ]


def kinds_and_files(folder: Path) -> tuple[NDArray[np.int64], list[Path]]:
    files = sorted((folder / "train").rglob("*.jpg"), key=lambda path: path.name)
    return np.array([int(path.parent.name) for path in files]), files


def test_no_kind_is_told_by_its_mean_colour(many: Path) -> None:
    labels, files = kinds_and_files(many)
    colours = np.array([np.asarray(Image.open(path)).mean(axis=(0, 1)) for path in files])
    for shares in shares_found(colours, labels):
        assert 1 / CLASSES < shares.mean() < 0.45  # Some colours are typical of a kind,
        assert shares.max() <= 0.6  # none gives it away.


def test_nothing_of_the_file_tells_the_kind(many: Path) -> None:
    labels, files = kinds_and_files(many)
    facts = []
    for path in files:
        with Image.open(path) as photo:
            quality = [sum(table) for table in photo.quantization.values()]
            size = path.stat().st_size
            shape, density = photo.width / photo.height, size / photo.width / photo.height
            facts.append([int(path.stem), *photo.size, shape, *quality, size, density])
    chance = 1 / CLASSES
    margin = 4 * np.sqrt(chance * (1 - chance) / len(labels))
    for shares in shares_found(np.array(facts, dtype=np.float64), labels):
        assert shares.mean() < chance + margin


def test_there_are_kinds_enough() -> None:
    assert CLASSES >= 6
