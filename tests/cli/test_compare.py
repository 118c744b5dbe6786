"""`toolkit compare`: runs and bundles side by side, against independent figures."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score, roc_auc_score

from toolkit.exporting.weights import unvalidated_table
from toolkit.files import sha256_file
from toolkit.inference import devices
from toolkit.inference.bundle import BundleValidation, load_bundle, load_validation, save_bundle
from toolkit.inference.calls import ModelKey
from toolkit.inference.costs import measure_costs
from toolkit.inference.sessions import Sessions
from toolkit.inference.timing import Timings
from toolkit.machine import usable_cores
from toolkit.metrics import score
from toolkit.training.run import Validation, load_run


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "obstacle", lambda kind: f"there is no {kind} in tests")


@pytest.fixture(autouse=True)
def nothing_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def project(here: Path, trained: Any, exported: Any) -> Path:
    """A folder with `runs/` of two training seeds, and the `bundle/` of both."""
    shutil.copytree(trained.folder, here / "runs")
    shutil.copytree(exported.folder, here / "bundle")
    return here


@pytest.fixture
def runs(project: Path) -> list[str]:
    return sorted(str(path.parent.relative_to(project)) for path in project.rglob("run.json"))


def said(folder: Path) -> Validation:
    return Validation.load(folder / "validation.npz", load_run(folder).data)


def changed(folder: Path, **arrays: Any) -> None:
    """Write other held-out answers into a run folder."""
    old = said(folder)
    keys = ("ids", "labels", "groups", "probabilities")
    Validation(**{**{key: getattr(old, key) for key in keys}, **arrays}).save(
        folder / "validation.npz"
    )


def row_of(found: dict[str, Any], name: str) -> dict[str, Any]:
    (row,) = [each for each in found["rows"] if each["name"] == name]
    return row


def losses_of(probabilities: np.ndarray, labels: np.ndarray) -> list[float]:
    pairs = zip(probabilities, labels, strict=True)
    return [-np.log(max(float(row[label]), 1e-7)) for row, label in pairs]


class TestFigures:
    def test_a_run_has_the_figures_of_its_held_out_photos(
        self, toolkit, project: Path, runs: list[str]
    ) -> None:
        told = toolkit("compare", *runs, "--json", "--quiet")
        assert (told.code, told.err) == (0, "")
        for path in runs:
            validation = said(project / path)
            row = row_of(told.json, path.removeprefix("runs/"))
            right = validation.probabilities.argmax(axis=1) == validation.labels
            losses = losses_of(validation.probabilities, validation.labels)
            assert row["photos"] == len(right)
            assert row["accuracy"] == pytest.approx(np.mean(right))
            assert row["log_loss"] == pytest.approx(np.mean(losses))
            wilson = stats.binomtest(int(sum(right)), len(right)).proportion_ci(method="wilson")
            assert row["accuracy_interval"] == pytest.approx([wilson.low, wilson.high])
            expected = stats.ttest_1samp(losses, 0).confidence_interval(0.95)
            assert row["log_loss_interval"] == pytest.approx([expected.low, expected.high])

    def test_pairs_are_tested_photo_by_photo_whatever_their_order(
        self, toolkit, project: Path, runs: list[str]
    ) -> None:
        first, second = (said(project / path) for path in runs)
        order = np.random.default_rng(0).permutation(len(first.ids))
        changed(
            project / runs[1],
            ids=second.ids[order],
            labels=second.labels[order],
            groups=second.groups[order],
            probabilities=second.probabilities[order],
        )
        found = toolkit("compare", *runs, "--against", "first", "--json").json
        reference, row = found["rows"]
        assert reference["against"] is None
        right = [each.probabilities.argmax(axis=1) == each.labels for each in (first, second)]
        mine, theirs = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
        counts = row["against"]["paired"]
        assert (counts["only_first"], counts["only_second"]) == (mine, theirs)
        flips = mine + theirs
        expected = stats.binomtest(mine, flips).pvalue if flips else 1
        assert counts["p_value"] == pytest.approx(expected)
        losses = [losses_of(each.probabilities, each.labels) for each in (second, first)]
        test = stats.ttest_rel(*losses)
        bounds = test.confidence_interval(0.95)
        against = row["against"]["log_loss"]
        assert against["mean"] == pytest.approx(np.mean(losses[0]) - np.mean(losses[1]))
        assert against["p_value"] == pytest.approx(test.pvalue)
        assert against["interval"] == pytest.approx([bounds.low, bounds.high])

    def test_a_bundle_is_never_judged_on_photos_its_weights_were_fitted_on(
        self, toolkit, project: Path
    ) -> None:
        table = load_bundle(project / "bundle").voting[4]
        assert table.alternatives["fitted"].accuracy is not None
        for name, alternative in table.alternatives.items():
            found = toolkit("compare", "bundle", "--tta", 4, "--voting", name, "--json").json
            (row,) = found["rows"]
            assert row["views"] == 4
            assert row["accuracy"] == pytest.approx(alternative.accuracy)
            assert row["log_loss"] == pytest.approx(alternative.log_loss)

    @pytest.mark.parametrize("name", ["macro-f1", "log-loss", "auc"])
    def test_a_chosen_metric_finds_the_best_and_the_difference(
        self, toolkit, project: Path, runs: list[str], name: str
    ) -> None:
        answers = [said(project / path) for path in runs]
        values = []
        for each in answers:
            found, true = each.probabilities.astype(float), each.labels
            if name == "macro-f1":
                values.append(f1_score(true, found.argmax(axis=1), average="macro"))
            elif name == "auc":
                columns = [roc_auc_score(true == n, found[:, n]) for n in np.unique(true)]
                values.append(np.mean(columns))
            else:
                values.append(np.mean(losses_of(found, true)))
        told = toolkit("compare", *runs, "--metric", name, "--sort", "metric", "--json").json
        rows = [row_of(told, path.removeprefix("runs/")) for path in runs]
        assert [row["metric"]["value"] for row in rows] == pytest.approx(values)
        assert all(row["metric"]["interval"] for row in rows)
        best = int(np.argmin(values) if name == "log-loss" else np.argmax(values))
        assert told["against"] == runs[best].removeprefix("runs/") == told["rows"][0]["name"]
        other = rows[1 - best]["against"]["metric"]
        assert other["mean"] == pytest.approx(values[1 - best] - values[best])
        assert other["interval"][0] <= other["mean"] <= other["interval"][1]
        shown = toolkit("compare", *runs, "--metric", name, "--csv", "t.csv").out
        assert {"macro-f1": "macro-F1", "auc": "AUC"}.get(name, name) in shown
        with (project / "t.csv").open(encoding="utf-8", newline="") as file:
            lines = {line["name"]: line for line in csv.DictReader(file)}
        for path, value in zip(runs, values, strict=True):
            line = lines[path.removeprefix("runs/")]
            assert (line["metric"], float(line["metric_value"])) == (name, pytest.approx(value))
        assert "Do not rely on the figures of" in shown  # Twelve photos are too few.

    def test_weights_of_ones_own_need_no_fit(self, toolkit, project: Path) -> None:
        bundle = load_bundle(project / "bundle")
        validation = load_validation(bundle)
        (member, *_) = bundle.members
        found = toolkit("compare", "bundle", "--voting", f"{member.name}=1", "--json").json
        expected = score(validation.probabilities[0, :, 0], validation.labels)
        assert found["rows"][0]["accuracy"] == expected.accuracy
        assert found["rows"][0]["log_loss"] == pytest.approx(expected.log_loss)

    def test_members_stand_below_their_bundle_and_equal_their_runs(
        self, toolkit, project: Path
    ) -> None:
        found = toolkit("compare", "--members", "--json").json
        bundle = load_bundle(project / "bundle")
        for member in bundle.members:
            row, run = row_of(found, f"bundle: {member.name}"), row_of(found, member.run)
            assert row["kind"] == "member"
            assert row["accuracy"] == run["accuracy"]
            assert row["log_loss"] == pytest.approx(run["log_loss"], abs=1e-4)
            assert row["cost"]["training_seconds"] == run["cost"]["training_seconds"]

    def test_a_run_costs_what_its_manifest_and_its_model_say(
        self, toolkit, trained, project: Path
    ) -> None:
        import keras

        found = toolkit("compare", "runs", "--json").json
        for run in trained.runs:
            cost = row_of(found, run.label)["cost"]
            assert (cost["training_seconds"], cost["epochs"]) == (run.seconds, run.epochs)
            assert cost["image_sizes"] == [32]
            assert cost["parameters"] == keras.saving.load_model(run.model_path).count_params()


class TestOtherPhotos:
    def test_they_are_told_and_not_compared(self, toolkit, project: Path, runs: list[str]) -> None:
        changed(project / runs[1], ids=np.char.add("other-", said(project / runs[1]).ids))
        told = toolkit("compare", *runs, "--against", "first", "--csv", "table.csv")
        (line,) = [line for line in told.out.splitlines() if "Held out other photos" in line]
        assert line.endswith(f"not compared with it: {runs[1].removeprefix('runs/')}.")
        assert "photo by photo" not in told.out
        with (project / "table.csv").open(encoding="utf-8", newline="") as file:
            _, row = csv.DictReader(file)
        compared = [key for key in row if "difference" in key or key.endswith("_p")]
        assert compared
        assert {row[key] for key in [*compared, "compared_with", "better_on"]} == {""}
        assert row["accuracy"] != ""

    def test_other_labels_of_the_same_ids_are_other_photos(
        self, toolkit, project: Path, runs: list[str]
    ) -> None:
        labels = said(project / runs[1]).labels
        changed(project / runs[1], labels=(labels + 1) % (labels.max() + 1))
        assert "Held out other photos" in toolkit("compare", *runs).out

    def test_a_run_on_all_photos_has_a_cost_and_no_figure(
        self, toolkit, project: Path, runs: list[str]
    ) -> None:
        path = project / runs[1] / "run.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["data"]["validation_photos"] = 0
        path.write_text(json.dumps(content), encoding="utf-8")
        told = toolkit("compare", *runs, "--json")
        assert told.json["rows"][1]["accuracy"] is None
        assert told.json["rows"][1]["cost"]["epochs"] > 0
        assert "Trained on all photos" in told.json["notes"][0]
        assert "Trained on all photos" in toolkit("compare", *runs).out
        told = toolkit("compare", runs[1])
        assert told.code == 1
        assert "trained on all photos, so none was held out" in told.err


class TestInferenceCost:
    @pytest.fixture
    def plannable_project(self, here: Path, plannable: Path) -> Path:
        shutil.copytree(plannable, here / "bundle")
        return here

    def cost(self, toolkit, *options: object) -> float | None:
        told = toolkit("compare", "bundle", "--json", "--quiet", *options)
        assert told.code == 0, told.err
        (row,) = told.json["rows"]
        return row["cost"]["inference_ms"]

    def test_what_was_not_measured_is_a_dash_and_the_option_is_named(
        self, toolkit, plannable_project: Path
    ) -> None:
        """Whatever an earlier command measured, and whatever lies beside the bundle."""
        toolkit("compare", "bundle", "--tta", 2, "--measure")
        toolkit("ensemble", "--tta", 2)
        assert self.cost(toolkit, "--tta", 2) is None
        told = toolkit("compare", "bundle", "--tta", 2)
        assert "A dash under ms: not measured. --measure measures the members" in told.out

    def test_what_is_measured_is_kept_for_the_planner(
        self, toolkit, plannable_project: Path
    ) -> None:
        measured = self.cost(toolkit, "--tta", 2, "--measure")
        assert measured is not None
        bundle = load_bundle(plannable_project / "bundle")
        sessions = Sessions(
            bundle,
            device=devices.choose_device("cpu"),
            threads=usable_cores(),
            batch=16,
            timings=Timings(),
        )
        keys = [ModelKey(member.name, "fp32") for member in bundle.members]
        kept = measure_costs(sessions, keys, clock=lambda: pytest.fail("measured anew"))
        assert measured == pytest.approx(2 * sum(kept.ms[key] for key in keys))

    def test_auto_measures_the_processor_where_the_gpu_cannot_run_the_members(
        self, toolkit, plannable_project: Path, gpu_that_runs_nothing: None
    ) -> None:
        measured = self.cost(toolkit, "--measure")
        assert measured is not None
        assert measured > 0

    def test_a_run_costs_what_its_exported_member_does(self, toolkit, project: Path) -> None:
        told = toolkit("compare", "--measure", "--json")
        bundle = load_bundle(project / "bundle")
        costs = [row_of(told.json, member.run)["cost"]["inference_ms"] for member in bundle.members]
        assert all(cost > 0 for cost in costs)
        alone = toolkit("compare", "runs", "--json").json
        assert {row["cost"]["inference_ms"] for row in alone["rows"]} == {None}


class TestGroup:
    def test_seeds_of_one_recipe_become_one_row(
        self, toolkit, project: Path, runs: list[str]
    ) -> None:
        found = toolkit("compare", "runs", "bundle", "--group", "--json").json
        group, bundle = found["rows"]
        assert (group["kind"], group["runs"]) == ("group", 2)
        each = [score(v.probabilities, v.labels) for v in (said(project / path) for path in runs)]
        for figure in ("accuracy", "log_loss", "calibration_error"):
            values = [getattr(one, figure) for one in each]
            assert group[figure] == pytest.approx(np.mean(values))
            spread = group["spread"][figure]
            assert spread["deviation"] == pytest.approx(np.std(values, ddof=1))
            assert (spread["lowest"], spread["highest"]) == (min(values), max(values))
        compared = (bundle if bundle["against"] else group)["against"]
        assert compared["paired"] is None
        assert compared["accuracy"]["mean"] != 0 or compared["log_loss"]["mean"] != 0

    def test_it_is_printed_with_its_deviation(self, toolkit, project: Path) -> None:
        told = toolkit("compare", "--group")
        assert told.code == 0, told.err
        assert "mobilenetv3small and 1 more" in told.out
        assert " ± " in told.out

    def test_another_recipe_is_another_row(self, toolkit, project: Path, runs: list[str]) -> None:
        path = project / runs[1] / "recipe.yaml"
        text = path.read_text(encoding="utf-8")
        changed = re.sub(r"batch_size: \d+", "batch_size: 4", text)
        assert changed != text
        path.write_text(changed, encoding="utf-8")
        found = toolkit("compare", "runs", "--group", "--json").json
        assert [row["runs"] for row in found["rows"]] == [1, 1]


class TestOrderAndNames:
    @pytest.mark.parametrize(
        ("sort", "key", "sign"),
        [("accuracy", "accuracy", -1), ("log-loss", "log_loss", 1)],
    )
    def test_the_best_comes_first_where_asked(
        self, toolkit, project: Path, sort: str, key: str, sign: int
    ) -> None:
        found = toolkit("compare", "bundle", "runs", "--sort", sort, "--json").json
        values = [sign * row[key] for row in found["rows"]]
        assert values == sorted(values)
        given = toolkit("compare", "bundle", "runs", "--json").json
        assert [row["kind"] for row in given["rows"]] == ["bundle", "run", "run"]

    def test_the_best_is_what_others_are_compared_with(self, toolkit, project: Path) -> None:
        found = toolkit("compare", "--json").json
        best = max(found["rows"], key=lambda row: (row["accuracy"], -row["log_loss"]))
        assert found["against"] == best["name"]
        named = toolkit("compare", "--against", "bundle/", "--json").json
        assert named["against"] == "bundle"

    def test_what_is_named_twice_is_there_once(
        self, toolkit, project: Path, runs: list[str]
    ) -> None:
        found = toolkit("compare", runs[0], "runs", "runs/small", "--json").json
        assert len(found["rows"]) == 2

    def test_runs_of_one_name_in_two_places_keep_their_paths(self, toolkit, project: Path) -> None:
        shutil.copytree(project / "runs", project / "older")
        found = toolkit("compare", "runs", "older", "--json").json
        names = {row["name"] for row in found["rows"]}
        assert len(names) == 4
        assert all(name.startswith(("runs/", "older/")) for name in names)

    def test_it_is_the_same_from_within_the_folder(
        self, toolkit, project: Path, runs: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(project / runs[0])
        (row,) = toolkit("compare", ".", "--json").json["rows"]
        assert row["name"] == runs[0].removeprefix("runs/")

    def test_an_unfinished_run_is_left_out_and_told(
        self, toolkit, project: Path, runs: list[str]
    ) -> None:
        (project / runs[1] / "run.json").rename(project / runs[1] / "progress.json")
        told = toolkit("compare", "runs", "--json")
        assert len(told.json["rows"]) == 1
        assert f"{runs[1]}: is not finished" in told.err


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "code", "complaint"),
        [
            (["nowhere"], 1, "nowhere: Expected a run folder, a folder of runs, or a bundle"),
            (["empty"], 1, "received a folder with none in it"),
            (["runs", "--against", "bundel"], 2, "--against bundel: is not among those compared."),
            (["bundle", "--voting", "loudest"], 2, "no such voting"),
            (["bundle", "--device", "cuda"], 1, "there is no cuda in tests"),
        ],
    )
    def test_a_mistake_is_one_line(
        self, toolkit, project: Path, arguments: list[str], code: int, complaint: str
    ) -> None:
        (project / "empty").mkdir()
        told = toolkit("compare", *arguments)
        assert (told.code, told.out) == (code, "")
        assert told.err.startswith("error: ")
        assert complaint in told.err
        assert told.err.count("\n") == 1

    def test_nothing_named_where_nothing_is(self, toolkit, here: Path) -> None:
        told = toolkit("compare")
        assert (told.code, told.out) == (2, "")
        assert "There is no runs/ and no bundle/ here" in told.err

    @pytest.mark.parametrize("content", [None, b"", b"no arrays"])
    def test_spoilt_answers_are_named(
        self, toolkit, project: Path, runs: list[str], content: bytes | None
    ) -> None:
        path = project / runs[0] / "validation.npz"
        path.unlink() if content is None else path.write_bytes(content)
        told = toolkit("compare", "runs")
        assert (told.code, told.out) == (1, "")
        assert f"{runs[0]}/validation.npz: " in told.err
        assert told.err.count("\n") == 1


def test_two_photos_in_one_group_cannot_be_cross_fitted(
    toolkit, here: Path, plannable: Path
) -> None:
    """Uniform weights, of which nothing was found on the photos, are scored as they are."""
    folder = Path(shutil.copytree(plannable, here / "bundle"))
    bundle = load_bundle(folder)
    old = load_validation(bundle)
    few = BundleValidation(
        old.ids[:2],
        old.labels[:2],
        np.zeros(2, dtype=np.int64),
        old.probabilities[:, :2],
        {key: answers[:2] for key, answers in old.variants.items()},
    )
    few.save(folder / "validation.npz")
    save_bundle(
        replace(
            bundle,
            voting={views: unvalidated_table(3) for views in range(1, 9)},
            validation_sha256=sha256_file(folder / "validation.npz"),
        )
    )
    (row,) = toolkit("compare", "bundle", "--json").json["rows"]
    expected = few.probabilities[:, :, 0].astype(float).mean(axis=0)
    assert row["photos"] == 2
    assert row["log_loss"] == pytest.approx(np.mean(losses_of(expected, few.labels)), rel=1e-5)
