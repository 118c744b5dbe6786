"""Which plan a job follows: given, cached, or found now; and what a budget leaves of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import ToolkitError, UsageError
from toolkit.inference.bundle import load_bundle, load_validation
from toolkit.inference.calls import ModelKey
from toolkit.inference.costs import Costs, keep_costs
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.evidence import gather
from toolkit.inference.finding import (
    FULL,
    LABEL_EXACT,
    Skipping,
    cached_file,
    chosen_plan,
    within_budget,
)
from toolkit.inference.plan import CascadePlan, save_plan
from toolkit.inference.planner import make_plan
from toolkit.inference.predict import PredictionJob

PHOTOS, VIEWS = 120, 2
SAMPLES = {
    ModelKey("alpha", "fp32"): [1.0],
    ModelKey("alpha", "int8"): [0.3],
    ModelKey("beta", "fp32"): [4.0],
    ModelKey("gamma", "fp32"): [4.0],
}
FULL_MS = 18.0
CASCADE = Skipping(tolerance=0.1, confidence=0.9)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is found here shall not be taken up by other tests."""
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(plannable: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plannable, tmp_path / "bundle"))


Load = Callable[..., Ensemble]


@pytest.fixture
def load(bundle: Path) -> Load:
    """Load the bundle, whose costs are known, as measured before."""

    def load(costs: dict[ModelKey, list[float]] = SAMPLES, **options: Any) -> Ensemble:
        ensemble = Ensemble.load(
            options.pop("bundle", bundle),
            **{"tta": VIEWS, "device": "cpu", "batch": 4, **options},
        )
        if costs:
            medians = {key: own[0] for key, own in costs.items()}
            keep_costs(ensemble.sessions, Costs(medians, samples=costs))
        return ensemble

    return load


@pytest.fixture(scope="module")
def plan(plannable: Path) -> CascadePlan:
    """What is found for `CASCADE`."""
    ensemble = Ensemble.load(plannable, tta=VIEWS, device="cpu")
    bundle, voting = ensemble.bundle, ensemble.voting
    medians = {key: own[0] for key, own in SAMPLES.items()}
    evidence = gather(bundle, load_validation(bundle), voting, VIEWS, medians)
    return make_plan(bundle, voting, evidence, CASCADE.guarantee, PHOTOS, ensemble.device)


class TestLabelExact:
    def test_it_is_the_default_and_needs_no_measuring_and_no_held_out_photos(
        self, load: Load, bundle: Path, cache: Path
    ) -> None:
        without = replace(load_bundle(bundle), validation_sha256="")
        (bundle / "validation.npz").unlink()
        plan = chosen_plan(load({}, bundle=without), LABEL_EXACT, PHOTOS)
        assert (plan.method, plan.search) == ("label-exact", None)
        assert not list(cache.rglob("*.json"))

    def test_what_was_measured_decides_the_order(self, load: Load) -> None:
        """Else the size of files and images does."""
        first = chosen_plan(load({}), LABEL_EXACT, PHOTOS).rest[0][0]
        assert first.member == "alpha"
        dear = {**SAMPLES, ModelKey("alpha", "fp32"): [100.0]}
        assert chosen_plan(load(dear), LABEL_EXACT, PHOTOS).rest[0][0].member != "alpha"

    def test_on_random_views_it_is_the_full_ensemble(self, load: Load) -> None:
        plan = chosen_plan(load(tta_views="augmentor"), LABEL_EXACT, PHOTOS)
        assert plan.method == "full"

    def test_full_is_full(self, load: Load) -> None:
        assert chosen_plan(load(), FULL, PHOTOS).method == "full"


class TestCascade:
    def test_it_is_found_and_taken_from_the_cache_the_next_time(
        self, load: Load, bundle: Path, plan: CascadePlan
    ) -> None:
        ensemble = load()
        assert chosen_plan(ensemble, CASCADE, PHOTOS) == plan
        assert plan.method == "cascade"
        assert plan.search is not None
        assert plan.search.full_ms == FULL_MS > plan.search.settled_ms
        assert cached_file(ensemble, CASCADE.guarantee, PHOTOS).is_file()
        dear = {key: [10 * own[0]] for key, own in SAMPLES.items()}
        assert chosen_plan(load(dear), CASCADE, PHOTOS) == plan
        assert {path.name for path in bundle.parent.iterdir()} == {"bundle", "cache"}
        load_bundle(bundle).check_files()

    @pytest.mark.parametrize("spoilt", ["", "{}", "[]", '{"steps": [], "rest": [], "sha256": ""}'])
    def test_a_damaged_one_is_found_anew(self, load: Load, spoilt: str) -> None:
        ensemble = load()
        plan = chosen_plan(ensemble, CASCADE, PHOTOS)
        path = cached_file(ensemble, CASCADE.guarantee, PHOTOS)
        path.write_text(spoilt, encoding="utf-8")
        assert chosen_plan(ensemble, CASCADE, PHOTOS) == plan
        assert json.loads(path.read_text(encoding="utf-8"))["sha256"] == plan.sha256

    @pytest.mark.parametrize(
        ("change", "photos"),
        [({"tolerance": 0.05}, PHOTOS), ({"confidence": 0.95}, PHOTOS), ({}, PHOTOS + 1)],
    )
    def test_for_another_job_another_is_found(
        self, load: Load, change: dict[str, float], photos: int
    ) -> None:
        ensemble = load()
        chosen = replace(CASCADE, **change)  # type: ignore[arg-type]
        first = cached_file(ensemble, CASCADE.guarantee, PHOTOS)
        assert cached_file(ensemble, chosen.guarantee, photos) != first

    def test_of_another_voting_too(self, load: Load) -> None:
        other = chosen_plan(load(voting="pair"), CASCADE, PHOTOS)
        assert "gamma" not in {call.member for call in other.calls}
        assert other.search is not None
        assert other.search.full_ms == 2 * (1 + 4)

    def test_without_enough_held_out_photos_there_is_none(self, tiny_bundle: Any) -> None:
        """tiny_bundle has twelve."""
        ensemble = Ensemble.load(tiny_bundle.folder, tta=VIEWS, device="cpu")
        with pytest.raises(ToolkitError, match=r"12 held-out photos are too few .*Leave `toler"):
            chosen_plan(ensemble, CASCADE, PHOTOS)

    def test_without_any_nothing_is_measured(self, load: Load, bundle: Path, cache: Path) -> None:
        without = replace(load_bundle(bundle), validation_sha256="")
        (bundle / "validation.npz").unlink()
        with pytest.raises(ToolkitError, match="no validation"):
            chosen_plan(load({}, bundle=without), CASCADE, PHOTOS)
        assert not list(cache.rglob("*.json"))


class TestGiven:
    def test_a_file_is_taken_with_its_own_guarantee_or_another(
        self, load: Load, plan: CascadePlan, tmp_path: Path
    ) -> None:
        save_plan(plan, tmp_path / "mine.json")
        named = Skipping(plan=tmp_path / "mine.json")
        ensemble = load()
        assert chosen_plan(ensemble, named, 7) == plan
        changed = chosen_plan(ensemble, replace(named, tolerance=0.02), 7)
        assert changed.search is not None
        assert (changed.search.tolerance, changed.search.confidence) == (0.02, 0.9)
        assert changed.sha256 != plan.sha256

    def test_a_plan_itself_is_taken_as_it_is(self, load: Load, plan: CascadePlan) -> None:
        ensemble = load()
        exact = chosen_plan(ensemble, LABEL_EXACT, PHOTOS)
        for given in (plan, exact):
            assert chosen_plan(ensemble, Skipping(plan=given), PHOTOS) == given

    def test_a_file_for_something_else_is_refused(
        self, load: Load, plan: CascadePlan, tmp_path: Path
    ) -> None:
        save_plan(plan, tmp_path / "mine.json")
        named = Skipping(plan=tmp_path / "mine.json")
        for options, key in (({"tta": 3}, "views"), ({"voting": "pair"}, "voting")):
            with pytest.raises(ToolkitError, match=rf"mine\.json: {key}: .*'toolkit plan'"):
                chosen_plan(load(**options), named, PHOTOS)

    def test_a_missing_file_is_named(self, load: Load) -> None:
        with pytest.raises(ToolkitError, match=r"`plan='nowhere\.json'`: no such file"):
            chosen_plan(load(), Skipping(plan=Path("nowhere.json")), PHOTOS)


class TestSkipping:
    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            ({"tolerance": 0.0}, r"`tolerance=0\.0`: Expected a number between 0 and 1"),
            ({"tolerance": 1.0}, r"`tolerance=1\.0`: Expected a number between 0 and 1"),
            ({"tolerance": float("nan")}, "`tolerance=nan`: Expected a number between"),
            ({"tolerance": 0.1, "confidence": 2}, "`confidence=2`: Expected a number between"),
            ({"tolerance": 0.1, "budget_ms": -1.0}, r"`budget_ms=-1\.0`: Expected a number over 0"),
            ({"confidence": 0.9}, "`confidence`: Expected with `tolerance` or `plan`"),
            ({"budget_ms": 3.0}, "`budget_ms`: Expected with `tolerance` or `plan`"),
            ({"certify": "off"}, "`certify`: Expected with `tolerance` or `plan`"),
            ({"full": True, "tolerance": 0.1}, "`full`: Expected without `tolerance`"),
            ({"full": True, "plan": Path("plan.json")}, "`full`: Expected without `plan`"),
        ],
    )
    def test_what_does_not_fit_is_named(self, options: dict[str, Any], complaint: str) -> None:
        with pytest.raises(UsageError, match=complaint):
            Skipping(**options)


class TestBudget:
    MANY = 5000

    def cost(self, plan: CascadePlan, number: int) -> float:
        """Mean cost a photo where this threshold set is accepted."""
        assert plan.search is not None
        sample = PredictionJob.of(plan, self.MANY).sample
        certificate = sample * (plan.search.full_ms + plan.threshold_sets[0].ms)
        rest = (self.MANY - sample) * plan.threshold_sets[number].ms
        return float(certificate + rest) / self.MANY

    def test_no_threshold_set_costs_more_with_its_certificate(self, plan: CascadePlan) -> None:
        budget = self.cost(plan, len(plan.threshold_sets) // 2)
        kept = within_budget(plan, budget, self.MANY)
        assert 0 < len(kept.threshold_sets) < len(plan.threshold_sets)
        assert kept.threshold_sets == plan.threshold_sets[-len(kept.threshold_sets) :]
        assert all(self.cost(kept, n) <= budget for n in range(len(kept.threshold_sets)))

    def test_without_one_all_stay(self, plan: CascadePlan) -> None:
        assert within_budget(plan, None, self.MANY) == plan

    def test_without_a_certificate_only_the_plan_itself_counts(self, plan: CascadePlan) -> None:
        costs = [each.ms for each in plan.threshold_sets]
        kept = within_budget(plan, costs[2], self.MANY, "off")
        assert [each.ms for each in kept.threshold_sets] == costs[2:]

    def test_one_that_nothing_meets_is_refused_and_the_cheapest_named(
        self, load: Load, plan: CascadePlan
    ) -> None:
        cheapest = plan.threshold_sets[-1].ms
        off = replace(CASCADE, budget_ms=0.01, certify="off")
        with pytest.raises(
            ToolkitError,
            match=rf"`budget_ms=0\.01`: no plan meets it; .* {cheapest:.2f} ms a photo for 120",
        ):
            chosen_plan(load(), off, PHOTOS)

    def test_one_that_label_exact_meets_is_met(self, plan: CascadePlan) -> None:
        assert plan.search is not None
        alone, settled_ms = plan.with_threshold_sets([]), plan.search.settled_ms
        assert within_budget(alone, settled_ms, self.MANY) == alone
        with pytest.raises(ToolkitError, match=rf"the cheapest takes {settled_ms:.2f} ms"):
            within_budget(alone, settled_ms - 1, self.MANY)
