"""The three commands on five layouts of competitions, from raw data to a file that is checked.

python benchmarks/layouts.py --out layouts.json

The photos are drawn. One small network is trained from random weights, so that nothing has to be
downloaded; `export` and `ensemble --tta 4` are typed without any other option. The checker knows
nothing of the toolkit: it reads the sample submission and the answer as CSV.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from toolkit.data.demo import make_demo

RECIPE = """\
description: One small network from random weights, for checks of files.
image_size: 32
batch_size: 16
validation_fraction: 0.2
seed: 42
weights: none
pixels: own
batch_norm_momentum: 0.8
reestimate_batch_norm: true
loss: categorical_crossentropy
optimizer: {name: Adam, learning_rate: 0.001}
head:
  pooling: average
  layers: []
stages:
  - {name: all, epochs: 2, frozen_fraction: 0}
keep_best: val_accuracy
"""

Rows = list[list[str]]


@dataclass(frozen=True)
class Drawn:
    """Photos to build layouts from.

    Attributes:
        train: Path and class of each labelled photo; classes are '0', '1', ...
        test: Path and class of each photo to predict.
    """

    train: list[tuple[Path, str]]
    test: list[tuple[Path, str]]


@dataclass(frozen=True)
class Result:
    """What became of a layout.

    Attributes:
        layout: Its name.
        exit_codes: Of `train-all`, `export` and `ensemble`.
        found: What `toolkit train-all` printed of the data.
        answer: What `toolkit ensemble` printed of the file that is wanted.
        verdict: Of the checker: "accepted", or what is wrong.
    """

    layout: str
    exit_codes: tuple[int, ...]
    found: str
    answer: str
    verdict: str


@click.command()
@click.option("--out", type=click.Path(path_type=Path))
def main(out: Path | None) -> None:
    """Try all layouts, print a table, and write JSON."""
    results = []
    with TemporaryDirectory() as temporary:
        work = Path(temporary)
        make_demo(work / "drawn", train_per_class=24, test_per_class=6)
        drawn = _drawn(work / "drawn")
        recipes = work / "small"
        recipes.mkdir()
        (recipes / "set.yaml").write_text(RECIPE, encoding="utf-8")
        (recipes / "augmentor.yaml").write_text("- HorizontalFlip: {p: 0.5}\n", encoding="utf-8")
        (recipes / "mobilenetv3small.yaml").write_text("# As the set says.\n", encoding="utf-8")
        for name, (build, check) in LAYOUTS.items():
            folder = work / name
            (folder / "data").mkdir(parents=True)
            build(drawn, folder / "data")
            results.append(_tried(name, folder, recipes, check))
            print(f"{name:14}{results[-1].exit_codes!s:12}{results[-1].verdict}", flush=True)
            print(f"{'':26}{results[-1].found}\n{'':26}{results[-1].answer}", flush=True)
    if out:
        content = {"command": sys.argv, "results": [asdict(result) for result in results]}
        out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    sys.exit(any(result.verdict != "accepted" for result in results))


def _tried(name: str, folder: Path, recipes: Path, check: Callable[[Path], None]) -> Result:
    commands = (["train-all", "--recipes", str(recipes)], ["export"], ["ensemble", "--tta", "4"])
    codes, told = [], []
    for command in commands:
        done = subprocess.run(
            [Path(sys.executable).with_name("toolkit"), *command],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        codes.append(done.returncode)
        told.append(done.stderr)
        if done.returncode:
            return Result(name, tuple(codes), "", "", done.stderr.strip().splitlines()[-1])
    try:
        check(folder)
        verdict = "accepted"
    except (AssertionError, OSError, ValueError) as error:
        verdict = f"refused: {error!r}"
    return Result(name, tuple(codes), _line(told[0], "data: "), _line(told[2], "answer: "), verdict)


def _line(told: str, start: str) -> str:
    return next((line for line in told.splitlines() if line.startswith(start)), "")


def _drawn(folder: Path) -> Drawn:
    train = [
        (folder / "train" / row[1] / row[0], row[1]) for row in _read(folder / "train.csv")[1:]
    ]
    test = [
        (folder / "test_upload" / row[0], row[1]) for row in _read(folder / "test-labels.csv")[1:]
    ]
    return Drawn(train, test)


# The layouts


def _original(drawn: Drawn, data: Path) -> None:
    for path, category in drawn.train:
        _copy(path, data / "train" / category / path.name)
    for path, _ in drawn.test:
        _copy(path, data / "test_upload" / path.name)
    _write(data / "train.csv", ["Id", "Category"], [[p.name, c] for p, c in drawn.train])
    rows = [[path.name, "0"] for path, _ in drawn.test]
    _write(data / "sample-submission.csv", ["Id", "Category"], rows)


def _dog_breeds(drawn: Drawn, data: Path) -> None:
    _flat(drawn, data / "train", data / "test")
    breeds = _names(drawn)
    rows = [[path.stem, breeds[category]] for path, category in drawn.train]
    _write(data / "labels.csv", ["id", "breed"], rows)
    columns = sorted(breeds.values(), reverse=True)
    rows = [[path.stem, *["0.125"] * len(columns)] for path, _ in drawn.test]
    _write(data / "sample_submission.csv", ["id", *columns], rows)


def _cassava(drawn: Drawn, data: Path) -> None:
    _flat(drawn, data / "train_images", data / "test_images")
    _write(data / "train.csv", ["image_id", "label"], [[p.name, c] for p, c in drawn.train])
    names = json.dumps(_names(drawn))
    (data / "label_num_to_disease_map.json").write_text(names, encoding="utf-8")
    rows = [[path.name, "4"] for path, _ in drawn.test]
    _write(data / "sample_submission.csv", ["image_id", "label"], rows)


def _tree(drawn: Drawn, data: Path) -> None:
    breeds = _names(drawn)
    for number, (path, category) in enumerate(drawn.train):
        part = "valid" if number % 4 == 0 else "train"
        _copy(path, data / part / breeds[category] / path.name)
    for path, category in drawn.test:
        _copy(path, data / "test" / breeds[category] / path.name)


def _two_classes(drawn: Drawn, data: Path) -> None:
    two = Drawn(
        [(path, c) for path, c in drawn.train if c in "01"],
        [(path, c) for path, c in drawn.test if c in "01"],
    )
    _flat(two, data / "train", data / "test")
    _write(data / "train_labels.csv", ["id", "label"], [[p.stem, c] for p, c in two.train])
    rows = [[path.stem, "0.5"] for path, _ in two.test]
    _write(data / "sample_submission.csv", ["id", "label"], rows)


def _flat(drawn: Drawn, train: Path, test: Path) -> None:
    for folder, photos in ((train, drawn.train), (test, drawn.test)):
        for path, _ in photos:
            _copy(path, folder / path.name)


def _names(drawn: Drawn) -> dict[str, str]:
    return {category: f"kind_{category}" for category in sorted({c for _, c in drawn.train})}


# The checks


def _against_sample(folder: Path) -> tuple[Rows, Rows]:
    (sample,) = (folder / "data").glob("sample*submission.csv")
    wanted, rows = _read(sample), _read(folder / "submission.csv")
    assert rows[0] == wanted[0], "another header"
    assert [row[0] for row in rows] == [row[0] for row in wanted], "other ids or another order"
    return wanted[1:], rows[1:]


def _labels(classes: Sequence[str]) -> Callable[[Path], None]:
    def check(folder: Path) -> None:
        _, rows = _against_sample(folder)
        assert {row[1] for row in rows} <= set(classes), "a label that is no class"

    return check


def _probabilities(folder: Path) -> None:
    for row in _against_sample(folder)[1]:
        values = [Decimal(value) for value in row[1:]]
        assert all(0 <= value <= 1 for value in values), "no probability"
        assert sum(values) == 1, "a row does not sum to 1"


def _share(folder: Path) -> None:
    rows = _against_sample(folder)[1]
    assert all(0 <= float(row[1]) <= 1 for row in rows), "no probability"
    assert len({row[1] for row in rows}) > 1, "the same for all photos"


def _without_sample(folder: Path) -> None:
    photos = {path.name for path in (folder / "data" / "test").rglob("*.jpg")}
    _, *rows = _read(folder / "submission.csv")
    assert {Path(row[0]).name for row in rows} == photos, "other photos"
    classes = {path.name for path in (folder / "data" / "train").iterdir()}
    assert {row[1] for row in rows} <= classes, "a label that is no class"


LAYOUTS: dict[str, tuple[Callable[[Drawn, Path], None], Callable[[Path], None]]] = {
    "original": (_original, _labels("01234567")),
    "dog-breed": (_dog_breeds, _probabilities),
    "cassava": (_cassava, _labels("01234567")),
    "tree": (_tree, _without_sample),
    "two-class": (_two_classes, _share),
}


def _read(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


if __name__ == "__main__":
    main()
