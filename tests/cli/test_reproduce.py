"""`toolkit reproduce`: a submission made again, and what stands in its way."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from toolkit.files import sha256_file
from toolkit.inference import devices
from toolkit.inference.executor import Executor
from toolkit.reporting import job


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "obstacle", lambda kind: f"there is no {kind} in tests")


def everything_below(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def probabilities_in(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str).astype(dict.fromkeys(("2", "10", "x y"), float))


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def answered_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on another processor: every probability is a little another, and some labels with it."""
    real = Executor.predict

    def predict(executor: Executor, *arguments: Any, **named: Any) -> Iterator[Any]:
        for answer in real(executor, *arguments, **named):
            answer.probabilities[:] = np.roll(answer.probabilities, 1, axis=1)
            yield answer

    monkeypatch.setattr(Executor, "predict", predict)


@pytest.fixture
def submitted(toolkit: Any, home: Path) -> Path:
    """A folder with a submission of nine photos, its manifest and its probabilities."""
    told = toolkit("ensemble", "--tta", 2, "--batch", 4, "--probabilities", "p.csv")
    assert told.code == 0, told.err
    return home


class TestEqual:
    def test_it_comes_out_again_and_nothing_is_written(self, toolkit, submitted: Path) -> None:
        before = everything_below(submitted)
        told = toolkit("reproduce", "--quiet")
        assert (told.code, told.err) == (0, "")
        assert "submission.csv: the same, byte for byte (9 rows)." in told.out
        assert "p.csv: the same to the last bit." in told.out
        assert told.out.splitlines()[-1] == "equal"
        assert "Other than" not in told.out
        assert everything_below(submitted) == before

    def test_as_json(self, toolkit, submitted: Path) -> None:
        found = toolkit("reproduce", "submission.csv", "--json").json
        assert found["equal"] is found["same"] is found["probabilities_same"] is True
        assert (found["state"], found["rows"], found["labels"]) == ("as made", 9, [])
        assert found["largest_difference"] == 0
        assert found["differs"] == []

    def test_from_any_folder_and_after_all_of_it_moved(
        self, toolkit, submitted: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        moved = submitted.rename(submitted.with_name("elsewhere"))
        (moved.parent / "other").mkdir()
        monkeypatch.chdir(moved.parent / "other")
        assert toolkit("reproduce", "../elsewhere/submission.json").code == 0

    def test_where_the_submission_is_not_where_the_command_was_typed(
        self, toolkit, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = ("--out", "results/first/mine.csv", "--probabilities", "said/p.parquet")
        assert toolkit("ensemble", *options).code == 0
        monkeypatch.chdir(home / "data")
        told = toolkit("reproduce", "../results/first/mine.json")
        assert told.code == 0, told.err
        assert "p.parquet: the same to the last bit." in told.out

    @pytest.mark.parametrize(
        "options",
        [
            ("--tta", 2, "--tta-views", "augmentor", "--seed", 5),
            ("--voting", "alpha=1,gamma=3", "--threads", 1),
        ],
    )
    def test_random_views_and_votes_of_ones_own(
        self, toolkit, home: Path, options: tuple[object, ...]
    ) -> None:
        assert toolkit("ensemble", *options).code == 0
        found = toolkit("reproduce", "--json").json
        assert found["equal"] is found["probabilities_same"] is True
        assert found["probabilities"] is None

    def test_photos_that_were_skipped_are_skipped_again(self, toolkit, home: Path) -> None:
        (home / "data" / "test_upload" / "7.png").unlink()
        (home / "data" / "test_upload" / "3.png").write_bytes(b"no photo")
        assert toolkit("ensemble", "--skip-broken").code == 0
        told = toolkit("reproduce")
        assert told.code == 0, told.err

    def test_what_is_kept_is_what_was_compared(self, toolkit, submitted: Path) -> None:
        before = everything_below(submitted)
        assert toolkit("reproduce", "--keep", "again").code == 0
        assert (submitted / "again" / "submission.csv").read_bytes() == (
            submitted / "submission.csv"
        ).read_bytes()
        kept = {path.name for path in (submitted / "again").iterdir()}
        assert kept == {
            *("submission.csv", "submission.json", "latency.json"),
            "submission-probabilities.csv",
        }
        assert {key: value for key, value in everything_below(submitted).items() if key in before}

    def test_what_was_other_then_is_told(self, toolkit, submitted: Path) -> None:
        def age(content: dict[str, Any]) -> None:
            content["versions"]["numpy"] = "1.0"
            content["threads"] = 64
            content["options"]["threads"] = 1_000_000

        edited(submitted / "submission.json", age)
        told = toolkit("reproduce")
        assert told.code == 0, told.err
        assert "Other than when it was made:" in told.out
        assert f"  numpy: then 1.0, now {np.__version__}" in told.out
        assert "  threads: then 64, now " in told.out


class TestNotEqual:
    def test_a_changed_submission_is_told_from_one_that_does_not_come_out(
        self, toolkit, submitted: Path
    ) -> None:
        path = submitted / "submission.csv"
        header, first, *rest = rows_of(path)
        other = "10" if first[1] != "10" else "2"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, [first[0], other], *rest[:-1]])
        found = toolkit("reproduce", "--json")
        assert found.code == 1
        assert (found.json["state"], found.json["same"]) == ("changed", True)
        assert found.json["labels"] == [
            {"id": first[0], "submitted": other, "again": first[1]},
            {"id": rest[-1][0], "submitted": None, "again": rest[-1][1]},
        ]
        told = toolkit("reproduce")
        assert told.code == 1
        assert "THE FILE WAS CHANGED since it was made; what was made again is, byte" in told.out
        assert "2 of 9 answers differ" in told.out
        assert "no row" in told.out
        assert told.out.splitlines()[-1] == "not equal"

    def test_a_missing_submission_is_judged_by_its_hash(self, toolkit, submitted: Path) -> None:
        (submitted / "submission.csv").unlink()
        (submitted / "p.csv").unlink()
        told = toolkit("reproduce", "submission.json")
        assert told.code == 0, told.err
        assert "submission.csv: the file is missing; what was made again is, byte" in told.out
        assert "p.csv: the file is missing; by their hash" in told.out

    def test_changed_probabilities_are_found(self, toolkit, submitted: Path) -> None:
        table = probabilities_in(submitted / "p.csv")
        table.iloc[3, 2] += 0.125
        table.to_csv(submitted / "p.csv", index=False, lineterminator="\n")
        told = toolkit("reproduce", "--json")
        assert told.code == 1
        assert told.json["same"] is told.json["probabilities_same"] is True
        assert told.json["largest_difference"] == pytest.approx(0.125)
        assert "THE FILE WAS CHANGED" in toolkit("reproduce").out

    def test_other_answers_are_counted_and_a_reason_is_looked_for(
        self, toolkit, submitted: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = probabilities_in(submitted / "p.csv")
        answered_otherwise(monkeypatch)
        found = toolkit("reproduce", "--json")
        assert found.code == 1
        values = old.iloc[:, 1:].to_numpy()
        expected = np.abs(values - np.roll(values, 1, axis=1)).max()
        assert found.json["largest_difference"] == pytest.approx(expected)
        assert (found.json["same"], len(found.json["labels"])) == (False, 9)
        told = toolkit("reproduce")
        assert "submission.csv: differs from what was made again." in told.out
        assert f"the largest difference from the file is {expected:.2g}" in told.out
        assert "the difference is a fault, of the machine or of the toolkit" in told.out
        edited(
            submitted / "submission.json",
            lambda content: content["versions"].update({"onnxruntime": "0.1"}),
        )
        told = toolkit("reproduce")
        assert "Other than when it was made, which may be the reason:" in told.out
        assert "  onnxruntime: then 0.1, now " in told.out


class TestRefused:
    def refused(self, toolkit, *arguments: object) -> str:
        told = toolkit("reproduce", *arguments)
        assert (told.code, told.out) == (1, "")
        assert told.err.startswith("error: ")
        return told.err

    def test_another_bundle(self, toolkit, submitted: Path, plannable: Path) -> None:
        shutil.rmtree(submitted / "bundle")
        assert "the bundle is not there. Say where it is with --bundle" in self.refused(toolkit)
        complaint = self.refused(toolkit, "--bundle", plannable)
        assert "another bundle (" in complaint

    def test_the_bundle_may_have_moved(self, toolkit, submitted: Path) -> None:
        (submitted / "bundle").rename(submitted / "models")
        told = toolkit("reproduce", "--bundle", "models")
        assert told.code == 0, told.err

    def test_changed_and_missing_photos_are_all_named(self, toolkit, submitted: Path) -> None:
        photos = submitted / "data" / "test_upload"
        Image.new("RGB", (20, 20)).save(photos / "5.png")
        (photos / "12.png").unlink()
        lines = self.refused(toolkit).splitlines()
        assert "2 of 9 photos are not those that were predicted" in lines[0]
        assert "--data" in lines[0]
        assert lines[1].endswith("5.png: was changed")
        assert lines[2].endswith("12.png: is missing")

    def test_photos_touched_but_not_changed_pass(self, toolkit, submitted: Path) -> None:
        for path in (submitted / "data" / "test_upload").iterdir():
            path.touch()
        assert toolkit("reproduce").code == 0

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            (lambda lines: lines[:-1], "8 photos, not 9"),
            (lambda lines: [lines[0], *reversed(lines[1:])], "with other ids, columns or order"),
        ],
    )
    def test_other_ids(
        self,
        toolkit,
        submitted: Path,
        change: Callable[[list[str]], list[str]],
        complaint: str,
    ) -> None:
        sample = submitted / "data" / "sample-submission.csv"
        lines = change(sample.read_text(encoding="utf-8").splitlines())
        sample.write_text("\n".join(lines), encoding="utf-8")
        assert complaint in self.refused(toolkit)

    def test_data_that_is_gone(self, toolkit, submitted: Path) -> None:
        (submitted / "data").rename(submitted / "photos")
        assert "the data is not there. Say where it is with --data" in self.refused(toolkit)
        assert toolkit("reproduce", "--data", "photos").code == 0

    def test_a_device_that_is_not_there(self, toolkit, submitted: Path) -> None:
        assert "there is no cuda in tests" in self.refused(toolkit, "--device", "cuda")

    def test_nothing_is_overwritten(self, toolkit, submitted: Path) -> None:
        before = everything_below(submitted)
        told = toolkit("reproduce", "--keep", ".")
        assert told.code == 2
        assert "submission.csv is there already, and nothing is overwritten" in told.err
        assert everything_below(submitted) == before

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (None, "submission.json: no such file"),
            ("{", "cannot be read as JSON"),
            ("{}", "is no manifest of a submission"),
            ('{"submission": {}, "options": {}}', "is no manifest of a submission"),
            ('{"submission": {}, "options": {}, "format": {}}', "the key is missing"),
        ],
    )
    def test_a_manifest_that_is_none(
        self, toolkit, here: Path, content: str | None, complaint: str
    ) -> None:
        if content is not None:
            (here / "submission.json").write_text(content, encoding="utf-8")
        assert complaint in self.refused(toolkit)

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            (lambda content: content["options"].pop("tta"), "options.tta: the key is missing"),
            (lambda content: content.pop("versions"), "versions: the key is missing"),
            (lambda content: content["options"].update(tta=9), "options.tta: Input should be less"),
            (lambda content: content["options"].update(tta="2"), "options.tta: Input should be"),
            (lambda content: content["options"].update(mine=1), "options.mine: unknown key"),
            (
                lambda content: content["options"]["reading"].update(mine="x"),
                "options.reading.mine",
            ),
            (lambda content: content["options"]["answer"].update(top="x"), "options.answer.top"),
            (
                lambda content: content["submission"].update(file="../../s.csv"),
                "submission.file: Expected the name of a file, without folders",
            ),
            (lambda content: content["submission"].update(sha256="00"), "submission.sha256"),
            (lambda content: content["plan"].update(views=0), "plan"),
            (lambda content: content["voting"].update(weights={"alpha": 2.0}), "voting.weights"),
            (lambda content: content["format"].update(answers=["none"]), "format: answers"),
            (lambda content: content.update(photos=-1), "photos: Input should be"),
        ],
    )
    def test_a_damaged_manifest_names_the_key(
        self,
        toolkit,
        submitted: Path,
        change: Callable[[dict[str, Any]], object],
        complaint: str,
    ) -> None:
        edited(submitted / "submission.json", change)
        told = self.refused(toolkit)
        assert complaint in told
        assert "submission.json" in told
        assert len(told.splitlines()) == 1


class TestPlan:
    """The plan that a submission followed is in its manifest, and followed again."""

    COMMAND = ("ensemble", "--data", "photos", "--tta", 2, "--device", "cpu", "--seed", 3)
    CASCADE = ("--tolerance", "0.1", "--confidence", "0.9")

    @pytest.fixture
    def prepared(
        self, toolkit: Any, photos_to_skip: Path, known_costs: Callable[[Path], None]
    ) -> Path:
        known_costs(photos_to_skip / "bundle")
        told = toolkit(*self.COMMAND, *self.CASCADE, "--out", "out/cascade.csv")
        assert told.code == 0, told.err
        return photos_to_skip

    def test_it_comes_out_again_on_a_machine_that_never_measured(
        self, toolkit, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert toolkit(*self.COMMAND, "--out", "out/exact.csv").code == 0
        shutil.rmtree(tmp_path / "cache")
        moved = prepared.rename(prepared.with_name("elsewhere"))
        monkeypatch.chdir(moved.parent)
        before = everything_below(moved)
        for name in ("cascade", "exact"):
            found = toolkit("reproduce", f"elsewhere/out/{name}.json", "--json")
            assert found.code == 0, found.err
            assert found.json["probabilities_same"] is True
        assert everything_below(moved) == before
        assert not list((tmp_path / "cache").rglob("*.json"))

    def test_a_guarantee_of_ones_own_for_a_plans_file_is_kept(
        self, toolkit, prepared: Path
    ) -> None:
        assert toolkit("plan", *self.COMMAND[1:-2], *self.CASCADE).code == 0
        options = ("--plan", "plan.json", "--certify", "off", "--confidence", "0.99")
        told = toolkit(*self.COMMAND, *options, "--out", "out/off.csv")
        assert told.code == 0, told.err
        (prepared / "plan.json").unlink()
        told = toolkit("reproduce", "out/off.json")
        assert told.code == 0, told.err

    def test_interrupted_at_the_end_it_goes_on_in_the_folder_that_keeps_it(
        self, toolkit, prepared: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(job, "submission_manifest", interrupt)
            assert toolkit("reproduce", "out/cascade.json", "--keep", "again").code == 130
        assert (prepared / "again" / "cascade.csv").is_file()
        told = toolkit("reproduce", "out/cascade.json", "--keep", "again")
        assert told.code == 0, told.err

    def test_a_plan_that_was_forged_is_refused(self, toolkit, prepared: Path) -> None:
        def forged(content: dict[str, Any]) -> None:
            content["plan"]["steps"][0] *= 50

        edited(prepared / "out" / "cascade.json", forged)
        told = toolkit("reproduce", "out/cascade.json")
        assert (told.code, told.out) == (1, "")
        assert "cascade.json: plan: steps: '" in told.err
