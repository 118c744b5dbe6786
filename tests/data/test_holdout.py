"""Labelled photos made ready: all that is wrong is told at once, likeness is respected."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from toolkit.data.dataset import Dataset
from toolkit.data.holdout import Prepared, prepare
from toolkit.data.labelled import load_labelled
from toolkit.data.pixels import PixelDefinition
from toolkit.data.reading import Reading
from toolkit.errors import ToolkitError
from toolkit.progress import Reporter


@pytest.fixture
def data(tmp_path: Path, draw_photo: Callable[..., Image.Image]) -> Path:
    """Two classes of ten photos; the last two of each are copies of its first."""
    for label, category in enumerate(("bus", "car")):
        folder = tmp_path / "data" / "train" / category
        folder.mkdir(parents=True)
        for number in range(10):
            seed = 100 * label + (number if number < 8 else 0)
            draw_photo(seed).save(folder / f"{number}.jpg", quality=95 - 10 * number)
    return tmp_path / "data"


def test_sound_photos_are_all_kept_in_order(data: Path) -> None:
    dataset = load_labelled(data)
    prepared = prepare(dataset, skip_broken=False)
    assert prepared.dataset == dataset
    assert prepared.left_out == ()
    np.testing.assert_array_equal(prepared.labels, np.repeat([0, 1], 10))
    assert len(prepared.facts) == 20


def test_copies_are_one_group_and_stay_on_one_side(data: Path) -> None:
    prepared = prepare(load_labelled(data), skip_broken=False)
    for first in (0, 10):
        assert len(set(prepared.groups[[first, first + 8, first + 9]])) == 1
    assert len(set(prepared.groups)) == 16
    for seed in range(20):
        held_out = prepared.held_out(0.3, seed)
        assert held_out.sum() == 6
        assert len(set(held_out[[0, 8, 9]])) == len(set(held_out[[10, 18, 19]])) == 1


def break_photos(data: Path, count: int) -> list[Path]:
    broken = []
    for number in range(count):
        broken.append(data / "train" / "bus" / f"broken{number}.jpg")
        broken[-1].write_bytes(b"" if number % 2 else b"no photo")
    return broken


def test_all_broken_photos_are_listed_with_their_reasons(data: Path) -> None:
    broken = break_photos(data, 30)
    with pytest.raises(
        ToolkitError, match=r"30 of 50 labelled photos .*`skip_broken=True`"
    ) as caught:
        prepare(load_labelled(data), skip_broken=False)
    for number, path in enumerate(broken):
        reason = "the file is empty" if number % 2 else "not a photo in a known format"
        assert f"{path}: {reason}" in str(caught.value)


def test_broken_photos_are_left_out_where_that_is_asked(data: Path) -> None:
    sound = load_labelled(data)
    break_photos(data, 3)
    prepared = prepare(load_labelled(data), skip_broken=True)
    assert prepared.left_out == ("bus/broken0.jpg", "bus/broken1.jpg", "bus/broken2.jpg")
    assert prepared.dataset == sound
    assert len(prepared.facts) == len(prepared.labels) == len(prepared.groups) == 20


@pytest.mark.parametrize("skip_broken", [False, True])
def test_photos_none_of_which_can_be_read_are_refused(data: Path, skip_broken: bool) -> None:
    for path in data.rglob("*.jpg"):
        path.write_bytes(b"no photo")
    with pytest.raises(ToolkitError, match="none of the 20 labelled photos can be read") as caught:
        prepare(load_labelled(data), skip_broken=skip_broken)
    assert "--skip-broken" not in str(caught.value)


def test_many_broken_photos_are_a_warning(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_photos(data, 1)
    prepare(load_labelled(data), skip_broken=True)
    assert capsys.readouterr().err == ""
    break_photos(data, 3)
    prepare(load_labelled(data), skip_broken=True)
    expected = "warning: 3 of 23 labelled photos are left out as broken\n"
    assert capsys.readouterr().err == expected


def test_what_the_data_holds_out_is_held_out(data: Path) -> None:
    for number in range(2, 5):
        target = data / "valid" / "bus" / f"{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        (data / "train" / "bus" / f"{number}.jpg").rename(target)
    prepared = prepare(load_labelled(data), skip_broken=False)
    assert prepared.given is not None
    held_out = {prepared.dataset.photos[index].id for index in np.flatnonzero(prepared.given)}
    assert held_out == {"valid/bus/2.jpg", "valid/bus/3.jpg", "valid/bus/4.jpg"}


def test_a_class_that_is_only_held_out_is_refused(data: Path) -> None:
    (data / "train" / "bus").rename(data / "bus")
    (data / "valid").mkdir()
    (data / "bus").rename(data / "valid" / "bus")
    with pytest.raises(ToolkitError, match="holds out all photos of 1 classes"):
        prepare(load_labelled(data), skip_broken=False)


def test_copies_of_training_photos_among_those_held_out_are_a_warning(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "valid" / "bus").mkdir(parents=True)
    (data / "train" / "bus" / "9.jpg").rename(data / "valid" / "bus" / "9.jpg")
    prepare(load_labelled(data), skip_broken=False)
    assert (
        "warning: 1 of the 1 photos that the data holds out are near-d" in capsys.readouterr().err
    )


def test_groups_of_the_data_are_joined_with_near_duplicates(data: Path) -> None:
    # Photos 0, 8 and 9 are alike; 8 and 3 are of one patient, 3 and 5 are not.
    rows = [
        f"{c}/{n}.jpg,{c},{'p' if (c, n) in (('bus', 8), ('bus', 3)) else f'{c}{n}'}"
        for c in ("bus", "car")
        for n in range(10)
    ]
    (data / "train.csv").write_text("\n".join(["path,label,patient", *rows]), encoding="utf-8")
    dataset = load_labelled(data, Reading(group_column="patient"))
    groups = prepare(dataset, skip_broken=False).groups
    assert len(set(groups[[0, 3, 8, 9]])) == 1
    assert len(set(groups)) == 15


def test_one_class_is_nothing_to_train_on(data: Path) -> None:
    shutil.rmtree(data / "train" / "bus")
    with pytest.raises(ToolkitError, match=r"at least 2 classes to train on, received 1\."):
        prepare(load_labelled(data), skip_broken=False)


def test_a_class_left_without_photos_is_an_error(data: Path) -> None:
    (data / "train" / "van").mkdir()
    (data / "train" / "van" / "only.jpg").write_bytes(b"no photo")
    with pytest.raises(ToolkitError, match="class 'van' has no readable photo"):
        prepare(load_labelled(data), skip_broken=True)


class Told(Reporter):
    """Keeps what it is told."""

    lines: ClassVar[list[str]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def warn(self, line: str) -> None:
        self.lines.append(f"warning: {line}")


def prepared_of(counts: list[int], groups: NDArray[np.int64] | None = None) -> Prepared:
    """Labelled photos of so many a class; only labels and groups matter."""
    labels = np.repeat(np.arange(len(counts)), counts)
    classes = tuple(f"c{number}" for number in range(len(counts)))
    groups = np.arange(len(labels)) if groups is None else groups
    return Prepared(Dataset(Path("data"), classes, ()), (), labels, groups, (), PixelDefinition())


def told_of(prepared: Prepared, fraction: float = 0.2) -> list[str]:
    Told.lines.clear()
    prepared.tell_split(prepared.held_out(fraction, 42), fraction, Told())
    return list(Told.lines)


def test_classes_without_a_held_out_photo_are_counted() -> None:
    assert told_of(prepared_of([100, 100])) == ["held out 40 of 200 photos (20.0%)"]
    (line,) = told_of(prepared_of([300, 300, 1, 1]))
    assert line.startswith("held out 120 of 602 photos (19.9%); 2 of 4 classes have none: c2, c3")
    (line,) = told_of(prepared_of([300] + [2] * 1000))
    assert line.startswith("warning: held out 460 of 2300 photos (20.0%); 600 of 1001 classes have")
    assert "Do not rely on figures of them: only 401 of 1001 classes are among" in line


def test_too_few_held_out_photos_are_told_even_to_who_wants_quiet() -> None:
    (line,) = told_of(prepared_of([20, 20]))
    assert line == (
        "warning: held out 8 of 40 photos (20.0%). Do not rely on figures of them: only 8 photos "
        "(at least 30 are needed)"
    )


def test_groups_that_are_too_large_to_divide_are_told() -> None:
    groups = np.array([0] * 180 + [1] * 20 + [2] * 180 + [3] * 20)
    lines = told_of(prepared_of([200, 200], groups), 0.3)
    assert lines[0] == "held out 40 of 400 photos (10.0%)"
    assert lines[1].startswith("warning: 10% of the photos are held out, not 30%: groups")


@pytest.mark.parametrize(
    ("counts", "only"), [([100, 1], "all of 'c0'"), ([1, 1], "none"), ([1, 1, 60], "all of 'c2'")]
)
def test_a_figure_of_one_class_is_refused(counts: list[int], only: str) -> None:
    with pytest.raises(ToolkitError, match=f"too few photos to hold some out .* {only}"):
        prepared_of(counts).held_out(0.2, 42)
