"""Scores of bundles and submissions: on the right photos, with the right labels."""

from __future__ import annotations

import csv
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toolkit.data.labelled import load_labelled
from toolkit.errors import ToolkitError, UsageError
from toolkit.files import read_json, sha256_file, write_json
from toolkit.inference.bundle import load_bundle, load_validation, save_bundle
from toolkit.inference.ensemble import Ensemble
from toolkit.reporting import evaluation as room
from toolkit.reporting.answers import compare_submissions
from toolkit.reporting.evaluation import Evaluation, LabelledPhotos, evaluate
from toolkit.training.run import PHOTO_DIGITS, Run

CLASSES = ("2", "10", "x y")


@pytest.fixture
def class_folders(tmp_path: Path, draw_photo: Callable[..., Image.Image]) -> Path:
    """Folders '10', '2', 'x y': in the order of names, which is not the bundle's."""
    root = tmp_path / "labelled"
    for index, category in enumerate(CLASSES):
        (root / category).mkdir(parents=True)
        for number in range(3 + index):
            draw_photo(10 * index + number).save(root / category / f"{number}.png")
    return root


@pytest.fixture
def flat(class_folders: Path, tmp_path: Path) -> LabelledPhotos:
    """The same photos in one folder, with their labels in a CSV."""
    folder = tmp_path / "flat"
    folder.mkdir()
    rows = []
    for path in sorted(class_folders.glob("*/*.png")):
        id = f"{path.parent.name}-{path.name}"
        (folder / id).write_bytes(path.read_bytes())
        rows.append((id, path.parent.name))
    return LabelledPhotos(labels=written(tmp_path / "labels.csv", rows), photos=folder)


def written(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("Id", "Category"), *rows])
    return path


def evaluated(subject: Path, labelled: LabelledPhotos, **settings: Any) -> Evaluation:
    places = {"data": labelled.data, "labels": labelled.labels, "photos": labelled.photos}
    if (subject / "bundle.json").is_file():
        settings = {"tta": 2, "voting": "auto", **settings}
        if labelled.given:
            settings = {"device": "cpu", "batch": 4, **settings}
    return evaluate(subject, **places, **settings)


class TestBundle:
    def test_class_folders_are_matched_by_name(self, tiny_bundle, class_folders: Path) -> None:
        found = evaluated(tiny_bundle.folder, LabelledPhotos(data=class_folders))
        paths = sorted(class_folders.glob("*/*.png"))
        ensemble = Ensemble.load(tiny_bundle.folder, tta=2, device="cpu")
        said = ensemble.labels(ensemble.predict(paths))
        right = [path.parent.name == label for path, label in zip(paths, said, strict=True)]
        assert 0 < sum(right) < len(right)
        assert found.classes == CLASSES
        assert found.scores["ensemble of 2"].accuracy == np.mean(right)
        assert np.bincount(found.labels).tolist() == [3, 4, 5]

    def test_a_csv_gives_the_same_scores(
        self, tiny_bundle, class_folders: Path, flat: LabelledPhotos
    ) -> None:
        by_folder = evaluated(tiny_bundle.folder, LabelledPhotos(data=class_folders))
        by_csv = evaluated(tiny_bundle.folder, flat)
        for name, score in by_folder.scores.items():
            assert by_csv.scores[name].accuracy == score.accuracy
            assert by_csv.scores[name].log_loss == pytest.approx(score.log_loss)

    def test_each_member_with_a_vote_is_scored_alone_and_last_all(
        self, tiny_bundle, flat: LabelledPhotos
    ) -> None:
        found = evaluated(tiny_bundle.folder, flat)
        assert list(found.scores) == ["alpha", "beta", "ensemble of 2"]
        alone = evaluated(tiny_bundle.folder, flat, voting="alpha=1")
        assert alone.scores["ensemble of 1"].accuracy == found.scores["alpha"].accuracy
        assert list(evaluated(tiny_bundle.folder, flat, tta=1).scores)[:-1] == [
            "alpha",
            "beta",
            "gamma",
        ]

    def test_log_loss_is_of_the_predicted_probabilities(
        self, tiny_bundle, flat: LabelledPhotos
    ) -> None:
        assert flat.photos is not None
        found = evaluated(tiny_bundle.folder, flat)
        paths = sorted(flat.photos.iterdir())
        probabilities = Ensemble.load(tiny_bundle.folder, tta=2, device="cpu").predict(paths)
        losses = [
            -math.log(row[CLASSES.index(path.name.partition("-")[0])])
            for row, path in zip(probabilities, paths, strict=True)
        ]
        assert found.scores["ensemble of 2"].log_loss == pytest.approx(np.mean(losses))

    def test_without_photos_the_held_out_ones_are_scored(self, tiny_bundle) -> None:
        found = evaluated(tiny_bundle.folder, LabelledPhotos())
        validation = load_validation(load_bundle(tiny_bundle.folder))
        alpha, beta = (validation.probabilities[n, :, :2].mean(axis=1) for n in (0, 1))
        labels = validation.labels
        assert found.scores["alpha"].accuracy == np.mean(alpha.argmax(axis=1) == labels)
        mixed = 0.75 * alpha + 0.25 * beta
        assert found.scores["ensemble of 2"].accuracy == np.mean(mixed.argmax(axis=1) == labels)
        assert "12 photos held out from training" in found.photos
        assert "weights were found on them" in found.photos

    def test_photos_its_members_were_trained_on_are_counted(
        self, tiny_bundle, class_folders: Path, tmp_path: Path
    ) -> None:
        labelled = LabelledPhotos(data=class_folders)
        assert "TRAINED" not in evaluated(tiny_bundle.folder, labelled).photos
        own = tiny_bundle.copy(tmp_path / "bundle")
        bundle = load_bundle(own)
        learnt = "".join(
            sha256_file(path)[:PHOTO_DIGITS] for path in (class_folders / "10").iterdir()
        )
        data = replace(bundle.data, trained_on=learnt)
        save_bundle(replace(bundle, data=data))
        assert "TRAINED ON 4 OF THEM" in evaluated(own, labelled).photos

    def test_an_unknown_class_is_named(self, tiny_bundle, class_folders: Path) -> None:
        (class_folders / "2").rename(class_folders / "tractor")
        with pytest.raises(ToolkitError, match=r"class 'tractor' .* knows: 2, 10, x y"):
            evaluated(tiny_bundle.folder, LabelledPhotos(data=class_folders))

    def test_an_unknown_class_of_a_csv_is_named(self, tiny_bundle, flat: LabelledPhotos) -> None:
        labels = written(flat.labels.parent / "other.csv", [("2-0.png", "tractor")])
        with pytest.raises(ToolkitError, match=r"other\.csv: unknown category 'tractor'"):
            evaluated(tiny_bundle.folder, LabelledPhotos(labels=labels, photos=flat.photos))

    def test_all_broken_photos_are_named(self, tiny_bundle, class_folders: Path) -> None:
        broken = [class_folders / "2" / "1.png", class_folders / "x y" / "0.png"]
        for path in broken:
            path.write_bytes(b"")
        with pytest.raises(ToolkitError, match="2 of 12 labelled photos cannot be") as caught:
            evaluated(tiny_bundle.folder, LabelledPhotos(data=class_folders))
        for path in broken:
            assert f"{path}: the file is empty" in str(caught.value)

    def test_a_folder_of_one_class_is_scored(self, tiny_bundle, class_folders: Path) -> None:
        for category in ("2", "10"):
            shutil.rmtree(class_folders / category)
        found = evaluated(tiny_bundle.folder, LabelledPhotos(data=class_folders))
        assert np.bincount(found.labels).tolist() == [0, 0, 5]

    def test_classes_without_photos_are_no_problem(self, tiny_bundle, class_folders: Path) -> None:
        for path in (class_folders / "10").iterdir():
            path.unlink()
        found = evaluated(tiny_bundle.folder, LabelledPhotos(data=class_folders))
        assert np.bincount(found.labels).tolist() == [3, 0, 5]
        assert load_labelled(class_folders).classes == ("2", "x y")


class TestRun:
    @pytest.fixture
    def run(self, finished_job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A run whose network finds every class equally likely."""

        def undecided(run: Run, paths: list[Path], *_: Any) -> np.ndarray:
            return np.full((len(paths), len(run.data.classes)), 1 / len(run.data.classes))

        monkeypatch.setattr(room, "predict_run", undecided)
        source = finished_job / "runs" / "improved" / "xception"
        folder = Path(shutil.copytree(source, tmp_path / "runs" / "improved" / "xception"))
        (folder / "model.keras").write_bytes(b"a network")
        known = read_json(folder / "run.json")
        known["model_sha256"] = sha256_file(folder / "model.keras")
        write_json(folder / "run.json", known)
        return folder

    @pytest.mark.parametrize("spoilt", ["changed", "lost", "a pipe"])
    def test_another_network_than_that_of_its_manifest_is_refused(
        self, run: Path, class_folders: Path, spoilt: str
    ) -> None:
        model = run / "model.keras"
        model.unlink()
        if spoilt == "changed":
            model.write_bytes(b"another network")
        elif spoilt == "a pipe":
            os.mkfifo(model)
        complaint = {
            "changed": "is not the network that run.json beside it tells of",
            "lost": "the file is missing",
            "a pipe": "is a named pipe, not a file",
        }[spoilt]
        with pytest.raises(ToolkitError, match=f"model.keras: {complaint}"):
            evaluated(run, LabelledPhotos(data=class_folders))

    def test_it_is_scored_by_one_view_by_keras(self, run: Path, class_folders: Path) -> None:
        found = evaluated(run, LabelledPhotos(data=class_folders))
        assert found.subject == "improved/xception, one view, by Keras"
        assert found.scores["improved/xception"].accuracy == 3 / 12

    def test_photos_it_was_trained_on_are_counted_whatever_else_is_there(
        self, run: Path, class_folders: Path
    ) -> None:
        learnt = [class_folders / "2" / "1.png", *(class_folders / "10").iterdir()]
        digits = [sha256_file(path)[:PHOTO_DIGITS] for path in learnt]
        known = read_json(run / "run.json") | {"trained_on": "".join(["0" * PHOTO_DIGITS, *digits])}
        write_json(run / "run.json", known)
        labelled = LabelledPhotos(data=class_folders)
        said = evaluated(run, labelled).photos
        assert said == (
            f"12 photos of {class_folders} - TRAINED ON 5 OF THEM: these figures are too good for "
            "other photos"
        )
        learnt[0].rename(class_folders / "2" / "renamed.png")
        assert "TRAINED ON 5 OF THEM" in evaluated(run, labelled).photos
        shutil.rmtree(class_folders / "10")
        (class_folders / "2" / "renamed.png").unlink()
        assert evaluated(run, labelled).photos == f"7 photos of {class_folders}"


class TestSubmission:
    ROWS = (("1.jpg", "2"), ("2.jpg", "10"), ("3.jpg", "x y"), ("4.jpg", "2"))

    @pytest.fixture
    def labels(self, tmp_path: Path) -> LabelledPhotos:
        return LabelledPhotos(labels=written(tmp_path / "labels.csv", list(self.ROWS)))

    def submitted(self, tmp_path: Path, *categories: str) -> Path:
        ids = [id for id, _ in self.ROWS]
        rows = list(zip(ids, categories, strict=False))[::-1]
        return written(tmp_path / "submission.csv", rows)

    def test_answers_are_matched_by_id(self, tmp_path: Path, labels: LabelledPhotos) -> None:
        path = self.submitted(tmp_path, "2", "10", "2", "2")
        found = evaluated(path, labels)
        (score,) = found.scores.values()
        assert (score.accuracy, score.photos) == (0.75, 4)
        assert score.interval == pytest.approx((0.3006, 0.9544), abs=1e-4)  # Wilson, 3 of 4
        assert score.log_loss is None

    def test_a_class_that_only_the_submission_names_is_just_wrong(
        self, tmp_path: Path, labels: LabelledPhotos
    ) -> None:
        found = evaluated(self.submitted(tmp_path, "2", "10", "x y", "tractor"), labels)
        assert next(iter(found.scores.values())).accuracy == 0.75
        assert "tractor" in found.classes

    def test_missing_rows_are_named(self, tmp_path: Path, labels: LabelledPhotos) -> None:
        for answers, complaint in {
            ("2", "10", "2"): r"no row for '4\.jpg'\.",
            ("2", "10"): r"no row for '3\.jpg' and 1 other\.",
            ("2",): r"no row for '2\.jpg' and 2 others\.",
        }.items():
            with pytest.raises(ToolkitError, match=complaint):
                evaluated(self.submitted(tmp_path, *answers), labels)

    def test_classes_have_the_order_of_numbers(self, tmp_path: Path) -> None:
        path = written(tmp_path / "submission.csv", [("a", "10"), ("b", "2")])
        assert evaluated(path, LabelledPhotos(labels=path)).classes == ("2", "10")

    def test_an_id_that_stands_twice_is_refused(
        self, tmp_path: Path, labels: LabelledPhotos
    ) -> None:
        path = written(tmp_path / "submission.csv", [*self.ROWS, ("2.jpg", "2")])
        with pytest.raises(
            ToolkitError,
            match=r"submission\.csv: 1 ids have several rows .*\n  2\.jpg",
        ):
            evaluated(path, labels)

    def test_labels_without_rows_are_refused(self, tmp_path: Path) -> None:
        path = self.submitted(tmp_path, "2", "10", "2", "2")
        empty = LabelledPhotos(labels=written(tmp_path / "empty.csv", []))
        with pytest.raises(ToolkitError, match=r"empty\.csv: the file has no rows"):
            evaluated(path, empty)

    def test_labels_are_needed(self, tmp_path: Path) -> None:
        path = self.submitted(tmp_path, "2", "10", "2", "2")
        for labelled in (LabelledPhotos(), LabelledPhotos(data=tmp_path)):
            with pytest.raises(UsageError, match="`labels=FILE`"):
                evaluated(path, labelled)

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [("Id\n1.jpg\n", "no column beside the ids"), ("", "cannot be read")],
    )
    def test_a_file_that_is_no_table_of_answers_is_refused(
        self, tmp_path: Path, labels: LabelledPhotos, content: str, complaint: str
    ) -> None:
        path = tmp_path / "submission.csv"
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ToolkitError, match=complaint):
            evaluated(path, labels)


class TestComparison:
    def test_answers_are_matched_by_id(self, tmp_path: Path) -> None:
        """Rows of any order; the second also knows a photo without a label."""
        rows = [("a", "2"), ("b", "10"), ("c", "x y"), ("d", "2"), ("e", "10")]
        labels = LabelledPhotos(labels=written(tmp_path / "labels.csv", rows))
        first = written(
            tmp_path / "first.csv",
            [("e", "2"), ("d", "2"), ("c", "x y"), ("b", "10"), ("a", "2")],
        )
        second = written(
            tmp_path / "second.csv",
            [("b", "2"), ("a", "2"), ("f", "2"), ("c", "2"), ("e", "x y"), ("d", "2")],
        )
        found = compare_submissions(first, second, labels=labels.labels)
        assert (found.agreement.photos, found.agreement.differing) == (5, 3)
        assert found.paired is not None
        assert found.paired.accuracies == (0.8, 0.4)
        counts = (found.paired.only_first, found.paired.only_second, found.paired.both_wrong)
        assert counts == (2, 0, 1)
        assert found.paired.p_value == 0.5

    def test_a_class_that_only_one_names_is_compared_too(self, tmp_path: Path) -> None:
        first = written(tmp_path / "first.csv", [("a", "2"), ("b", "tractor")])
        second = written(tmp_path / "second.csv", [("a", "02"), ("b", "tractor")])
        found = compare_submissions(first, second)
        assert (found.agreement.equal, found.paired) == (0.5, None)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nothing", "no such file or folder"),
        ("nothing.csv", "no such file or folder"),
        ("a-folder", "Expected a run folder, a bundle folder"),
    ],
)
def test_a_subject_that_is_nothing_known_is_named(
    tmp_path: Path, name: str, complaint: str
) -> None:
    (tmp_path / "a-folder").mkdir()
    with pytest.raises(ToolkitError, match=rf"{name}: {complaint}"):
        evaluated(tmp_path / name, LabelledPhotos(data=tmp_path))
