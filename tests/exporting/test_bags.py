"""Folds in a bundle: bags that vote together, what judges them, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from toolkit import evaluate, plan, predict
from toolkit.errors import BundleError, RunError, ToolkitError, UsageError
from toolkit.exporting.bags import held_out_by, whole_bags
from toolkit.exporting.export import ExportOptions, export
from toolkit.exporting.select import choose_runs
from toolkit.files import read_json, write_json
from toolkit.inference.bundle import (
    Bundle,
    load_outside,
    load_search_photos,
    load_validation,
)
from toolkit.inference.voting import choose_voting
from toolkit.metrics import METRICS
from toolkit.reporting.comparison import compare
from toolkit.training.run import MANIFEST, Run, load_run

if TYPE_CHECKING:
    from tests.conftest import Trained

SMALL = "mobilenetv3small"


@pytest.fixture(scope="module")
def two_bags(folds: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs with two bags: the second has the networks of the first, turned around."""
    runs = tmp_path_factory.mktemp("two") / "runs"
    for run in folds:
        number = int(run.folder.name[-1])
        for name in (SMALL, f"{SMALL}-twin"):
            target = runs / "small" / f"{name}-fold{number}"
            shutil.copytree(run.folder, target)
            edit(target, finished=f"2026-01-0{1 + number}T00:00:00.000+00:00")
    return runs


@pytest.fixture(scope="module")
def bags(two_bags: Path, _cache_of_the_session: Path, tmp_path_factory: Any) -> Bundle:
    """The bundle of both bags. Tests must not change what lies in its folder."""
    chosen = whole_bags([load_run(path) for path in sorted((two_bags / "small").iterdir())])
    with pytest.MonkeyPatch.context() as session:
        session.setenv("TOOLKIT_CACHE", str(_cache_of_the_session))
        return export(chosen, ExportOptions(bundle=tmp_path_factory.mktemp("bags") / "bundle"))


def edit(folder: Path, **values: Any) -> Run:
    """Change a run's manifest, as another training would have written it."""
    content = read_json(folder / MANIFEST)
    for key, value in values.items():
        part = content["data"] if key in content["data"] else content
        part[key] = {**part[key], **value} if isinstance(value, dict) else value
    write_json(folder / MANIFEST, content)
    return load_run(folder)


def copied(runs: Sequence[Run], folder: Path) -> list[Run]:
    return [load_run(Path(shutil.copytree(run.folder, folder / run.folder.name))) for run in runs]


class TestChoosingRuns:
    def test_all_folds_of_the_latest_are_taken_in_order(self, two_bags: Path) -> None:
        assert [run.folder.name for run in choose_runs(two_bags, name="twin")] == [
            f"{SMALL}-twin-fold{number}" for number in range(3)
        ]
        assert len(choose_runs(two_bags)) == 3

    def test_one_fold_can_be_named(self, folds: list[Run]) -> None:
        runs = folds[0].folder.parents[1]
        assert [run.folder.name for run in choose_runs(runs, name="fold1")] == [f"{SMALL}-fold1"]
        assert [run.folder.name for run in choose_runs([folds[2]])] == [f"{SMALL}-fold2"]

    def test_a_missing_fold_is_named_with_the_call_that_trains_it(
        self, folds: list[Run], tmp_path: Path
    ) -> None:
        copied([folds[1]], tmp_path / "runs" / "small")
        with pytest.raises(RunError, match=r"missing of 3 folds: 0, 2\.") as told:
            choose_runs(tmp_path / "runs")
        for part in ("folds=3", "holdout=0.2", "only_folds=(0, 2)", f"backbones=['{SMALL}']"):
            assert part in str(told.value)
        with pytest.raises(RunError, match="missing of 3 folds: 2"):
            choose_runs(folds[:2])

    def test_runs_of_other_deals_photos_recipes_and_no_folds_are_refused(
        self, folds: list[Run], trained: Trained, tmp_path: Path
    ) -> None:
        first, second, third = copied(folds, tmp_path / "small")
        with pytest.raises(RunError, match="different folds, photos or classes"):
            choose_runs([first, second, third, trained.runs[0]])
        twice = copied(folds[:1], tmp_path / "again" / "small")
        with pytest.raises(RunError, match="both hold out fold 0"):
            choose_runs([first, second, third, *twice])
        other = edit(third.folder, fold={"number": 2, "dealt": "of another seed"})
        with pytest.raises(RunError, match=r"fold2 and .*fold0 were trained on different folds"):
            choose_runs([first, second, other])
        wider = replace(second, recipe=second.recipe.model_copy(update={"image_size": 64}))
        with pytest.raises(RunError, match="different recipes"):
            whole_bags([first, wider])

    def test_the_best_fold_is_that_of_the_best_score(self, folds: list[Run]) -> None:
        runs = folds[0].folder.parents[1]
        for name, best in (("log-loss", min), ("accuracy", max)):
            chosen = choose_runs(runs, fold_policy="best", metric=METRICS[name])
            scores = [getattr(run.score, name.replace("-", "_")) for run in folds]
            assert getattr(chosen[0].score, name.replace("-", "_")) == best(scores)
            assert len(chosen) == 1

    def test_a_best_fold_of_runs_without_folds_is_refused(self, trained: Trained) -> None:
        with pytest.raises(UsageError, match="fold_policy"):
            choose_runs(trained.folder, fold_policy="best")


class TestTheBundle:
    def test_networks_of_a_bag_share_its_vote(self, bags: Bundle) -> None:
        assert [voter.name for voter in bags.voters] == [SMALL, f"{SMALL}-twin"]
        assert [member.fold for member in bags.members] == [0, 1, 2, 0, 1, 2]
        for table in bags.voting.values():
            for alternative in table.alternatives.values():
                for voter in bags.voters:
                    assert len({alternative.weights[index] for index in voter.members}) == 1
        voting = choose_voting(bags, 1, f"{SMALL}=1,{SMALL}-twin-fold1=3")
        assert voting.weights == pytest.approx((1 / 12, 1 / 12, 1 / 12, 0, 3 / 4, 0))

    def test_each_photo_is_answered_by_the_network_that_held_it_out(
        self, bags: Bundle, folds: list[Run]
    ) -> None:
        validation = load_validation(bags)
        keras = {
            str(id): row
            for run in folds
            if run.validation
            for id, row in zip(run.validation.ids, run.validation.probabilities, strict=True)
        }
        assert sorted(keras) == sorted(validation.ids)
        expected = np.stack([keras[str(id)] for id in validation.ids])
        for voter in validation.probabilities[:, :, 0]:
            np.testing.assert_allclose(voter, expected, atol=1e-4)

    def test_photos_outside_are_answered_by_all_networks(
        self, bags: Bundle, folds: list[Run]
    ) -> None:
        outside = load_outside(bags)
        assert outside is not None
        said = [run.outside for run in folds]
        assert said[0] is not None
        assert list(outside.ids) == list(said[0].ids)
        for network, run in zip(outside.probabilities[:3, :, 0], said, strict=True):
            assert run is not None
            np.testing.assert_allclose(network, run.probabilities, atol=1e-4)
        assert load_search_photos(bags).ids.tolist() == outside.ids.tolist()

    def test_all_photos_of_the_folds_count_as_trained_on(
        self, bags: Bundle, folds: list[Run]
    ) -> None:
        inside = sum(run.data.validation_photos for run in folds)
        assert len(bags.data.trained_on) == len(folds[0].trained_on[:12]) * inside
        assert sum(bags.class_prior) == pytest.approx(1)

    def test_the_ensemble_is_the_mean_of_the_networks(self, bags: Bundle, folds: list[Run]) -> None:
        outside = load_outside(bags)
        assert outside is not None
        found = evaluate(bags.folder, voting="uniform", tta=2)
        mean = outside.averaged(2).mean(axis=0)
        accuracy = float((mean.argmax(axis=1) == outside.labels).mean())
        assert found.scores["ensemble of 2"].accuracy == pytest.approx(accuracy)
        assert "outside all folds" in found.photos

    def test_label_exact_gives_the_labels_of_all_networks(
        self, bags: Bundle, demo_data: Path, tmp_path: Path
    ) -> None:
        exact, full = tmp_path / "exact.csv", tmp_path / "full.csv"
        predict(bags.folder, demo_data, out=exact, voting="uniform", device="cpu")
        predict(bags.folder, demo_data, out=full, voting="uniform", device="cpu", full=True)
        assert exact.read_bytes() == full.read_bytes()

    def test_bags_and_folds_are_compared(self, bags: Bundle) -> None:
        rows = compare([bags.folder], members=True).rows
        assert [row.name.partition(": ")[2] for row in rows if row.kind == "member"] == [
            SMALL,
            f"{SMALL}-twin",
        ]


class TestWithoutPhotosOutside:
    def test_a_tolerance_is_refused_in_one_line(self, bags: Bundle, tmp_path: Path) -> None:
        bundle = without_outside(bags, tmp_path / "bundle")
        with pytest.raises(BundleError, match=r"learned by networks of some folds.*`tolerance`"):
            plan(bundle.folder, tolerance=0.05, photos=100)

    def test_figures_say_that_they_are_of_single_networks(
        self, bags: Bundle, tmp_path: Path
    ) -> None:
        found = evaluate(without_outside(bags, tmp_path / "bundle").folder)
        assert "Out of fold" in found.photos


def test_other_held_out_photos_under_the_same_deal_are_refused(
    folds: list[Run], tmp_path: Path
) -> None:
    bag = copied(folds, tmp_path / "small")
    twin = [
        load_run(Path(shutil.copytree(run.folder, tmp_path / "small" / f"{SMALL}-t-fold{number}")))
        for number, run in enumerate(bag)
    ]
    said = twin[0].validation
    assert said is not None
    replace(said, ids=said.ids[::-1]).save(twin[0].folder / "validation.npz")
    with pytest.raises(ToolkitError, match="did not hold out the same photos"):
        held_out_by([*bag, *twin])


def without_outside(bags: Bundle, folder: Path) -> Bundle:
    """Copy the bundle as one whose runs kept no photos outside."""
    from toolkit.inference.bundle import OUTSIDE, load_bundle, save_bundle

    shutil.copytree(bags.folder, folder)
    (folder / OUTSIDE).unlink()
    save_bundle(replace(bags, folder=folder, outside_sha256=""))
    return load_bundle(folder)
