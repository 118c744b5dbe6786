"""The planner is tested on drawn photos whose best plan is known, and against loops and SciPy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from math import inf
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from toolkit.errors import ToolkitError
from toolkit.inference.bundle import Alternative, VotingTable, load_bundle, load_validation
from toolkit.inference.calls import ModelCall, ModelKey
from toolkit.inference.devices import Device
from toolkit.inference.evidence import WASTE, Evidence, carry_out, gather, learn_thresholds
from toolkit.inference.exits import SLOPE_DEVIATION, ExitRule
from toolkit.inference.guarantee import Guarantee
from toolkit.inference.plan import CascadePlan, PlanSearch
from toolkit.inference.planner import find_threshold_sets, make_plan
from toolkit.inference.steps import Steps, better_steps, find_steps
from toolkit.inference.voting import Voting, choose_voting, vote

PHOTOS, CLASSES, VIEWS = 400, 4, 2
EXACT = "fp32"
WEIGHTS = {"cheap": 0.4, "good": 0.5, "noise": 0.1}
COSTS = {"cheap": 1.0, "good": 10.0, "noise": 10.0}
GUARANTEE = Guarantee(tolerance=0.02, confidence=0.95)
MANY = 20_000


def drawn(
    spread: Mapping[str, float],
    *,
    weights: Mapping[str, float] = WEIGHTS,
    costs: Mapping[str, float] = COSTS,
    photos: int = PHOTOS,
    lower: Mapping[str, float] | None = None,
    int8: Mapping[str, float] | None = None,
) -> Evidence:
    """Draw members that see the truth through noise of some spread; infinite, they see nothing.

    `lower` gives a member an INT8 that differs from its fp32 by so much in a logit; `int8` has its
    cost.
    """
    generator = np.random.default_rng(5)
    truth = generator.normal(0, 3, (photos, CLASSES))

    def probabilities(logits: NDArray[np.float64]) -> NDArray[np.float32]:
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)

    answers: dict[ModelCall, NDArray[np.float32]] = {}
    for name in weights:
        seen = 0 if np.isinf(spread[name]) else 1
        noise = 3.0 if np.isinf(spread[name]) else spread[name]
        for view in range(VIEWS):
            logits = seen * truth + generator.normal(0, noise, truth.shape)
            answers[ModelCall(name, EXACT, view)] = probabilities(logits)
            if lower and name in lower:
                logits = logits + generator.normal(0, lower[name], truth.shape)
                answers[ModelCall(name, "int8", view)] = probabilities(logits)
    members = [
        np.stack([answers[ModelCall(name, EXACT, view)] for view in range(VIEWS)], axis=1)
        for name in weights
    ]
    return Evidence(
        answers=answers,
        votes={run: seen for run, seen in answers.items() if run.precision == EXACT},
        full=vote(members, list(weights.values()), 1.3),
        labels=truth.argmax(axis=1),
        weights={ModelKey(name, EXACT): weight for name, weight in weights.items()},
        costs={
            **{ModelKey(name, EXACT): ms for name, ms in costs.items()},
            **{ModelKey(name, "int8"): ms for name, ms in (int8 or {}).items()},
        },
        views=VIEWS,
    )


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """One cheap member is nearly as good as all, and another is noise."""
    return drawn({"cheap": 0.4, "good": 0.2, "noise": inf})


def planned(tiny_bundle: Any, evidence: Evidence, guarantee: Guarantee = GUARANTEE) -> CascadePlan:
    bundle = load_bundle(tiny_bundle.folder)
    members = (
        replace(bundle.members[0], name=key.member, file=f"{key.member}.onnx")
        for key in evidence.weights
    )
    alone = Alternative(tuple(evidence.weights.values()), 1.0, None, None)
    table = VotingTable("uniform", "", {"uniform": alone}, None)
    bundle = replace(bundle, members=tuple(members), voting=dict.fromkeys(range(1, 9), table))
    voting = Voting("custom", alone.weights)
    return make_plan(bundle, voting, evidence, guarantee, MANY, Device("cpu", "processor"))


def searched(plan: CascadePlan) -> PlanSearch:
    assert plan.search is not None
    return plan.search


class TestMakePlan:
    def test_it_is_far_cheaper_and_keeps_the_labels(
        self, tiny_bundle: Any, evidence: Evidence
    ) -> None:
        plan = planned(tiny_bundle, evidence)
        assert searched(plan).full_ms == 2 * (1 + 10 + 10)
        within = [each for each in plan.threshold_sets if each.risk <= GUARANTEE.tolerance]
        best = within[-1]
        assert best.ms < searched(plan).full_ms / 4
        assert best.agreement >= 1 - GUARANTEE.tolerance
        assert {run.member for run in plan.steps[0]} == {"cheap"}
        assert searched(plan).photos == PHOTOS

    def test_threshold_sets_are_strictly_cheaper_one_after_another(
        self, tiny_bundle: Any, evidence: Evidence
    ) -> None:
        plan = planned(tiny_bundle, evidence)
        costs = [searched(plan).full_ms, *(each.ms for each in plan.threshold_sets)]
        assert len(costs) > 3
        assert (np.diff(costs) < 0).all()

    def test_the_table_starts_with_the_full_ensemble_and_ends_with_the_threshold_sets(
        self, tiny_bundle: Any, evidence: Evidence
    ) -> None:
        plan = planned(tiny_bundle, evidence)
        assert searched(plan).table[0].way == "full"
        assert (searched(plan).table[0].agreement, searched(plan).table[0].calls) == (1.0, 6)
        assert searched(plan).table[-1].way == f"cascade {len(plan.threshold_sets)}"
        assert searched(plan).table[-1].ms == plan.threshold_sets[-1].ms
        ways = {row.way: row for row in searched(plan).table}
        alone = evidence.answers[ModelCall("good", EXACT, 0)].argmax(axis=1)
        assert ways["good, 1 view"].accuracy == np.mean(alone == evidence.labels)
        assert ways["good, 1 view"].ms == 10

    @pytest.mark.parametrize("tolerance", [0.25, 0.3, 0.9])
    def test_a_large_tolerance_is_no_error(
        self, tiny_bundle: Any, evidence: Evidence, tolerance: float
    ) -> None:
        plan = planned(tiny_bundle, evidence, Guarantee(tolerance, 0.95))
        assert plan.threshold_sets[-1].ms <= 2

    def test_too_few_photos_are_refused(self, tiny_bundle: Any) -> None:
        few = drawn({"cheap": 0.4, "good": 0.2, "noise": inf}, photos=19)
        with pytest.raises(
            ToolkitError, match=r"19 held-out photos are too few .* Leave `tolerance` out"
        ):
            planned(tiny_bundle, few)

    def test_of_nothing_but_noise_almost_nothing_is_saved(self, tiny_bundle: Any) -> None:
        """Neither of two equal members tells what both would say, but where both are run."""
        weights, costs = {"a": 0.5, "b": 0.5}, {"a": 1.0, "b": 1.0}
        noise = drawn({"a": inf, "b": inf}, weights=weights, costs=costs)
        plan = planned(tiny_bundle, noise, Guarantee(0.001, 0.95))
        for threshold_set in plan.threshold_sets:
            if threshold_set.risk <= 0.001:
                assert threshold_set.ms > 0.6 * searched(plan).full_ms


class TestSteps:
    def test_noise_takes_no_step(self, evidence: Evidence) -> None:
        steps = find_steps(evidence, 0.02)
        assert steps
        assert "noise" not in {run.member for run in steps[0]}

    def test_of_a_member_and_noise_that_outvotes_it_there_is_no_threshold_set(self) -> None:
        """What the cheap one says tells nothing of the full answer, which is the noise's."""
        weights, costs = {"cheap": 0.01, "noise": 0.99}, {"cheap": 1.0, "noise": 1.0}
        useless = drawn({"cheap": 0.1, "noise": inf}, weights=weights, costs=costs)
        useless = replace(
            useless,
            answers={run: each for run, each in useless.answers.items() if run.member == "cheap"},
        )
        assert find_steps(useless, 0.02) == ()
        assert find_threshold_sets(useless, ()) == []
        assert find_threshold_sets(useless, [(ModelCall("cheap", EXACT, 0),)]) == []

    def test_a_lower_precision_that_says_the_same_at_a_third_of_the_cost_is_preferred(self) -> None:
        spread, int8 = {"cheap": 0.4, "good": 0.2, "noise": inf}, {"cheap": COSTS["cheap"] / 3}
        found = drawn(spread, lower={"cheap": 0.0}, int8=int8)
        (first, *_) = find_steps(found, 0.02)
        assert {(run.member, run.precision) for run in first} == {("cheap", "int8")}

    def test_one_that_says_other_things_is_not(self) -> None:
        spread, int8 = {"cheap": 0.4, "good": 0.2, "noise": inf}, {"cheap": COSTS["cheap"] * 0.95}
        found = drawn(spread, lower={"cheap": 20.0}, int8=int8)
        assert {run.precision for step in find_steps(found, 0.02) for run in step} == {EXACT}

    def test_nothing_is_run_twice(self, evidence: Evidence) -> None:
        runs = [run for step in find_steps(evidence, 0.001) for run in step]
        assert len(runs) == len({(run.member, run.view) for run in runs})


def cheapest_at(evidence: Evidence, steps: Steps, target: float) -> float:
    """What steps cost at the most generous of many chances that keeps the risk."""
    all_ways = [learn_thresholds(evidence, steps, risk) for risk in np.geomspace(1e-4, 0.5, 200)]
    return min((way.ms for way in all_ways if way.risk <= target), default=inf)


class TestBetterSteps:
    TARGET = 0.01

    def orders(self, runs: tuple[ModelCall, ...]) -> Iterator[Steps]:
        """Every way to put some of the runs into steps."""
        yield ()
        for size in range(1, len(runs) + 1):
            for first in combinations(runs, size):
                rest = tuple(run for run in runs if run not in first)
                for following in self.orders(rest):
                    yield (first, *following)

    def test_of_all_ways_to_order_three_runs_it_comes_near_the_cheapest(self) -> None:
        weights, costs = {"cheap": 0.4, "good": 0.6}, {"cheap": 1.0, "good": 10.0}
        found = drawn({"cheap": 0.6, "good": 0.3}, weights=weights, costs=costs)
        runs = (
            ModelCall("cheap", EXACT, 0),
            ModelCall("cheap", EXACT, 1),
            ModelCall("good", EXACT, 0),
        )
        found = replace(found, answers={run: found.answers[run] for run in runs})
        cheapest = min(cheapest_at(found, steps, self.TARGET) for steps in self.orders(runs))
        worst: Steps = ((ModelCall("good", EXACT, 0), ModelCall("cheap", EXACT, 1)),)
        assert cheapest_at(found, worst, self.TARGET) > 1.3 * cheapest
        better = better_steps(found, worst, self.TARGET, trials=500)
        assert cheapest_at(found, better, self.TARGET) <= 1.03 * cheapest

    def test_nothing_is_run_twice_and_nothing_is_invented(self, evidence: Evidence) -> None:
        greedy = find_steps(evidence, 0.02)
        better = better_steps(evidence, greedy, self.TARGET, trials=500)
        runs = [run for step in better for run in step]
        assert len(runs) == len({(run.member, run.view) for run in runs})
        assert set(runs) <= set(evidence.answers)
        assert all(better)

    def test_without_a_trial_they_stay(self, evidence: Evidence) -> None:
        greedy = find_steps(evidence, 0.02)
        assert better_steps(evidence, greedy, self.TARGET, trials=0) == greedy


class TestCost:
    """What remains of the full ensemble is paid until a photo's label is certain."""

    STEPS = (
        (ModelCall("good", EXACT, 1),),
        (ModelCall("cheap", "int8", 0), ModelCall("cheap", EXACT, 1)),
    )
    REST = (("cheap", 0), ("good", 0), ("noise", 0), ("noise", 1))

    @pytest.fixture
    def found(self) -> Evidence:
        spread = {"cheap": 0.4, "good": 0.2, "noise": inf}
        return drawn(spread, lower={"cheap": 0.1}, int8={"cheap": 0.1})

    def settling(self, found: Evidence, photo: int) -> tuple[float, int]:
        """Milliseconds and runs of one photo, by a loop."""
        seen = 0.25 * found.answers[ModelCall("good", EXACT, 1)][photo].astype(float)
        seen += 0.2 * found.answers[ModelCall("cheap", EXACT, 1)][photo]
        share, ms, runs = 0.45, 0.0, 0
        for name, view in self.REST:
            second, best = np.sort(seen)[-2:]
            if best - second > 1 - share + 1e-5:
                break
            ms, runs = ms + COSTS[name], runs + 1
            seen += WEIGHTS[name] / VIEWS * found.answers[ModelCall(name, EXACT, view)][photo]
            share += WEIGHTS[name] / VIEWS
        return ms, runs

    def test_after_steps(self, found: Evidence) -> None:
        settling = found.settling(self.STEPS)
        by_photo = [self.settling(found, photo) for photo in range(PHOTOS)]
        np.testing.assert_allclose(settling.ms, [ms for ms, _ in by_photo])
        assert settling.calls.tolist() == [runs for _, runs in by_photo]
        assert set(settling.calls.tolist()) == {1, 2, 3, 4}

    def test_of_a_threshold_set(self, found: Evidence) -> None:
        never = find_threshold_sets(found, self.STEPS)[0]
        done = carry_out(found, self.STEPS, never.thresholds)
        rest = [self.settling(found, photo) for photo in np.flatnonzero(done.exit_step == 2)]
        assert rest
        share = np.array([1.0, 1 - never.exits[0]])
        step_ms = (share + np.array([0, WASTE])) @ [10, 0.1 + 1]
        rest_ms, rest_runs = np.sum(rest, axis=0) / PHOTOS
        assert never.ms == pytest.approx(step_ms + rest_ms)
        assert never.calls == pytest.approx(share @ [1, 2] + rest_runs)

    def test_of_labels_alone_is_less_than_of_the_whole(self, found: Evidence) -> None:
        assert 0.4 * found.full_ms < found.settled_ms < 0.95 * found.full_ms


class TestCarryOut:
    STEPS = (
        (ModelCall("cheap", EXACT, 0),),
        (ModelCall("cheap", EXACT, 1), ModelCall("noise", EXACT, 0)),
        (ModelCall("good", EXACT, 0),),
    )

    def one_by_one(
        self, evidence: Evidence, thresholds: tuple[float, ...]
    ) -> tuple[list[int], NDArray[np.float64]]:
        """The same, photo by photo."""
        left, answers = [], []
        for photo in range(PHOTOS):
            said: dict[str, list[NDArray[np.float64]]] = {}
            step, answer = len(self.STEPS), evidence.full[photo]
            for number, (runs, threshold) in enumerate(zip(self.STEPS, thresholds, strict=True)):
                for run in runs:
                    row = evidence.answers[run][photo].astype(float)
                    said.setdefault(run.member, []).append(row)
                weights = np.array([WEIGHTS[name] for name in said])
                mixed = weights @ [np.mean(rows, axis=0) for rows in said.values()] / weights.sum()
                second, best = np.sort(np.maximum(mixed, 1e-9))[-2:]
                if np.log(best / second) >= threshold:
                    step, answer = number, mixed
                    break
            left.append(step)
            answers.append(answer)
        return left, np.array(answers)

    @pytest.mark.parametrize(
        "thresholds", [(2.0, 1.5, 1.0), (inf, 0.5, inf), (inf, inf, inf), (0.0, 0.0, 0.0)]
    )
    def test_it_is_what_a_loop_over_photos_does(
        self, evidence: Evidence, thresholds: tuple[float, ...]
    ) -> None:
        done = carry_out(evidence, self.STEPS, thresholds)
        left, answers = self.one_by_one(evidence, thresholds)
        assert done.exit_step.tolist() == left
        np.testing.assert_allclose(done.answers, answers, rtol=1e-12)

    def test_every_way_out_is_taken(self, evidence: Evidence) -> None:
        """Else the comparison above would say little."""
        left, _ = self.one_by_one(evidence, (2.0, 1.5, 1.0))
        assert set(left) == {0, 1, 2, 3}

    def test_figures_are_those_of_the_labels(self, evidence: Evidence) -> None:
        for threshold_set in find_threshold_sets(evidence, self.STEPS):
            left, answers = self.one_by_one(evidence, threshold_set.thresholds)
            labels = answers.argmax(axis=1)
            figures = threshold_set
            assert figures.agreement == np.mean(labels == evidence.full.argmax(axis=1))
            assert figures.accuracy == np.mean(labels == evidence.labels)
            assert figures.exits == tuple(np.mean(np.array(left) == step) for step in range(3))

    def test_the_expected_share_of_other_labels_is_about_the_true_one(
        self, evidence: Evidence
    ) -> None:
        for threshold_set in find_threshold_sets(evidence, self.STEPS):
            wrong = PHOTOS * (1 - threshold_set.agreement)
            expected = PHOTOS * threshold_set.risk
            assert abs(wrong - expected) < 2 + 3 * np.sqrt(expected)


class TestExitRule:
    def photos(self, seed: int, size: int, slope: float) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(seed)
        clear = generator.gamma(2, 1.5, size)
        return clear, generator.random(size) < 1 / (1 + np.exp(0.5 + slope * clear))

    @pytest.mark.parametrize(
        ("seed", "size", "slope"), [(0, 300, 1.0), (1, 40, 3.0), (2, 5000, 0.3), (3, 200, 0.0)]
    )
    def test_it_is_the_most_likely_one_by_scipy(self, seed: int, size: int, slope: float) -> None:
        self.check(*self.photos(seed, size, slope))

    @pytest.mark.parametrize("differs", [False, True])
    @pytest.mark.parametrize("size", [1, 30, 2000])
    def test_also_where_no_photo_or_every_photo_differs(self, size: int, differs: bool) -> None:
        clear, _ = self.photos(4, size, 1.0)
        self.check(clear, np.full(size, differs))

    @pytest.mark.parametrize("size", [20, 2000])
    def test_also_where_a_margin_separates_them(self, size: int) -> None:
        clear, _ = self.photos(5, size, 1.0)
        self.check(clear, clear < np.median(clear))

    def test_also_where_all_margins_are_one(self) -> None:
        self.check(np.full(50, 2.0), np.arange(50) % 10 == 0)

    def check(self, clear: np.ndarray, differs: np.ndarray) -> None:
        middle, spread = clear.mean(), clear.std() or 1.0
        spots = np.quantile(clear, (0.1, 0.3, 0.5, 0.7, 0.9))

        def penalty(found: np.ndarray) -> float:
            def loss(margin: np.ndarray, outcome: Any) -> float:
                score = found[0] + found[1] * (margin - middle) / spread
                return float(np.sum(np.logaddexp(0, np.where(outcome, -score, score))))

            pseudo = 0.1 * (loss(spots, True) + loss(spots, False))
            return loss(clear, differs) + pseudo + 0.5 * (found[1] / SLOPE_DEVIATION) ** 2

        expected = minimize(penalty, [-1.0, -1.0], method="BFGS", options={"gtol": 1e-7}).x
        rule = ExitRule.fitted(clear, differs)
        found = [rule.intercept + rule.slope * middle, rule.slope * spread]
        assert penalty(np.array(found)) == pytest.approx(penalty(expected), abs=1e-6)
        assert found == pytest.approx(expected, abs=1e-3)

    def test_a_smaller_risk_asks_for_a_larger_margin(self) -> None:
        rule = ExitRule.fitted(*self.photos(6, 400, 1.0))
        risks = np.geomspace(1e-4, 0.3, 20)
        thresholds = [rule.threshold(risk) for risk in risks]
        assert (np.diff(thresholds) < 0).all()
        assert rule.risk(np.array(thresholds)) == pytest.approx(risks)

    def test_a_margin_is_never_below_0(self) -> None:
        assert ExitRule(-3.0, -1.0).threshold(0.2) == 0

    @pytest.mark.parametrize("slope", [0.0, 0.4])
    def test_where_margins_tell_nothing_nobody_exits(self, slope: float) -> None:
        assert ExitRule(-3.0, slope).threshold(0.4) == inf


MEASURED = {
    ModelKey("alpha", "fp32"): 1.0,
    ModelKey("alpha", "int8"): 0.3,
    ModelKey("beta", "fp32"): 4.0,
    ModelKey("gamma", "fp32"): 4.0,
}


class TestGather:
    def gathered(self, folder: Any, voting: str, views: int) -> Evidence:
        bundle = load_bundle(folder)
        chosen = choose_voting(bundle, views, voting)
        return gather(bundle, load_validation(bundle), chosen, views, MEASURED)

    def test_every_run_of_known_cost_has_its_answers(self, plannable: Any) -> None:
        found = self.gathered(plannable, "auto", 3)
        assert set(found.answers) == {
            ModelCall(key.member, key.precision, view) for key in MEASURED for view in range(3)
        }
        validation = load_validation(load_bundle(plannable))
        np.testing.assert_array_equal(
            found.answers[ModelCall("gamma", EXACT, 2)], validation.probabilities[2, :, 2]
        )
        np.testing.assert_array_equal(
            found.answers[ModelCall("alpha", "int8", 1)],
            validation.variants[ModelKey("alpha", "int8")][:, 1],
        )
        assert found.full_ms == 3 * (1 + 4 + 4)

    def test_the_exact_answer_is_the_vote(self, plannable: Any) -> None:
        found = self.gathered(plannable, "auto", 2)
        seen = load_validation(load_bundle(plannable)).probabilities[:, :, :2].astype(float)
        mixed = np.einsum("m,mpvc->pc", [0.5, 0.2, 0.3], seen) / 2
        powers = mixed ** (1 / 1.5)
        np.testing.assert_allclose(found.full, powers / powers.sum(axis=1, keepdims=True))

    def test_a_member_without_a_vote_is_never_planned_with(self, plannable: Any) -> None:
        found = self.gathered(plannable, "pair", 2)
        assert {run.member for run in found.answers} == {"alpha", "beta"}
        bundle = load_bundle(plannable)
        voting = Voting("custom", (0.0, 0.25, 0.75))
        found = gather(bundle, load_validation(bundle), voting, 2, MEASURED)
        steps = find_steps(found, 0.05)
        assert steps
        assert "alpha" not in {run.member for step in steps for run in step}
        assert found.full_ms == 2 * (4 + 4)

    def test_what_was_not_measured_is_not_planned_with(self, plannable: Any) -> None:
        bundle = load_bundle(plannable)
        costs = {key: ms for key, ms in MEASURED.items() if key.precision == "fp32"}
        voting = choose_voting(bundle, 2, "auto")
        found = gather(bundle, load_validation(bundle), voting, 2, costs)
        assert {run.precision for run in found.answers} == {EXACT}
