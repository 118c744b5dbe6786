"""A submission, its manifest and its costs say what was asked, what was done, and nothing else."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import toolkit
from toolkit.data.request import Request
from toolkit.errors import ToolkitError, UsageError
from toolkit.files import sha256_file
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.journal import Journal
from toolkit.inference.predict import PredictionJob, Predictions, predict_request
from toolkit.machine import usable_cores
from toolkit.reporting.answer_files import write_answers
from toolkit.reporting.format_choice import choose_format
from toolkit.reporting.formats import AnswerFormat, FormatOptions
from toolkit.reporting.latency import LatencyReport, latency_report
from toolkit.reporting.manifest import Made, Options, SkippingRecord, UsedBundle, VotingRecord
from toolkit.reporting.provenance import described_request, recorded
from toolkit.reporting.submission import (
    check_paths,
    latency_path,
    submission_manifest,
    write_probabilities,
)

CLASSES = ("2", "10", "x y")
IDS = ("007.png", "b, with comma.png", "Käfer.png", "10.png", "9.png")


@dataclass(frozen=True)
class Predicted:
    """Five photos that were predicted in batches of 2, one resumed."""

    ensemble: Ensemble
    request: Request
    outcome: Predictions


@pytest.fixture
def predicted(tiny_bundle, tmp_path: Path, draw_photo: Callable[..., Image.Image]) -> Predicted:
    for seed, id in enumerate(IDS):
        draw_photo(seed).save(tmp_path / id)
    request = Request(IDS, tuple(tmp_path / id for id in IDS), ("image_id", "Label"))
    ensemble = Ensemble.load(tiny_bundle.folder, tta=2, device="cpu", batch=2)
    job = PredictionJob.of(ensemble.plan, len(IDS))
    with Journal.held(tmp_path / "partial", {}, 5, np.zeros(len(IDS))) as journal:
        journal.append(np.array([[0, 0, 0.1, 0.2, 0.7]]))
        outcome = predict_request(ensemble, request, job, journal, skip_broken=False)
    return Predicted(ensemble, request, outcome)


def write_labels(path: Path, request: Request, probabilities: Any) -> AnswerFormat:
    wanted = choose_format(request, CLASSES)
    write_answers(path, wanted, request, probabilities, CLASSES)
    return wanted


class TestSubmission:
    def test_it_keeps_sample_order_columns_and_category_values(self, tmp_path: Path) -> None:
        labels = [2, 1, 0, 1, 2]
        path = tmp_path / "new" / "submission.csv"
        request = Request(IDS, (Path(),) * 5, ("image_id", "Label"))
        write_labels(path, request, np.eye(3)[labels])
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        assert header == ["image_id", "Label"]
        assert rows == [[id, CLASSES[label]] for id, label in zip(IDS, labels, strict=True)]

    def test_its_bytes_are_the_same_on_every_system(self, tmp_path: Path) -> None:
        request = Request(("1.jpg", "a,b.jpg"), (Path(),) * 2)
        write_labels(tmp_path / "s.csv", request, np.eye(3)[1:])
        assert (tmp_path / "s.csv").read_bytes() == b'Id,Category\n1.jpg,10\n"a,b.jpg",x y\n'


class TestProbabilities:
    @pytest.mark.parametrize("name", ["p.csv", "p.parquet", "p.PARQUET"])
    def test_they_read_back_as_they_were(
        self, predicted: Predicted, tmp_path: Path, name: str
    ) -> None:
        path = tmp_path / name
        write_probabilities(path, predicted.request, predicted.outcome, CLASSES)
        if name == "p.csv":
            table = pd.read_csv(path, dtype=str).astype(dict.fromkeys(CLASSES, float))
        else:
            table = pd.read_parquet(path)
        assert list(table.columns) == ["image_id", *CLASSES]
        assert list(table["image_id"]) == list(IDS)
        np.testing.assert_array_equal(
            table[list(CLASSES)].to_numpy(), predicted.outcome.probabilities
        )


class TestPaths:
    @pytest.mark.parametrize("name", ["p.json", "p", "p.csv.gz"])
    def test_an_unknown_suffix_of_probabilities_is_refused(self, name: str) -> None:
        with pytest.raises(UsageError, match=r"`probabilities=.*\.csv or \.parquet"):
            check_paths(Path("submission.csv"), Path(name))

    @pytest.mark.parametrize(
        ("out", "probabilities"),
        [
            ("submission.json", None),
            ("s.csv", "s.csv"),
            ("s.csv", "{cwd}/s.csv"),
        ],
    )
    def test_two_files_of_one_name_are_refused(self, out: str, probabilities: str | None) -> None:
        other = Path(probabilities.format(cwd=Path.cwd())) if probabilities else None
        with pytest.raises(UsageError, match="two files would be written there"):
            check_paths(Path(out), other)

    def test_the_plan_that_is_followed_is_not_written_over(self) -> None:
        with pytest.raises(UsageError, match=r"`plan='\S*/mine\.json'`: .* another name"):
            check_paths(Path("mine.csv"), None, Path("mine.json").absolute())
        check_paths(Path("other.csv"), None, Path("mine.json"))

    def test_submissions_in_one_folder_keep_their_latency_reports_apart(self) -> None:
        names = [latency_path(Path(out)).name for out in ("submission.csv", "a.csv", "b.csv")]
        assert names == ["latency.json", "a-latency.json", "b-latency.json"]

    def test_names_that_differ_pass(self) -> None:
        check_paths(Path("submission.csv"), Path("probabilities.csv"))
        check_paths(Path("a/s.csv"), Path("b/s.csv"))


class TestManifest:
    OPTIONS = Options(
        data="data",
        reading={},
        skip_broken=False,
        answer=FormatOptions(),
        skipping=SkippingRecord(full=True, plan=None, certify="test", budget_ms=None),
        tta=2,
        tta_views="fixed",
        voting="auto",
        device="cpu",
        batch=2,
        threads=None,
        seed=0,
    )

    def made(self, predicted: Predicted, outcome: Predictions, folder: Path) -> Made:
        out, path = folder / "submission.csv", folder / "submission.json"
        wanted = write_labels(out, predicted.request, outcome.probabilities)
        latency_report(predicted.ensemble, outcome).save(folder / "latency.json")
        inputs = recorded(path, described_request(predicted.request), outcome, probabilities=None)
        submission_manifest(out, predicted.ensemble, outcome, self.OPTIONS, inputs, wanted).save(
            path
        )
        return Made.load(path)

    def test_it_tells_what_made_the_submission(self, predicted: Predicted, tmp_path: Path) -> None:
        made = self.made(predicted, predicted.outcome, tmp_path)
        found, bundle = made.manifest, predicted.ensemble.bundle
        assert made.submission == tmp_path / "submission.csv"
        for written in (found.submission, found.latency):
            assert written.sha256 == sha256_file(tmp_path / written.file)
        assert found.bundle == UsedBundle(str(bundle.folder), bundle.sha256)
        assert found.options == self.OPTIONS
        assert found.plan == predicted.outcome.plan
        assert found.format == choose_format(predicted.request, CLASSES)
        assert found.classes == CLASSES
        assert found.voting == VotingRecord(
            "fitted", {"alpha": 0.75, "beta": 0.25, "gamma": 0.0}, 1.5
        )
        assert found.photos == 5
        assert found.answered_with_class_prior == {}
        assert found.device.provider == "CPUExecutionProvider"
        assert found.versions["toolkit"] == toolkit.__version__
        assert found.versions["numpy"] == np.__version__

    def test_it_names_photos_that_were_not_read(self, predicted: Predicted, tmp_path: Path) -> None:
        broken = replace(predicted.outcome, broken={"9.png": "the file is empty"})
        found = self.made(predicted, broken, tmp_path).manifest
        assert found.answered_with_class_prior == {"9.png": "the file is empty"}

    @pytest.mark.parametrize("name", ["plan.json", "none.json"])
    def test_another_file_of_its_name_is_no_manifest(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "plan.json").write_text('{"steps": []}', encoding="utf-8")
        assert Made.beside((tmp_path / name).with_suffix(".csv")) is None


class TestLatencyReport:
    def report(self, predicted: Predicted) -> LatencyReport:
        return latency_report(predicted.ensemble, predicted.outcome)

    def test_it_is_read_back_as_it_was(self, predicted: Predicted, tmp_path: Path) -> None:
        report = self.report(predicted)
        report.save(tmp_path / "latency.json")
        assert LatencyReport.load(tmp_path / "latency.json") == report

    @pytest.mark.parametrize(
        ("key", "value"),
        [("photos", -1), ("views", 9), ("threads", "two"), ("stages", []), ("mine", 1)],
    )
    def test_another_value_is_refused_by_its_key(
        self, predicted: Predicted, tmp_path: Path, key: str, value: object
    ) -> None:
        path = tmp_path / "latency.json"
        self.report(predicted).save(path)
        content = json.loads(path.read_text(encoding="utf-8")) | {key: value}
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(ToolkitError, match=rf"latency\.json: {key}: "):
            LatencyReport.load(path)

    def test_it_names_its_conditions(self, predicted: Predicted) -> None:
        report = self.report(predicted)
        told = (report.provider, report.threads, report.batch, report.views, report.notes)
        assert told == (predicted.ensemble.provider, usable_cores(), 2, 2, ())

    def test_only_the_precision_of_voting_members_is_told(self, predicted: Predicted) -> None:
        """gamma computes in int8 and has no vote here."""
        assert self.report(predicted).precision == ("fp32",)

    def test_resumed_photos_do_not_count(self, predicted: Predicted) -> None:
        report = self.report(predicted)
        assert (report.photos, report.resumed_photos) == (4, 1)
        assert report.end_to_end.photos_per_second == pytest.approx(
            4 / predicted.outcome.seconds, rel=1e-3
        )

    def test_n_is_what_was_really_measured(self, predicted: Predicted) -> None:
        stages = self.report(predicted).stages
        counted = {work: (stage.n, stage.unit) for work, stage in stages.items()}
        an_image = "ms an image, by runs"
        assert counted == {
            "decode": (4, "ms a photo"),
            "views": (4, "ms a photo and step"),
            "voting": (2, "ms a window of photos"),
            "model alpha fp32": (1, an_image),
            "model beta fp32": (1, an_image),
        }

    def test_load_and_first_run_are_apart(self, predicted: Predicted) -> None:
        report = self.report(predicted)
        for part in (report.load_ms, report.first_run_ms):
            assert set(part) == {"alpha fp32", "beta fp32"}
            assert all(value > 0 for value in part.values())

    def test_percentiles_wait_for_samples_and_raw_samples_are_kept(
        self, predicted: Predicted
    ) -> None:
        few = self.report(predicted).stages["decode"]
        assert few.p50 is not None
        assert few.p90 is few.p99 is None
        assert few.short_run
        for number in range(500):
            predicted.ensemble.timings.add("decode", float(number))
        report = self.report(predicted)
        many = report.stages["decode"]
        assert many.n == 504
        assert None not in (many.p90, many.p99)
        assert not many.short_run
        assert report.samples_ms["decode"][4:] == tuple(range(500))
        assert len(report.samples_ms["voting"]) == 2

    def test_nothing_left_to_do_has_no_rate(self, predicted: Predicted) -> None:
        idle = replace(predicted.outcome, resumed=5, seconds=0.0)
        report = latency_report(predicted.ensemble, idle)
        assert report.photos == 0
        assert report.end_to_end.photos_per_second is None

    def test_memory_is_that_of_the_process(self, predicted: Predicted) -> None:
        assert 2**24 < (self.report(predicted).peak_memory_bytes or 0) < 2**36
