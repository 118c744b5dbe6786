"""`toolkit ensemble`: from a bundle and photos to a submission, whatever happens on the way."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from toolkit import Ensemble
from toolkit.data.pixels import DEFINITION
from toolkit.files import sha256_json
from toolkit.inference import devices
from toolkit.inference.bundle import load_bundle, save_bundle
from toolkit.inference.journal import ROWS, Journal
from toolkit.inference.plan import PlanDevice, load_plan, save_plan
from toolkit.machine import usable_cores
from toolkit.reporting import job as reporting_job

ROW_BYTES = 8 * (1 + 2 + 3)
"""Of the journal: the file's state, what became of the photo, and three probabilities."""

CLASSES = ("2", "10", "x y")
MANY = 300
OUTPUTS = {"submission.csv", "submission.json", "latency.json"}


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here is the same on every machine."""
    monkeypatch.setattr(devices, "obstacle", lambda kind: f"there is no {kind} in tests")


def submitted(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def sample_ids(folder: Path) -> list[str]:
    return [row[0] for row in submitted(folder / "data" / "sample-submission.csv")[1:]]


def made(folder: Path) -> set[str]:
    """What a command left in the folder it was typed in."""
    return {path.name for path in folder.iterdir()} - {"bundle", "data"}


def with_pixels(folder: Path, **changes: Any) -> None:
    """Make a bundle's pixels be of another definition."""
    bundle = load_bundle(folder)
    save_bundle(replace(bundle, pixels=replace(bundle.pixels, **changes)))


def expected_probabilities(folder: Path, **options: Any) -> np.ndarray:
    paths = [folder / "data" / "test_upload" / id for id in sample_ids(folder)]
    return Ensemble.load(folder / "bundle", device="cpu", **options).predict(paths)


class TestOutputs:
    def test_without_any_option_there_is_a_submission(self, toolkit, home: Path) -> None:
        told = toolkit("ensemble")
        assert told.code == 0, told.err
        assert made(home) == OUTPUTS
        assert "submission.csv: 9 rows" in told.out

    def test_the_submission_has_the_samples_ids_order_and_columns(
        self, toolkit, home: Path
    ) -> None:
        sample = home / "data" / "sample-submission.csv"
        sample.write_text(sample.read_text().replace("Id,Category", "ID,category"))
        toolkit("ensemble", "--tta", 4)
        header, *rows = submitted(home / "submission.csv")
        assert header == ["ID", "category"]
        assert [row[0] for row in rows] == sample_ids(home)
        best = expected_probabilities(home, tta=4).argmax(axis=1)
        assert [row[1] for row in rows] == [CLASSES[index] for index in best]
        assert len({row[1] for row in rows}) > 1

    def test_a_flat_folder_of_photos_needs_no_sample(self, toolkit, home: Path) -> None:
        told = toolkit("ensemble", "--data", "data/test_upload")
        assert told.code == 0, told.err
        ids = [row[0] for row in submitted(home / "submission.csv")[1:]]
        assert ids == [f"{n}.png" for n in (1, 2, 3, 5, 7, 9, 11, 12, 20)]

    @pytest.mark.parametrize("name", ["p.csv", "p.parquet"])
    def test_probabilities_are_written_too(self, toolkit, home: Path, name: str) -> None:
        toolkit("ensemble", "--tta", 2, "--probabilities", name)
        assert made(home) == OUTPUTS | {name}
        if name.endswith(".csv"):
            table = pd.read_csv(home / name, dtype=str).astype(dict.fromkeys(CLASSES, float))
        else:
            table = pd.read_parquet(home / name)
        assert list(table.columns) == ["Id", *CLASSES]
        assert list(table["Id"]) == sample_ids(home)
        np.testing.assert_array_equal(
            table[list(CLASSES)].to_numpy(), expected_probabilities(home, tta=2)
        )

    def test_out_names_the_place_of_all_of_them(self, toolkit, home: Path) -> None:
        assert toolkit("ensemble", "--out", "results/mine.csv").code == 0
        assert made(home) == {"results"}
        assert made(home / "results") == {"mine.csv", "mine.json", "mine-latency.json"}

    def test_submissions_in_one_folder_keep_their_latency_reports(
        self, toolkit, home: Path
    ) -> None:
        for name in ("a", "b"):
            toolkit("ensemble", "--out", f"{name}.csv", "--quiet")
            manifest = json.loads((home / f"{name}.json").read_text(encoding="utf-8"))
            assert manifest["latency"]["file"] == f"{name}-latency.json"
        assert {"a-latency.json", "b-latency.json"} <= made(home)

    def test_the_manifest_says_what_was_asked(self, toolkit, home: Path) -> None:
        toolkit("ensemble", "--tta", 3, "--voting", "alpha=1,gamma=3", "--batch", 4)
        content = json.loads((home / "submission.json").read_text(encoding="utf-8"))
        assert content["options"]["tta"] == 3
        assert content["options"]["batch"] == 4
        assert content["voting"]["weights"] == {"alpha": 0.25, "beta": 0, "gamma": 0.75}
        assert content["device"] == {
            "provider": "CPUExecutionProvider",
            "device": devices.processor_name(),
        }
        assert content["notes"] == ["CUDA is unavailable: there is no cuda in tests"]

    def test_the_latency_report_counts_what_was_done(self, toolkit, home: Path) -> None:
        toolkit("ensemble", "--batch", 2, "--threads", 1, "--full")
        report = json.loads((home / "latency.json").read_text(encoding="utf-8"))
        assert (report["batch"], report["photos"]) == (2, 9)
        assert report["threads"] == 1
        counts = {work: stage["n"] for work, stage in report["stages"].items()}
        models = {f"model {name}": 4 for name in ("alpha fp32", "beta fp32", "gamma int8")}
        assert counts == {"decode": 9, "views": 9, "voting": 5, **models}
        assert {work: len(s) for work, s in report["samples_ms"].items()} == counts


class TestTold:
    def test_the_provider_is_told_and_why_it_is_no_gpu(self, toolkit, home: Path) -> None:
        told = toolkit("ensemble")
        assert "CPUExecutionProvider on " in told.err
        assert "CUDA is unavailable: there is no cuda in tests" in told.err
        assert "Cost on CPUExecutionProvider" in told.out

    def test_another_decoder_than_at_export_is_told_and_recorded(self, toolkit, home: Path) -> None:
        with_pixels(home / "bundle", decoder_version="Pillow 1.0")
        told = toolkit("ensemble", "--device", "cpu")
        (note,) = json.loads((home / "submission.json").read_text(encoding="utf-8"))["notes"]
        assert "at export they were by Pillow 1.0" in note
        assert note in told.err.splitlines()
        report = json.loads((home / "latency.json").read_text(encoding="utf-8"))
        assert report["notes"] == [note]

    def test_weights_of_fixed_views_are_not_taken_for_random_ones(
        self, toolkit, home: Path
    ) -> None:
        told = toolkit("ensemble", "--tta", 2, "--tta-views", "augmentor")
        assert "voting 'uniform, as the others are for fixed views' of alpha, beta" in told.err
        voting = json.loads((home / "submission.json").read_text(encoding="utf-8"))["voting"]
        assert set(voting["weights"].values()) == {1 / 3}
        assert voting["temperature"] == 1
        toolkit("ensemble", "--tta", 2, "--tta-views", "augmentor", "--voting", "fitted")
        voting = json.loads((home / "submission.json").read_text(encoding="utf-8"))["voting"]
        assert (voting["name"], voting["temperature"]) == ("fitted", 1.5)

    def test_quiet_tells_no_progress(self, toolkit, home: Path) -> None:
        assert toolkit("ensemble", "--quiet").err == ""

    def test_json_is_what_was_written_in_short(self, toolkit, home: Path) -> None:
        report = toolkit("ensemble", "--json").json
        written = json.loads((home / "latency.json").read_text(encoding="utf-8"))
        del written["samples_ms"]
        assert {key: report[key] for key in written} == written
        files = {"submission": "submission.csv", "manifest": "submission.json"}
        assert report["files"] == {**files, "latency": "latency.json"}
        manifest = json.loads((home / "submission.json").read_text(encoding="utf-8"))
        assert (report["rows"], report["guarantee"]) == (9, manifest["guarantee"])
        assert report["answered_with_class_prior"] == {}


class TestRefusals:
    @pytest.mark.parametrize("kind", ["cuda", "tensorrt"])
    def test_a_gpu_that_is_not_there(self, toolkit, home: Path, kind: str) -> None:
        told = toolkit("ensemble", "--device", kind)
        assert (told.code, told.out) == (1, "")
        assert told.err == (
            f"error: --device {kind}: there is no {kind} in tests. "
            "See 'toolkit doctor', or pass --device cpu.\n"
        )
        assert made(home) == set()

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            (["--probabilities", "p.xlsx"], "p.xlsx: Expected a name that ends in"),
            (["--out", "submission.json"], "two files would be written there"),
            (["--voting", "alfa=1"], "Did you mean 'alpha'?"),
            (["--voting", "best"], "no such voting"),
            (["--tta", "9"], "9 is not in the range 1<=x<=8"),
            (["--tta", "0"], "0 is not in the range 1<=x<=8"),
            (["--batch", "0"], "--batch"),
            (["--device", "gpu"], "'gpu' is not one of"),
        ],
    )
    def test_bad_usage_ends_with_2_before_any_prediction(
        self,
        toolkit,
        home: Path,
        monkeypatch: pytest.MonkeyPatch,
        options: list[str],
        complaint: str,
    ) -> None:
        monkeypatch.setattr(Ensemble, "answers", lambda *_: pytest.fail("predicted"))
        told = toolkit("ensemble", *options)
        assert told.code == 2
        assert complaint in told.err
        assert made(home) == set()

    def test_no_bundle(self, toolkit, home: Path) -> None:
        told = toolkit("ensemble", "--bundle", "elsewhere")
        assert (told.code, told.out) == (1, "")
        assert told.err.startswith("error: elsewhere: no bundle")
        assert told.err.count("\n") == 1

    def test_a_changed_bundle(self, toolkit, home: Path) -> None:
        with (home / "bundle" / "alpha.onnx").open("ab") as file:
            file.write(b"more")
        told = toolkit("ensemble")
        assert told.code == 1
        assert "alpha.onnx: the file was changed after the export" in told.err

    def test_a_bundle_of_another_pixel_definition(self, toolkit, home: Path) -> None:
        with_pixels(home / "bundle", rules={**DEFINITION, "draft_side": 512})
        told = toolkit("ensemble")
        assert (told.code, told.out) == (1, "")
        assert "bundle: its pixels have another definition (draft_side: Expected 1024" in told.err
        assert told.err.count("\n") == 1

    def test_no_data(self, toolkit, home: Path) -> None:
        told = toolkit("ensemble", "--data", "elsewhere")
        assert told.code == 1
        assert told.err.startswith("error: elsewhere: no such folder")

    def test_another_process_at_the_same_result(self, toolkit, home: Path) -> None:
        with Journal.held(home / "submission.csv", {}, 3, np.zeros(0)):
            told = toolkit("ensemble")
            assert told.code == 1
            assert "error: submission.csv: another process is writing it" in told.err
            assert toolkit("ensemble", "--out", "other.csv").code == 0


class TestBrokenPhotos:
    @pytest.fixture
    def spoilt(self, home: Path) -> Path:
        photos = home / "data" / "test_upload"
        (photos / "7.png").write_bytes(b"")
        (photos / "12.png").unlink()
        (photos / "2.png").write_text("no photo", encoding="utf-8")
        return home

    def test_all_are_listed_and_nothing_is_written(self, toolkit, spoilt: Path) -> None:
        told = toolkit("ensemble", "--quiet")
        assert (told.code, told.out) == (1, "")
        assert told.err.startswith("error: 3 of the photos to predict cannot be read.")
        assert [line.split(": ")[0].split("/")[-1] for line in told.err.splitlines()[1:]] == [
            "7.png",
            "12.png",
            "2.png",
        ]
        assert not made(spoilt) & OUTPUTS

    def test_skipped_they_get_the_most_frequent_class_and_are_named(
        self, toolkit, spoilt: Path
    ) -> None:
        told = toolkit("ensemble", "--skip-broken")
        assert told.code == 0
        answers = dict(submitted(spoilt / "submission.csv")[1:])
        assert list(answers) == sample_ids(spoilt)
        assert [answers[id] for id in ("7.png", "12.png", "2.png")] == ["10"] * 3
        for line in ("7.png: the file is empty", "12.png: no such file", "2.png: not a photo"):
            assert f"answered with the class prior: {line}" in told.err
        content = json.loads((spoilt / "submission.json").read_text(encoding="utf-8"))
        assert list(content["answered_with_class_prior"]) == ["7.png", "12.png", "2.png"]

    def test_mended_they_are_predicted(self, toolkit, spoilt: Path) -> None:
        toolkit("ensemble")
        photos = spoilt / "data" / "test_upload"
        for id in ("7.png", "12.png", "2.png"):
            (photos / id).write_bytes((photos / "1.png").read_bytes())
        assert toolkit("ensemble").code == 0
        answers = dict(submitted(spoilt / "submission.csv")[1:])
        assert len({answers[id] for id in ("1.png", "7.png", "12.png", "2.png")}) == 1


class TestInterrupted:
    """Killed at any moment, the same command goes on and writes the same bytes."""

    COMMAND = ("ensemble", "--tta", "8", "--tta-views", "augmentor", "--batch", "1", "--quiet")
    OPTIONS = ("--voting", "uniform", "--device", "cpu", "--probabilities", "p.csv", "--json")
    RESULTS = ("submission.csv", "p.csv")

    @pytest.fixture
    def many(self, home: Path, draw_photo: Callable[..., Image.Image]) -> Path:
        rows = ["Id,Category"]
        for number in range(MANY):
            draw_photo(number, (40, 30)).save(home / "data" / "test_upload" / f"n{number}.png")
            rows.append(f"n{number}.png,2")
        sample = home / "data" / "sample-submission.csv"
        sample.write_text("\n".join(rows), encoding="utf-8")
        return home

    @pytest.fixture
    def killed(self, many: Path) -> Iterator[int]:
        """Kill the command with some rows written; give their number."""
        program = "from toolkit.cli.main import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", program, *self.COMMAND, *self.OPTIONS],
            cwd=many,
            stdout=subprocess.DEVNULL,
        )
        rows = many / ".submission.csv.partial" / ROWS
        deadline = monotonic() + 60
        try:
            while not (rows.is_file() and rows.stat().st_size >= 10 * ROW_BYTES):
                assert process.poll() is None, "it ended before it could be killed"
                assert monotonic() < deadline
                sleep(0.002)
        finally:
            process.kill()  # SIGKILL: nothing can be put in order any more.
            process.wait()
        yield rows.stat().st_size // ROW_BYTES

    def test_the_result_is_that_of_an_uninterrupted_run(
        self, toolkit, many: Path, killed: int
    ) -> None:
        assert 10 <= killed < MANY
        assert made(many) == {".submission.csv.partial"}
        report = toolkit(*self.COMMAND, *self.OPTIONS).json
        assert report["resumed_photos"] == killed
        assert report["photos"] == report["stages"]["decode"]["n"] == MANY - killed
        resumed = [(many / name).read_bytes() for name in self.RESULTS]
        assert made(many) == OUTPUTS | {"p.csv"}
        for name in made(many):
            (many / name).unlink()
        assert toolkit(*self.COMMAND, *self.OPTIONS).json["resumed_photos"] == 0
        assert [(many / name).read_bytes() for name in self.RESULTS] == resumed

    def test_other_options_do_not_use_its_rows(self, toolkit, many: Path, killed: int) -> None:
        options = [each for each in (*self.COMMAND, *self.OPTIONS) if each != "--quiet"]
        told = toolkit(*options, "--seed", 1)
        assert "predictions of an interrupted job; settings changed: seed" in told.err
        assert told.json["resumed_photos"] == 0
        assert told.json["photos"] == MANY

    def test_a_broken_photo_that_is_skipped_then_costs_none_of_its_rows(
        self, toolkit, many: Path, killed: int
    ) -> None:
        (many / "data" / "test_upload" / f"n{MANY - 1}.png").write_bytes(b"")
        assert toolkit(*self.COMMAND, *self.OPTIONS).code == 1
        told = toolkit(*self.COMMAND, *self.OPTIONS, "--skip-broken")
        assert told.json["resumed_photos"] >= killed
        assert list(told.json["answered_with_class_prior"]) == [f"n{MANY - 1}.png"]

    def test_before_the_manifest_no_older_one_speaks_of_its_labels(
        self, toolkit, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        toolkit("ensemble")

        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(reporting_job, "submission_manifest", interrupt)
            assert toolkit("ensemble", "--voting", "alpha=1").code == 130
        assert "submission.json" not in made(home)
        told = toolkit("ensemble", "--voting", "alpha=1", "--json")
        assert told.json["resumed_photos"] == 9
        assert made(home) == OUTPUTS

    def test_a_photo_that_changed_while_it_ran_is_predicted_anew(
        self, toolkit, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        photos = home / "data" / "test_upload"
        real = reporting_job.predict_request

        def predict(*arguments: Any, **named: Any) -> Any:
            outcome = real(*arguments, **named)
            (photos / "7.png").write_bytes((photos / "1.png").read_bytes())
            return outcome

        with monkeypatch.context() as patched:
            patched.setattr(reporting_job, "predict_request", predict)
            told = toolkit("ensemble")
        assert (told.code, told.out) == (1, "")
        assert "1 photo changed while the job ran. Run the same command again" in told.err
        assert "7.png" in told.err
        assert not made(home) & OUTPUTS
        assert toolkit("ensemble").code == 0
        answers = dict(submitted(home / "submission.csv")[1:])
        assert answers["7.png"] == answers["1.png"]


class TestSkipping:
    """Labels are the full ensemble's, by fewer calls; with a tolerance a few may differ."""

    COMMAND = ("ensemble", "--data", "photos", "--tta", "2", "--device", "cpu")
    CASCADE = ("--tolerance", "0.1", "--confidence", "0.9")
    PHOTOS = 120

    @pytest.fixture
    def prepared(self, photos_to_skip: Path, known_costs: Callable[[Path], None]) -> Path:
        known_costs(photos_to_skip / "bundle")
        return photos_to_skip

    def test_by_default_the_same_labels_are_written_by_fewer_calls(
        self, toolkit, prepared: Path
    ) -> None:
        assert toolkit(*self.COMMAND, "--full", "--out", "full.csv").code == 0
        told = toolkit(*self.COMMAND)
        assert told.code == 0, told.err
        assert (prepared / "submission.csv").read_bytes() == (prepared / "full.csv").read_bytes()
        manifest = json.loads((prepared / "submission.json").read_text(encoding="utf-8"))
        report = json.loads((prepared / "latency.json").read_text(encoding="utf-8"))
        assert manifest["method"] == report["method"] == "label-exact"
        assert manifest["plan"]["search"] is None
        guarantee = "every label is the full ensemble's (calls that could not change it were"
        assert manifest["guarantee"].startswith(guarantee)
        assert f"guarantee: {guarantee}" in told.out
        assert 3 < report["inference"]["calls_a_photo"] < 5
        assert report["inference"]["full_calls_a_photo"] == 6
        assert (report["cascade"], report["precision"]) == (None, ["fp32"])
        assert report["threads"] == usable_cores()

    def test_in_full_every_call_is_made_and_nothing_is_said_of_it(
        self, toolkit, prepared: Path
    ) -> None:
        told = toolkit(*self.COMMAND, "--full")
        manifest = json.loads((prepared / "submission.json").read_text(encoding="utf-8"))
        assert manifest["method"] == "full"
        assert manifest["guarantee"] == "every label is the full ensemble's"
        report = json.loads((prepared / "latency.json").read_text(encoding="utf-8"))
        assert report["inference"]["calls_a_photo"] == 6
        assert "guarantee" not in told.out + told.err

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (("--probabilities", "p.csv"), "a file of probabilities is wanted"),
            (("--format", "probabilities"), "probabilities are wanted"),
        ],
    )
    def test_where_probabilities_are_wanted_every_call_is_made_and_that_is_said(
        self, toolkit, prepared: Path, options: tuple[str, ...], reason: str
    ) -> None:
        told = toolkit(*self.COMMAND, *options)
        assert told.code == 0, told.err
        assert f"every member looks at every view: {reason}" in told.err
        manifest = json.loads((prepared / "submission.json").read_text(encoding="utf-8"))
        assert manifest["method"] == "full"
        told = toolkit(*self.COMMAND, *self.CASCADE, *options)
        assert (told.code, told.out) == (2, "")
        assert "--tolerance: a cascade gives the full ensemble's labels, not its prob" in told.err
        assert reason in told.err

    @pytest.mark.parametrize(
        "options", [("--tta-views", "augmentor"), ("--voting", "beta=1", "--tta", "1")]
    )
    def test_where_there_is_nothing_to_skip_nothing_is_said(
        self, toolkit, prepared: Path, options: tuple[str, ...]
    ) -> None:
        told = toolkit(*self.COMMAND, *options)
        assert told.code == 0, told.err
        assert "guarantee" not in told.out + told.err
        manifest = json.loads((prepared / "submission.json").read_text(encoding="utf-8"))
        assert manifest["method"] == "full"

    def test_with_a_tolerance_the_guarantee_is_printed_recorded_and_kept(
        self, toolkit, prepared: Path
    ) -> None:
        toolkit(*self.COMMAND, "--out", "exact/submission.csv")
        told = toolkit(*self.COMMAND, *self.CASCADE)
        assert told.code == 0, told.err
        manifest = json.loads((prepared / "submission.json").read_text(encoding="utf-8"))
        report = json.loads((prepared / "latency.json").read_text(encoding="utf-8"))
        guarantee = manifest["guarantee"]
        assert guarantee.startswith("at most 12 of 120 labels differ from the full ensemble's")
        assert f"guarantee: {guarantee}" in told.out
        assert f"guarantee: {guarantee}" in told.err
        assert manifest["method"] == report["method"] == "cascade"
        cascade = report["cascade"]
        calls = "; ".join(call for step in cascade["steps"] for call in step["calls"])
        assert report["precision"] == ["fp32", "int8"]
        assert " int8, " in calls
        assert report["guarantee"] == guarantee
        assert cascade["expected_ms_a_photo"] < cascade["full_ms_a_photo"] == 18
        counts = [step["photos"] for step in cascade["steps"]]
        assert sum(counts) + cascade["sampled"] + cascade["full"]["photos"] == self.PHOTOS
        assert min(*counts, cascade["sampled"]) > 0
        exact = submitted(prepared / "exact" / "submission.csv")
        found = submitted(prepared / "submission.csv")
        assert [row[0] for row in found] == [row[0] for row in exact]
        assert sum(a != b for a, b in zip(found, exact, strict=True)) <= 12
        assert made(prepared) - OUTPUTS == {"exact", "photos"}, "the plan is nobody's file"

    def test_another_batch_writes_the_same_bytes(self, toolkit, prepared: Path) -> None:
        for options in ((), self.CASCADE):
            written = []
            for batch in (16, 3):
                out = f"{len(options)}/{batch}/submission.csv"
                told = toolkit(*self.COMMAND, *options, "--batch", batch, "--out", out)
                assert told.code == 0, told.err
                manifest = json.loads((prepared / out).with_suffix(".json").read_text("utf-8"))
                hashed = manifest["probabilities"]["values_sha256"]
                written.append((hashed if options else "", (prepared / out).read_bytes()))
            assert written[0] == written[1]

    def test_broken_photos_are_listed_in_the_order_of_the_request(
        self, toolkit, prepared: Path
    ) -> None:
        broken = ["7.png", "30.png", "61.png", "100.png"]
        for name in broken:
            (prepared / "photos" / name).write_bytes(b"")
        told = toolkit(*self.COMMAND, *self.CASCADE, "--quiet")
        assert told.code == 1
        listed = [line.partition(":")[0].rpartition("/")[2] for line in told.err.splitlines()[1:]]
        assert listed == broken

    def test_a_plans_file_is_followed(self, toolkit, prepared: Path) -> None:
        toolkit(*self.COMMAND, *self.CASCADE, "--out", "first.csv")
        assert toolkit("plan", *self.COMMAND[1:], *self.CASCADE).code == 0
        assert {"plan.json", "plan.png"} <= made(prepared)
        told = toolkit(*self.COMMAND, "--plan", "plan.json", "--out", "second.csv")
        assert told.code == 0, told.err
        assert (prepared / "first.csv").read_bytes() == (prepared / "second.csv").read_bytes()
        told = toolkit(*self.COMMAND, "--plan", "plan.json", "--voting", "pair")
        assert (told.code, told.out) == (1, "")
        assert "plan.json: voting: Expected 'pair', received another" in told.err
        told = toolkit(*self.COMMAND, "--plan", "plan.json", "--out", "plan.csv")
        assert (told.code, told.out) == (2, "")
        assert "this submission's own files would be written over it" in told.err

    def test_a_forged_plan_is_refused(self, toolkit, prepared: Path) -> None:
        """One call fifty times, with a hash that fits."""
        assert toolkit("plan", *self.COMMAND[1:], *self.CASCADE).code == 0
        content = json.loads((prepared / "plan.json").read_text(encoding="utf-8"))
        del content["sha256"]
        content["steps"][0] *= 50
        forged = {**content, "sha256": sha256_json(content)}
        (prepared / "plan.json").write_text(json.dumps(forged), encoding="utf-8")
        told = toolkit(*self.COMMAND, "--plan", "plan.json")
        assert (told.code, told.out) == (1, "")
        assert told.err.splitlines()[-1].startswith("error: plan.json: steps: '")
        assert "Expected each call once" in told.err
        assert not made(prepared) & OUTPUTS

    def test_costs_of_another_device_are_told(self, toolkit, prepared: Path) -> None:
        toolkit("plan", *self.COMMAND[1:], *self.CASCADE, "--out", "mine.json")
        plan = load_plan(prepared / "mine.json")
        assert plan.search is not None
        elsewhere = plan.search.model_copy(update={"device": PlanDevice(kind="cuda", name="GPU")})
        save_plan(plan.model_copy(update={"search": elsewhere}), prepared / "mine.json")
        told = toolkit(*self.COMMAND, "--plan", "mine.json")
        assert told.code == 0, told.err
        assert "mine.json: its costs were measured on GPU (cuda), and this is" in told.err

    def test_a_plan_as_json_is_what_its_file_holds(self, toolkit, prepared: Path) -> None:
        told = toolkit("plan", *self.COMMAND[1:], *self.CASCADE, "--out", "mine.json", "--json")
        assert told.code == 0, told.err
        kept = json.loads((prepared / "mine.json").read_text(encoding="utf-8"))
        del kept["sha256"]
        assert told.json["plan"] == kept
        assert "Infinity" not in told.out

    def test_a_plan_is_not_drawn_over(self, toolkit, prepared: Path) -> None:
        told = toolkit("plan", *self.COMMAND[1:], "--out", "plan.png")
        assert (told.code, told.out) == (2, "")
        assert "--out plan.png: Expected a name that ends in .json" in told.err
        assert not (prepared / "plan.png").exists()

    @pytest.mark.parametrize(
        ("photos", "reason"),
        [
            (20, "for so few photos a certificate costs more than it saves"),
            (120, "of them get the full ensemble to certify on"),
        ],
    )
    def test_a_plan_says_what_a_job_of_so_many_photos_would_do(
        self, toolkit, prepared: Path, photos: int, reason: str
    ) -> None:
        told = toolkit("plan", *self.COMMAND[1:], *self.CASCADE, "--photos", photos)
        assert told.code == 0, told.err
        assert f"for {photos} photos: " in told.out
        assert reason in told.out

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            (["--certify", "off"], "--certify: Expected with --tolerance or --plan"),
            (["--confidence", "0.9"], "--confidence: Expected with --tolerance or --plan"),
            (["--budget-ms", "3"], "--budget-ms: Expected with --tolerance or --plan"),
            (["--tolerance", "0.1", "--tta-views", "augmentor"], "Expected fixed views"),
            (["--tolerance", "1"], "--tolerance"),
            (["--full", "--tolerance", "0.1"], "--full: Expected without --tolerance"),
            (["--plan", "nowhere.json"], "--plan nowhere.json: no such file"),
        ],
    )
    def test_what_does_not_fit_together_is_bad_usage(
        self, toolkit, home: Path, options: list[str], complaint: str
    ) -> None:
        told = toolkit("ensemble", *options)
        assert (told.code, told.out) == (2, "")
        assert complaint in told.err
        assert made(home) == set()
