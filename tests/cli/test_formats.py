"""The file that a competition wants: checked by a reader of its own, and scored again."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

PHOTOS = tuple(f"p{number}" for number in (7, 3, 11, 5, 2, 9))
BREEDS = ("beagle", "boxer", "chow", "collie", "pug", "saluki")

Rows = list[list[str]]


@pytest.fixture
def folder(here: Path, draw_photo: Callable[..., Image.Image]) -> Path:
    """A folder of photos to predict, `data/test/*.jpg`."""
    (here / "data" / "test").mkdir(parents=True)
    for seed, id in enumerate(PHOTOS):
        draw_photo(seed, (60, 50)).save(here / "data" / "test" / f"{id}.jpg")
    return here


def write(path: Path, rows: Sequence[Sequence[str]], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def read(path: Path, delimiter: str = ",") -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


class Checker:
    """Holds a submission to the sample, as a competition's server does. It knows no toolkit."""

    def __init__(self, sample: Path, out: Path, delimiter: str = ",") -> None:
        self.wanted, self.rows = read(sample, delimiter), read(out, delimiter)
        assert self.rows[0] == self.wanted[0], "another header"
        assert len(self.rows) == len(self.wanted), "another number of rows"
        assert out.read_bytes().endswith(b"\n")
        assert b"\r" not in out.read_bytes()

    def column(self, name: str) -> list[str]:
        place = self.rows[0].index(name)
        return [row[place] for row in self.rows[1:]]

    def kept(self, *names: str) -> Checker:
        for name in names:
            place = self.wanted[0].index(name)
            assert self.column(name) == [row[place] for row in self.wanted[1:]], name
        return self

    def labels(self, name: str, classes: Sequence[str]) -> Checker:
        assert set(self.column(name)) <= set(classes)
        return self

    def probabilities(self, columns: Sequence[str], smallest: str = "0") -> Checker:
        table = [[Decimal(value) for value in self.column(name)] for name in columns]
        for row in zip(*table, strict=True):
            assert sum(row) == 1, "a row does not sum to 1"
            assert all(Decimal(smallest) <= value <= 1 for value in row)
        return self

    def shares(self, name: str) -> Checker:
        assert all(0 <= float(value) <= 1 for value in self.column(name))
        return self


def dog_breeds(folder: Path) -> Path:
    """Ids without a suffix, one column a class, in an order of its own."""
    columns = ["id", *reversed(BREEDS)]
    rows = [[id, *["0.1666"] * len(BREEDS)] for id in PHOTOS]
    return write(folder / "data" / "sample_submission.csv", [columns, *rows])


class TestOneColumnAClass:
    def test_it_holds_probabilities_by_name(self, toolkit, folder: Path, bundle_of) -> None:
        bundle_of(folder / "bundle", BREEDS)
        sample = dog_breeds(folder)
        told = toolkit("ensemble", "--probabilities", "p.csv")
        assert told.code == 0, told.err
        assert "answer: sample_submission.csv: probabilities, one column a class (6)" in told.err
        found = Checker(sample, folder / "submission.csv").kept("id").probabilities(BREEDS)
        exact = {row[0]: row[1:] for row in read(folder / "p.csv")[1:]}
        header = read(folder / "p.csv")[0]
        for number, id in enumerate(PHOTOS):
            for name in BREEDS:
                value = float(exact[id][header.index(name) - 1])
                assert float(found.column(name)[number]) == pytest.approx(value, abs=1e-14)

    def test_it_is_scored_by_what_it_holds(self, toolkit, folder: Path, bundle_of) -> None:
        bundle_of(folder / "bundle", BREEDS)
        dog_breeds(folder)
        toolkit("ensemble", "--quiet")
        header, *rows = read(folder / "submission.csv")
        truth = {id: BREEDS[number % 5] for number, id in enumerate(PHOTOS)}
        write(folder / "truth.csv", [["image", "breed"], *truth.items()])
        for manifest in (True, False):
            if not manifest:
                (folder / "submission.json").unlink()
            told = toolkit("evaluate", "submission.csv", "--labels", "truth.csv", "--json")
            assert told.code == 0, told.err
            (score,) = told.json["scores"].values()
            said = {row[0]: dict(zip(header[1:], map(float, row[1:]), strict=True)) for row in rows}
            losses = [-math.log(max(said[id][name], 1e-7)) for id, name in truth.items()]
            assert score["log_loss"] == pytest.approx(np.mean(losses))
            areas = [
                roc_auc_score(
                    [name == each for each in truth.values()], [said[i][name] for i in truth]
                )
                for name in BREEDS[:5]
            ]
            assert score["auc"] == pytest.approx(np.mean(areas))
            right = [max(said[id], key=said[id].__getitem__) == name for id, name in truth.items()]
            assert score["accuracy"] == pytest.approx(np.mean(right))

    def test_the_same_bytes_are_made_again(self, toolkit, folder: Path, bundle_of) -> None:
        bundle_of(folder / "bundle", BREEDS)
        dog_breeds(folder)
        assert toolkit("ensemble", "--clip", 0.01, "--quiet").code == 0
        told = toolkit("reproduce", "submission.json", "--json")
        assert told.code == 0, told.err
        assert told.json["same"] is True
        (folder / "data" / "sample_submission.csv").write_text(
            "id,boxer,beagle,chow,collie,pug,saluki\n"
            + "".join(f"{id},0,0,0,0,0,1\n" for id in PHOTOS)
        )
        told = toolkit("reproduce", "submission.json")
        assert told.code == 1
        assert "asks for something else than the submission answers" in told.err

    def test_clipped_rows_sum_to_one_too(self, toolkit, folder: Path, bundle_of) -> None:
        bundle_of(folder / "bundle", BREEDS)
        sample = dog_breeds(folder)
        assert toolkit("ensemble", "--clip", "0.05", "--quiet").code == 0
        found = Checker(sample, folder / "submission.csv").probabilities(BREEDS, "0.05")
        assert min(float(value) for name in BREEDS for value in found.column(name)) == 0.05

    def test_names_in_other_letters_are_found_and_unknown_ones_refused(
        self, toolkit, folder: Path, bundle_of
    ) -> None:
        bundle_of(folder / "bundle", ("Great Dane", "pug", "chow"))
        path = folder / "data" / "sample_submission.csv"
        sample = write(path, [["id", "great_dane", " Pug", "CHOW"], *[[p, *"000"] for p in PHOTOS]])
        assert toolkit("ensemble", "--quiet").code == 0
        header = read(folder / "submission.csv")[0]
        assert [name.strip() for name in read(sample)[0]] == header
        write(path, [["id", "great_dane", "pug", "poodle"], *[[p, *"000"] for p in PHOTOS]])
        told = toolkit("ensemble")
        assert (told.code, told.out) == (1, "")
        assert "has a column for 2 of 3 classes; classes without a column: chow; " in told.err
        assert "columns that are no class: poodle" in told.err

    def test_labels_alone_are_no_answer(self, toolkit, folder: Path, bundle_of) -> None:
        bundle_of(folder / "bundle", BREEDS)
        dog_breeds(folder)
        for arguments in (["--tolerance", "0.1"], ["--tolerance", "0.1", "--certify", "off"]):
            told = toolkit("ensemble", *arguments)
            assert (told.code, told.out) == (2, "")
            assert "not its probabilities, and probabilities are wanted" in told.err
            assert told.err.splitlines()[-1].startswith("error: --tolerance: ")
        for arguments in (["--format", "labels"], ["--top", 2], ["--positive", "pug"]):
            told = toolkit("ensemble", *arguments)
            assert told.code != 0
            assert "has one column a class" in told.err


class TestOneColumnOfLabels:
    def test_a_sample_with_an_id_column_of_another_name(
        self, toolkit, folder: Path, bundle_of
    ) -> None:
        bundle_of(folder / "bundle", tuple("01234"))
        (folder / "data" / "test").rename(folder / "data" / "test_images")
        rows = [["image_id", "label"], *([f"{id}.jpg", "4"] for id in PHOTOS)]
        sample = write(folder / "data" / "sample_submission.csv", rows)
        assert toolkit("ensemble", "--quiet", "--out", "mine.csv").code == 0
        Checker(sample, folder / "mine.csv").kept("image_id").labels("label", tuple("01234"))

    def test_the_original_layout(self, toolkit, home: Path) -> None:
        assert toolkit("ensemble", "--quiet").code == 0
        sample = home / "data" / "sample-submission.csv"
        found = Checker(sample, home / "submission.csv")
        found.kept("Id").labels("Category", ("2", "10", "x y"))

    def test_repeated_rows_further_columns_and_separators_are_kept(
        self, toolkit, folder: Path, bundle_of
    ) -> None:
        bundle_of(folder / "bundle", BREEDS)
        ids = [*PHOTOS, PHOTOS[0], PHOTOS[2]]
        rows = [["row", "image", "breed"], *([f"r{n}", id, "pug"] for n, id in enumerate(ids))]
        sample = write(folder / "data" / "sample_submission.csv", rows, ";")
        told = toolkit("ensemble")
        assert told.code == 0, told.err
        assert "8 rows" in told.out
        found = Checker(sample, folder / "submission.csv", ";").kept("row", "image")
        answers = found.labels("breed", BREEDS).column("breed")
        assert (answers[6], answers[7]) == (answers[0], answers[2])
        assert toolkit("reproduce", "--json").json["same"] is True

    def test_labels_may_be_numbers_with_decimals(self, toolkit, folder: Path, bundle_of) -> None:
        classes = ("0.5", "1", "1.5", "2")
        bundle_of(folder / "bundle", classes)
        rows = [["id", "grade"], *([id, "1.5"] for id in PHOTOS)]
        sample = write(folder / "data" / "sample_submission.csv", rows)
        assert toolkit("ensemble", "--quiet").code == 0
        Checker(sample, folder / "submission.csv").labels("grade", classes)


class TestOneProbability:
    def answered(self, toolkit, folder: Path, header: list[str], value: str, *more: object):
        rows = [header, *([id, value] for id in PHOTOS)]
        sample = write(folder / "data" / "sample_submission.csv", rows)
        told = toolkit("ensemble", *more)
        assert told.code == 0, told.err
        found = Checker(sample, folder / "submission.csv").kept(header[0]).shares(header[1])
        return told, [float(value) for value in found.column(header[1])]

    @pytest.mark.parametrize(
        ("classes", "column", "positive", "why"),
        [
            (("cat", "dog"), "label", "dog", "the second class in order"),
            (("cat", "dog"), "cat", "cat", "which the column names"),
            (("cactus", "none"), "has_cactus", "cactus", "which the column names"),
            (("0", "1"), "target", "1", "the positive class by its name"),
            (("no", "yes"), "invasive", "yes", "the positive class by its name"),
        ],
    )
    def test_it_is_of_the_class_that_is_said(
        self,
        toolkit,
        folder: Path,
        bundle_of,
        classes: tuple[str, str],
        column: str,
        positive: str,
        why: str,
    ) -> None:
        bundle_of(folder / "bundle", classes)
        told, values = self.answered(
            toolkit, folder, ["id", column], "0.5", "--probabilities", "p.csv"
        )
        assert f"column '{column}' is P({positive}), {why}" in told.err
        header, *rows = read(folder / "p.csv")
        place = header.index(positive)
        assert values == pytest.approx([float(row[place]) for row in rows], abs=1e-14)

    def test_the_other_class_can_be_chosen_and_is_remembered(
        self, toolkit, folder: Path, bundle_of
    ) -> None:
        bundle_of(folder / "bundle", ("cat", "dog"))
        _, second = self.answered(toolkit, folder, ["id", "label"], "0.5", "--quiet")
        _, first = self.answered(
            toolkit, folder, ["id", "label"], "0.5", "--positive", "Cat", "--quiet"
        )
        assert first == pytest.approx([1 - value for value in second], abs=1e-12)
        assert toolkit("reproduce", "--json").json["same"] is True
        truth = [["id", "label"], *([id, "cat" if n % 2 else "dog"] for n, id in enumerate(PHOTOS))]
        write(folder / "truth.csv", truth)
        told = toolkit("evaluate", "submission.csv", "--labels", "truth.csv", "--json").json
        losses = [
            -math.log(p if label == "cat" else 1 - p)
            for p, (_, label) in zip(first, truth[1:], strict=True)
        ]
        assert told["scores"]["submission.csv"]["log_loss"] == pytest.approx(np.mean(losses))
        # Without the manifest, a reader has to be told too.
        (folder / "submission.json").unlink()
        again = toolkit(
            "evaluate", "submission.csv", "--labels", "truth.csv", "--positive", "cat", "--json"
        ).json
        assert again["scores"] == told["scores"]
        other = toolkit("evaluate", "submission.csv", "--labels", "truth.csv").out
        assert "'label' read as P(dog)" in other

    def test_labels_are_written_where_the_sample_spells_both_or_a_user_says_so(
        self, toolkit, folder: Path, bundle_of
    ) -> None:
        bundle_of(folder / "bundle", ("0", "1"))
        path = folder / "data" / "sample_submission.csv"
        sample = write(path, [["id", "label"], *([p, str(n % 2)] for n, p in enumerate(PHOTOS))])
        assert toolkit("ensemble", "--quiet").code == 0
        Checker(sample, folder / "submission.csv").labels("label", "01")
        write(path, [["id", "label"], *([p, "0"] for p in PHOTOS)])
        assert toolkit("ensemble", "--quiet", "--format", "labels").code == 0
        Checker(sample, folder / "submission.csv").labels("label", "01")


class TestLabelsAsTheSampleWritesThem:
    @pytest.mark.parametrize("manifest", [True, False])
    def test_names_of_classes_are_written_and_read(
        self, toolkit, folder: Path, bundle_of, manifest: bool
    ) -> None:
        bundle_of(folder / "bundle", "012", {"0": "Apple", "1": "Pear tree", "2": "Plum"})
        path = folder / "data" / "sample_submission.csv"
        sample = write(path, [["id", "label"], *([p, "apple"] for p in PHOTOS)])
        told = toolkit("ensemble", "--probabilities", "p.csv")
        assert told.code == 0, told.err
        assert "warning" not in told.err
        names = ("apple", "Pear tree", "Plum")
        found = Checker(sample, folder / "submission.csv").labels("label", names).column("label")
        header, *exact = read(folder / "p.csv")
        numbers = [header[1:][int(np.argmax([float(v) for v in row[1:]]))] for row in exact]
        assert found == [names[int(number)] for number in numbers]
        if manifest:
            write(folder / "truth.csv", [["id", "label"], *zip(PHOTOS, numbers, strict=True)])
        else:
            (folder / "submission.json").unlink()
            write(folder / "truth.csv", [["id", "label"], *zip(PHOTOS, found, strict=True)])
        told = toolkit("evaluate", "submission.csv", "--labels", "truth.csv", "--json")
        assert told.code == 0, told.err
        (score,) = told.json["scores"].values()
        assert score["accuracy"] == 1.0

    def test_lists_of_names_too(self, toolkit, folder: Path, bundle_of) -> None:
        names = {"0": "apple", "1": "pear", "2": "plum"}
        bundle_of(folder / "bundle", "012", names)
        path = folder / "data" / "sample_submission.csv"
        sample = write(path, [["id", "label"], *([p, "plum apple"] for p in PHOTOS)])
        assert toolkit("ensemble", "--quiet").code == 0
        found = Checker(sample, folder / "submission.csv").column("label")
        assert {part for value in found for part in value.split()} <= set(names.values())

    @pytest.mark.parametrize("value", ["wolf", "0"])
    def test_values_that_are_no_class_are_named(
        self, toolkit, folder: Path, bundle_of, value: str
    ) -> None:
        bundle_of(folder / "bundle", BREEDS)
        path = folder / "data" / "sample_submission.csv"
        write(path, [["id", "breed"], *([p, value] for p in PHOTOS)])
        told = toolkit("ensemble", "--quiet")
        assert told.code == 0
        assert (
            f"none of the values in 'breed' ({value}) is a class of the bundle (beagle" in told.err
        )


@pytest.mark.parametrize(
    ("classes", "columns", "values", "complaint"),
    [
        (
            ("cat", "dog"),
            ["id", "dog", "cat", "zebra"],
            [".33", ".33", ".33"],
            "1 more of numbers from 0 to 1 that are no class of it: zebra",
        ),
        (BREEDS, ["id", *BREEDS, "UNK"], ["0"] * 7, "that are no class of it: UNK"),
        (("cat", "dog"), ["id", "score"], ["38.4"], "it asks for a number on a scale"),
    ],
)
def test_what_the_bundle_cannot_answer_is_refused(
    toolkit, folder: Path, bundle_of, classes, columns, values, complaint: str
) -> None:
    bundle_of(folder / "bundle", classes)
    path = folder / "data" / "sample_submission.csv"
    write(path, [columns, *([p, *values] for p in PHOTOS)])
    told = toolkit("ensemble")
    assert (told.code, told.out) == (1, "")
    assert complaint in told.err
    assert not (folder / "submission.csv").exists()


class TestTheBestLabels:
    def test_a_sample_of_lists_gets_lists(self, toolkit, folder: Path, bundle_of) -> None:
        bundle_of(folder / "bundle", BREEDS)
        rows = [["Image", "Id"], *([f"{id}.jpg", "pug chow boxer"] for id in PHOTOS)]
        sample = write(folder / "data" / "sample_submission.csv", rows)
        assert toolkit("ensemble", "--quiet", "--probabilities", "p.csv").code == 0
        found = Checker(sample, folder / "submission.csv").kept("Image").column("Id")
        header, *exact = read(folder / "p.csv")
        for said, row in zip(found, exact, strict=True):
            best = sorted(zip(map(float, row[1:]), header[1:], strict=True), reverse=True)
            assert said.split() == [name for _, name in best[:3]]

    @pytest.mark.parametrize("manifest", [True, False])
    def test_they_are_scored_by_their_places(
        self, toolkit, folder: Path, bundle_of, manifest: bool
    ) -> None:
        bundle_of(folder / "bundle", BREEDS)
        assert toolkit("ensemble", "--top", 5, "--quiet").code == 0
        lists = {row[0]: row[1].split() for row in read(folder / "submission.csv")[1:]}
        assert {len(set(said)) for said in lists.values()} == {5}
        truth = [(id, said[n] if n < 5 else "wolf") for n, (id, said) in enumerate(lists.items())]
        write(folder / "truth.csv", [["Id", "Category"], *truth])
        if not manifest:
            (folder / "submission.json").unlink()
        told = toolkit("evaluate", "submission.csv", "--labels", "truth.csv", "--json")
        assert told.code == 0, told.err
        assert told.json["ranking"]["length"] == 5
        expected = (1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 6
        assert told.json["ranking"]["mean_precision"] == pytest.approx(expected)
        assert told.json["ranking"]["found"] == pytest.approx(5 / 6)
        assert "MAP@5 0.3806" in toolkit("evaluate", "submission.csv", "--labels", "truth.csv").out


class TestWithoutASample:
    @pytest.fixture
    def tree(self, folder: Path, bundle_of, draw_photo: Callable[..., Image.Image]) -> Path:
        bundle_of(folder / "bundle", BREEDS)
        for part in ("train", "val"):
            for number, name in enumerate(BREEDS):
                path = folder / "data" / part / name / f"{name}1.jpg"
                path.parent.mkdir(parents=True)
                draw_photo(20 + number, (60, 50)).save(path)
        return folder

    def test_a_user_says_what_is_wanted(self, toolkit, tree: Path) -> None:
        assert toolkit("ensemble", "--quiet").code == 0
        header, *labels = read(tree / "submission.csv")
        assert header == ["Id", "Category"]
        assert {name for _, name in labels} <= set(BREEDS)
        assert toolkit("ensemble", "--quiet", "--format", "probabilities").code == 0
        header, *rows = read(tree / "submission.csv")
        assert header == ["Id", *BREEDS]
        assert [row[0] for row in rows] == [row[0] for row in labels]
        for (_, name), (_, *values) in zip(labels, rows, strict=True):
            assert sum(map(Decimal, values)) == 1
            assert BREEDS[int(np.argmax([float(value) for value in values]))] == name

    @pytest.mark.parametrize(
        ("table", "tested", "header"),
        [
            (["image_id", "label"], None, ["image_id", "label"]),
            (["foto", "Art"], None, ["foto", "Art"]),
            (["image", "breed"], "file", ["file", "breed"]),
            (["Image", "Id"], "Id", ["Id", "Category"]),
            (["id", *BREEDS], None, ["id", "Category"]),
        ],
    )
    def test_the_columns_are_called_as_in_the_table_of_labels(
        self,
        toolkit,
        folder: Path,
        bundle_of,
        table: list[str],
        tested: str | None,
        header: list[str],
    ) -> None:
        bundle_of(folder / "bundle", BREEDS)
        shutil.copytree(folder / "data" / "test", folder / "data" / "train")
        rows = [
            [id, BREEDS[n % 3]] if len(table) == 2 else [id, *(str(int(n == k)) for k in range(6))]
            for n, id in enumerate(PHOTOS)
        ]
        write(folder / "data" / "train.csv", [table, *rows])
        if tested:
            write(folder / "data" / "test.csv", [[tested], *([id] for id in PHOTOS)])
        told = toolkit("ensemble")
        assert told.code == 0, told.err
        assert f"answer: columns '{header[0]}' and '{header[1]}'" in told.err
        found, *answers = read(folder / "submission.csv")
        assert found == header
        write(folder / "truth.csv", [["id", "label"], *answers])
        for manifest in (True, False):
            if not manifest:
                (folder / "submission.json").unlink()
            told = toolkit("evaluate", "submission.csv", "--labels", "truth.csv", "--json")
            assert told.code == 0, told.err
            assert told.json["scores"]["submission.csv"]["accuracy"] == 1.0

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["--positive", "pug"], "Expected data of two classes, received 6"),
            (["--top", "7"], "--top 7: Expected at most the 6 classes"),
            (["--clip", "0.4"], "above 0 and at most 1/6, received 0.4"),
            (["--clip", "0.01", "--format", "labels"], "where probabilities are written"),
            (
                ["--top", "2", "--format", "probabilities"],
                "top: Expected without --format probabilities",
            ),
        ],
    )
    def test_what_does_not_fit_is_refused_before_any_photo(
        self, toolkit, tree: Path, arguments: list[str], complaint: str
    ) -> None:
        told = toolkit("ensemble", *arguments)
        assert (told.code, told.out) == (2, "")
        assert complaint in told.err
        assert not (tree / "submission.csv").exists()


@pytest.mark.parametrize(
    ("columns", "value", "complaint"),
    [
        (["id", "x", "y", "width"], "0.5", "has 3 columns that are no classes of the bundle"),
        (["id", "age"], "31.5", "it asks for a number on a scale"),
        (["id", "tags"], "pug|chow", "several labels per photo"),
        (["id"], "", "has no column beside the ids 'id'"),
    ],
)
def test_what_no_classifier_answers_is_refused_by_name(
    toolkit, folder: Path, bundle_of, columns: list[str], value: str, complaint: str
) -> None:
    bundle_of(folder / "bundle", BREEDS)
    rows = [columns, *([id, *[value] * (len(columns) - 1)] for id in PHOTOS)]
    write(folder / "data" / "sample_submission.csv", rows)
    told = toolkit("ensemble")
    assert (told.code, told.out) == (1, "")
    assert "sample_submission.csv: " in told.err
    assert complaint in told.err


class TestReadingBack:
    def write(self, here: Path, rows: Sequence[Sequence[str]]) -> None:
        write(here / "s.csv", rows)
        write(here / "truth.csv", [["id", "label"], ["a", "cat"], ["b", "dog"], ["c", "cow"]])

    @pytest.mark.parametrize(
        ("rows", "complaint"),
        [
            ([["id", "label"], ["a", "cat"], ["b", "dog"]], "has no row for 'c'"),
            (
                [["id", "label"], ["a", "cat"], ["a", "dog"]],
                "1 ids have several rows with",
            ),
            (
                [["id", "cat", "dog"], *([i, "0.5", "0.5"] for i in "abc")],
                "classes without a column: cow",
            ),
            (
                [["id", "cat", "dog", "cow"], *([i, "0.5", "-0.5", "1"] for i in "abc")],
                "Expected a probability, received -0.5",
            ),
            (
                [["id", "cat", "dog", "cow"], *([i, "0", "0", "0"] for i in "abc")],
                "'a' has no probability above 0",
            ),
        ],
    )
    def test_a_mistake_is_one_line(
        self, toolkit, here: Path, rows: list[list[str]], complaint: str
    ) -> None:
        self.write(here, rows)
        told = toolkit("evaluate", "s.csv", "--labels", "truth.csv")
        assert (told.code, told.out) == (1, "")
        assert complaint in told.err

    def test_labels_that_are_numbers_are_no_probabilities(self, toolkit, here: Path) -> None:
        write(here / "s.csv", [["id", "label"], ["a", "0"], ["b", "0"], ["c", "0"]])
        write(here / "truth.csv", [["id", "label"], ["a", "0"], ["b", "1"], ["c", "0"]])
        told = toolkit("evaluate", "s.csv", "--labels", "truth.csv", "--json").json
        assert told["scores"]["s.csv"]["accuracy"] == pytest.approx(2 / 3)
        assert "log_loss" not in told["scores"]["s.csv"]
        write(here / "s.csv", [["id", "label"], ["a", "0.25"], ["b", "1"], ["c", "0"]])
        told = toolkit("evaluate", "s.csv", "--labels", "truth.csv", "--json").json
        assert told["scores"]["s.csv"]["log_loss"] == pytest.approx(-math.log(0.75) / 3, abs=1e-6)

    def test_rows_of_another_sum_are_rescaled_and_it_is_said(self, toolkit, here: Path) -> None:
        rows = [["id", "cat", "dog", "cow"], *([i, "2", "1", "1"] for i in "abc")]
        self.write(here, rows)
        told = toolkit("evaluate", "s.csv", "--labels", "truth.csv", "--json").json
        assert "3 rows do not sum to 1 and were divided by their sums" in told["photos"]
        losses = [math.log(2), math.log(4), math.log(4)]
        assert told["scores"]["s.csv"]["log_loss"] == pytest.approx(np.mean(losses))

    @pytest.mark.parametrize(
        ("truth", "answers", "said"),
        [
            (("p7", "p3"), ("p3.jpg", "p7.jpg"), "ids matched: 2 with a suffix added"),
            (("p7.jpg", "p3.jpg"), ("p3", "p7"), "ids matched: 2 with a suffix added"),
            (("test/P7.JPG", "p3.jpg"), ("p3.jpg", "p7.jpg"), "1 as named, 1 by the end of"),
        ],
    )
    def test_ids_and_whole_numbers_may_be_written_in_other_ways(
        self, toolkit, here: Path, truth: tuple, answers: tuple, said: str
    ) -> None:
        write(here / "truth.csv", [["id", "label"], [truth[0], "1.0"], [truth[1], "2.0"]])
        write(here / "s.csv", [["id", "label"], [answers[0], "2"], [answers[1], "2"]])
        told = toolkit("evaluate", "s.csv", "--labels", "truth.csv", "--json")
        assert told.code == 0, told.err
        assert told.json["scores"]["s.csv"]["accuracy"] == 0.5
        assert said in told.json["photos"]
        write(here / "o.csv", [["id", "label"], [truth[0], "1.0"], [truth[1], "2.0"]])
        told = toolkit("evaluate", "s.csv", "--against", "o.csv", "--labels", "truth.csv")
        assert told.code == 0, told.err
        told = toolkit("evaluate", "s.csv", "--against", "o.csv", "--json")
        assert told.code == 0, told.err
        assert told.json["agreement"]["differing"] == 1
        assert "ids matched" in told.json["photos"]

    def test_a_grade_with_a_decimal_stays_as_it_is(self, toolkit, here: Path) -> None:
        write(here / "truth.csv", [["id", "label"], ["a", "1.0"], ["b", "1.5"]])
        write(here / "s.csv", [["id", "label"], ["a", "1.0"], ["b", "1.0"]])
        told = toolkit("evaluate", "s.csv", "--labels", "truth.csv", "--json")
        assert told.code == 0, told.err
        assert told.json["scores"]["s.csv"]["accuracy"] == 0.5

    def test_two_formats_are_compared_by_the_same_metric(self, toolkit, here: Path) -> None:
        self.write(here, [["id", "cat", "dog", "cow"], *([i, "0.5", "0.3", "0.2"] for i in "abc")])
        write(
            here / "other.csv", [["id", "cow", "cat", "dog"], *([i, "1", "0", "0"] for i in "abc")]
        )
        told = toolkit(
            "evaluate", "s.csv", "--against", "other.csv", "--labels", "truth.csv",
            *("--metric", "log-loss", "--json"),
        ).json  # fmt: skip
        assert told["agreement"]["differing"] == 3
        mine = -np.log([0.5, 0.3, 0.2]).mean()
        theirs = -np.log([1e-7, 1e-7, 1]).mean()
        assert told["change"]["mean"] == pytest.approx(mine - theirs)
        write(here / "labels.csv", [["id", "label"], *([i, "cat"] for i in "abc")])
        told = toolkit("evaluate", "s.csv", "--against", "labels.csv", "--json").json
        assert (told["agreement"]["differing"], told["change"]) == (0, None)


def test_the_manifest_says_what_the_file_holds(toolkit, folder: Path, bundle_of) -> None:
    bundle_of(folder / "bundle", BREEDS)
    dog_breeds(folder)
    toolkit("ensemble", "--quiet")
    said = json.loads((folder / "submission.json").read_text(encoding="utf-8"))
    assert said["format"]["kind"] == "probabilities"
    assert said["format"]["classes"] == list(reversed(BREEDS))
    assert said["classes"] == list(BREEDS)


# From raw data to the file that a server takes, with no option but the recipe set.


def photo_files(folder: Path, names: Sequence[str], draw: Callable[..., Image.Image]) -> None:
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(500 + seed, (40, 32)).save(path)


def numbered_labels(classes: Sequence[str], count: int = 12) -> dict[str, str]:
    return {f"a{number}": classes[number % len(classes)] for number in range(count)}


TO_PREDICT = ("z9", "z2", "z11")
"""The order of the sample's rows, which is neither that of text nor that of numbers."""


def raw_dog_breeds(data: Path, draw: Callable[..., Image.Image]) -> None:
    labels = numbered_labels(("pug", "basset", "Great Dane"))
    photo_files(data, [f"train/{id}.jpg" for id in labels], draw)
    photo_files(data, [f"test/{id}.jpg" for id in TO_PREDICT], draw)
    write(data / "labels.csv", [["id", "breed"], *labels.items()])
    header = ["id", "pug", "great_dane", "basset"]
    write(data / "sample_submission.csv", [header, *([id, *[".333"] * 3] for id in TO_PREDICT)])


def raw_cassava(data: Path, draw: Callable[..., Image.Image]) -> None:
    labels = numbered_labels(("0", "2", "10"))
    photo_files(data, [f"train_images/{id}.jpg" for id in labels], draw)
    photo_files(data, [f"test_images/{id}.jpg" for id in TO_PREDICT], draw)
    rows = [[f"{id}.jpg", label] for id, label in labels.items()]
    write(data / "train.csv", [["image_id", "label"], *rows])
    rows = [[f"{id}.jpg", "4"] for id in TO_PREDICT]
    write(data / "sample_submission.csv", [["image_id", "label"], *rows])


def raw_tree(data: Path, draw: Callable[..., Image.Image]) -> None:
    photo_files(data, [f"train/{name}/{n}.png" for name in ("red", "blue") for n in range(5)], draw)
    photo_files(data, [f"val/{name}/{n}.png" for name in ("red", "blue") for n in range(2)], draw)
    photo_files(data, [f"test/{id}.png" for id in TO_PREDICT], draw)


def raw_two_classes(data: Path, draw: Callable[..., Image.Image]) -> None:
    labels = numbered_labels(("0", "1"))
    photo_files(data, [f"train/{id}.png" for id in labels], draw)
    photo_files(data, [f"test/{id}.png" for id in TO_PREDICT], draw)
    write(data / "train.csv", [["id", "has_cactus"], *((f"{i}.png", n) for i, n in labels.items())])
    rows = [[f"{id}.png", "0.5"] for id in TO_PREDICT]
    write(data / "sample_submission.csv", [["id", "has_cactus"], *rows])


def raw_original(data: Path, draw: Callable[..., Image.Image]) -> None:
    labels = numbered_labels(("2", "10", "7"))
    photo_files(data, [f"train/{label}/{id}.jpg" for id, label in labels.items()], draw)
    photo_files(data, [f"test_upload/{id}.jpg" for id in TO_PREDICT], draw)
    rows = [[f"{id}.jpg", label] for id, label in labels.items()]
    write(data / "train.csv", [["Id", "Category"], *rows])
    rows = [[f"{id}.jpg", "2"] for id in TO_PREDICT]
    write(data / "sample-submission.csv", [["Id", "Category"], *rows])


def check_dog_breeds(here: Path) -> None:
    found = Checker(here / "data" / "sample_submission.csv", here / "submission.csv")
    found.kept("id").probabilities(("pug", "great_dane", "basset"))


def check_cassava(here: Path) -> None:
    found = Checker(here / "data" / "sample_submission.csv", here / "submission.csv")
    found.kept("image_id").labels("label", ("0", "2", "10"))


def check_tree(here: Path) -> None:
    # No sample: what a server would want has the ids in natural order.
    rows = [["Id", "Category"], *([f"{id}.png", ""] for id in ("z2", "z9", "z11"))]
    found = Checker(write(here / "wanted.csv", rows), here / "submission.csv")
    found.kept("Id").labels("Category", ("red", "blue"))


def check_two_classes(here: Path) -> None:
    found = Checker(here / "data" / "sample_submission.csv", here / "submission.csv")
    found.kept("id").shares("has_cactus")
    said = json.loads((here / "submission.json").read_text(encoding="utf-8"))["format"]
    assert (said["kind"], said["classes"]) == ("positive", ["1"])


def check_original(here: Path) -> None:
    found = Checker(here / "data" / "sample-submission.csv", here / "submission.csv")
    found.kept("Id").labels("Category", ("2", "10", "7"))


@pytest.mark.parametrize(
    ("make", "check"),
    [
        pytest.param(raw_dog_breeds, check_dog_breeds, id="dog breeds"),
        pytest.param(raw_cassava, check_cassava, id="cassava"),
        pytest.param(raw_tree, check_tree, id="train, val and test"),
        pytest.param(raw_two_classes, check_two_classes, id="P(class)"),
        pytest.param(raw_original, check_original, id="original"),
    ],
)
def test_raw_photos_become_the_file_without_an_option(
    toolkit,
    here: Path,
    small_recipes: Path,
    draw_photo: Callable[..., Image.Image],
    make: Callable[[Path, Callable[..., Image.Image]], None],
    check: Callable[[Path], None],
) -> None:
    pytest.importorskip("tf2onnx")
    make(here / "data", draw_photo)
    recipes = here / "recipes"
    shutil.copytree(small_recipes, recipes)
    settings = (recipes / "set.yaml").read_text(encoding="utf-8")
    (recipes / "set.yaml").write_text(settings.replace("epochs: 6", "epochs: 1"), encoding="utf-8")
    for command in (["train-all", "--recipes", recipes], ["export"], ["ensemble"]):
        told = toolkit(*command)
        assert told.code == 0, told.err
    check(here)
