"""Plans are kept as files; what no plan may hold is refused in one line, by file and key."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import ToolkitError
from toolkit.files import sha256_json
from toolkit.inference.bundle import Bundle, load_bundle
from toolkit.inference.calls import ModelCall, ModelKey
from toolkit.inference.exits import settling_steps
from toolkit.inference.plan import (
    CascadePlan,
    PlanDevice,
    PlanSearch,
    PlanVoting,
    ThresholdSet,
    Way,
    load_plan,
    measured_costs,
    save_plan,
)
from toolkit.inference.voting import Voting, choose_voting

COSTS = {
    ModelKey("alpha", "fp32"): 1.1,
    ModelKey("alpha", "int8"): 0.4,
    ModelKey("beta", "fp32"): 0.95,
    ModelKey("gamma", "fp32"): 2.0,
}
STEPS = (
    (ModelCall("alpha", "int8", 0),),
    (ModelCall("alpha", "fp32", 1), ModelCall("beta", "fp32", 0)),
)


@pytest.fixture
def bundle(plannable: Path) -> Bundle:
    return load_bundle(plannable)


@pytest.fixture
def plan(bundle: Bundle) -> CascadePlan:
    voting = PlanVoting.of(bundle, choose_voting(bundle, 2, "auto"))
    figures = {"calls": 2.0, "agreement": 1.0, "accuracy": 0.9}
    done = [call for step in STEPS for call in step]
    return CascadePlan(
        bundle=bundle.sha256,
        views=2,
        voting=voting,
        steps=STEPS,
        threshold_sets=(
            ThresholdSet(thresholds=(2.5, inf), ms=3.3, risk=0.001, exits=(0.1, 0.0), **figures),
            ThresholdSet(
                thresholds=(0.1 + 0.2, 0.0), ms=1.2, risk=0.01, exits=(0.5, 0.5), **figures
            ),
        ),
        rest=settling_steps(done, voting.weights, 2, COSTS),
        search=PlanSearch(
            device=PlanDevice(kind="cpu", name="processor"),
            tolerance=0.01,
            confidence=0.95,
            photos=300,
            full_ms=4.1,
            settled_ms=3.2,
            costs=measured_costs(COSTS),
            table=(Way(way="full", ms=4.1, calls=6, agreement=1.0, accuracy=0.9),),
        ),
    )


class TestFile:
    def test_a_plan_is_read_as_it_was_written(self, plan: CascadePlan, tmp_path: Path) -> None:
        save_plan(plan, tmp_path / "plan.json")
        again = load_plan(tmp_path / "plan.json")
        assert again == plan
        assert again.sha256 == plan.sha256
        assert again.threshold_sets[0].thresholds == (2.5, inf)
        save_plan(again, tmp_path / "again.json")
        assert (tmp_path / "again.json").read_bytes() == (tmp_path / "plan.json").read_bytes()

    def test_it_is_json_of_the_standard(self, plan: CascadePlan, tmp_path: Path) -> None:
        """Which knows no Infinity."""
        save_plan(plan, tmp_path / "plan.json")
        text = (tmp_path / "plan.json").read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=pytest.fail)
        assert content["threshold_sets"][0]["thresholds"] == [2.5, None]
        assert content["sha256"] == plan.sha256

    def test_full_and_label_exact_are_plans_too(self, bundle: Bundle, tmp_path: Path) -> None:
        voting = choose_voting(bundle, 2, "auto")
        full = CascadePlan.full(bundle, voting, 2)
        exact = CascadePlan.label_exact(bundle, voting, 2, COSTS)
        for plan in (full, exact):
            save_plan(plan, tmp_path / "plan.json")
            assert load_plan(tmp_path / "plan.json") == plan
        assert (full.method, exact.method) == ("full", "label-exact")
        assert [len(step) for step in full.rest] == [6]
        assert sorted(exact.calls) == sorted(full.calls)

    def test_label_exact_of_one_member_and_one_view_is_the_full_ensemble(
        self, bundle: Bundle
    ) -> None:
        voting = Voting("custom", (0.0, 1.0, 0.0))
        assert CascadePlan.label_exact(bundle, voting, 1, COSTS).method == "full"

    def test_an_edited_file_is_refused_in_one_line(self, plan: CascadePlan, tmp_path: Path) -> None:
        path = tmp_path / "plan.json"
        save_plan(plan, path)
        text = path.read_text(encoding="utf-8")
        assert text.count('"confidence": 0.95') == 1
        path.write_text(text.replace('"confidence": 0.95', '"confidence": 0.90'), "utf-8")
        with pytest.raises(ToolkitError, match=r"plan\.json: sha256: was changed after") as told:
            load_plan(path)
        assert "\n" not in str(told.value)

    @pytest.mark.parametrize("content", ["{}", '{"schema_version": 1}', '{"steps": []}'])
    def test_what_is_no_plan_is_refused(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "other.json").write_text(content, encoding="utf-8")
        with pytest.raises(ToolkitError, match=r"other\.json: is no plan .* 'toolkit plan'"):
            load_plan(tmp_path / "other.json")


def changed(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    """Return what sets a value somewhere in a plan's content."""

    def change(content: Any) -> None:
        for part in path[:-1]:
            content = content[part]
        content[path[-1]] = to

    return change


def removed(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: Any) -> None:
        for part in path[:-1]:
            content = content[part]
        del content[path[-1]]

    return change


def repeated(content: dict[str, Any]) -> None:
    content["steps"][0] *= 50


def moved(content: dict[str, Any]) -> None:
    content["rest"][0].append(content["steps"][1][0])


FORGED = {
    "a call repeated": (repeated, r"steps: 'alpha' int8 view 0: Expected each call once"),
    "a view of -1": (changed("steps", 0, 0, "view", to=-1), r"steps: .* view from 0 to 1"),
    "a view beyond": (changed("steps", 0, 0, "view", to=2), r"steps: .* view from 0 to 1"),
    "a view of 0.5": (changed("steps", 0, 0, "view", to=0.5), r"steps\.0\.0\.view: "),
    "a view as text": (changed("steps", 0, 0, "view", to="0"), r"steps\.0\.0\.view: "),
    "a strange member": (
        changed("steps", 0, 0, "member", to="delta"),
        r"steps: 'delta' int8 view 0: Expected a member that has a vote",
    ),
    "an empty step": (changed("steps", 0, to=[]), r"steps\.0: "),
    "a call left out": (removed("rest", -1), r"rest: Expected the full ensemble's calls"),
    "a call in steps and rest": (moved, r"rest: Expected the full ensemble's calls"),
    "too few thresholds": (
        changed("threshold_sets", 0, "thresholds", to=[1.0]),
        r"threshold_sets: Expected one threshold",
    ),
    "a threshold below 0": (
        changed("threshold_sets", 0, "thresholds", to=[-1.0, 1.0]),
        r"threshold_sets\.0\.thresholds\.0: ",
    ),
    "steps without thresholds": (changed("threshold_sets", to=[]), r"threshold_sets: Expected"),
    "too many sets": (lambda c: c["threshold_sets"].extend(c["threshold_sets"] * 30), "sets: "),
    "a tolerance of 1": (changed("search", "tolerance", to=1.0), r"search\.tolerance: "),
    "a tolerance of 0": (changed("search", "tolerance", to=0.0), r"search\.tolerance: "),
    "a confidence of 0": (changed("search", "confidence", to=0.0), r"search\.confidence: "),
    "a confidence as text": (changed("search", "confidence", to="0.9"), r"search\.confidence: "),
    "a cost of 0": (changed("search", "costs", 0, "ms", to=0.0), r"search\.costs\.0\.ms: "),
    "a cost left out": (removed("search", "costs", 0), r"search\.costs: Expected a cost of"),
    "a cost twice": (
        lambda c: c["search"]["costs"].append(c["search"]["costs"][0]),
        r"search\.costs: Expected each member and precision once",
    ),
    "no held-out photos": (changed("search", "photos", to=0), r"search\.photos: "),
    "a risk over 1": (changed("threshold_sets", 0, "risk", to=1.5), r"threshold_sets\.0\.risk: "),
    "weights beyond 1": (
        changed("voting", "members", 0, "weight", to=0.9),
        r"voting\.members: Expected weights that sum to 1",
    ),
    "a negative weight": (
        changed("voting", "members", 0, "weight", to=-0.5),
        r"voting\.members\.0\.weight: ",
    ),
    "a temperature of -1": (changed("voting", "temperature", to=-1.0), r"voting\.temperature: "),
    "nine views": (changed("views", to=9), r"views: "),
    "no hash of a bundle": (changed("bundle", to="mine"), r"bundle: "),
    "an unknown key": (changed("exact", to=True), r"exact: "),
    "an unknown key of a call": (changed("steps", 0, 0, "often", to=50), r"steps\.0\.0\.often: "),
    "a key left out": (removed("voting"), r"voting: "),
}


@pytest.mark.parametrize("forgery", list(FORGED))
def test_a_forged_plan_is_refused_by_file_and_key(
    plan: CascadePlan, tmp_path: Path, forgery: str
) -> None:
    """Its hash is right: whoever edits a plan can compute that again."""
    change, complaint = FORGED[forgery]
    content = json.loads(json.dumps(plan.content))
    change(content)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**content, "sha256": sha256_json(content)}), encoding="utf-8")
    with pytest.raises(ToolkitError, match=rf"mine\.json: .*{complaint}") as told:
        load_plan(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_no_cost(plan: CascadePlan, tmp_path: Path, value: str) -> None:
    text = json.dumps({**plan.content, "sha256": plan.sha256}).replace(
        '"ms": 1.1', f'"ms": {value}'
    )
    assert value in text
    (tmp_path / "mine.json").write_text(text, encoding="utf-8")
    with pytest.raises(ToolkitError, match=r"mine\.json: "):
        load_plan(tmp_path / "mine.json")


class TestCheck:
    def test_it_is_for_the_ensemble_it_was_made_for(
        self, plan: CascadePlan, bundle: Bundle
    ) -> None:
        plan.check(bundle, choose_voting(bundle, 2, "auto"), 2, "plan.json")

    def test_another_bundle(self, plan: CascadePlan, bundle: Bundle) -> None:
        other = replace(bundle, created="later")
        with pytest.raises(ToolkitError, match=r"plan\.json: bundle: Expected that of .*another"):
            plan.check(other, choose_voting(bundle, 2, "auto"), 2, "plan.json")

    def test_another_number_of_views(self, plan: CascadePlan, bundle: Bundle) -> None:
        with pytest.raises(ToolkitError, match=r"plan\.json: views: Expected 4, received 2"):
            plan.check(bundle, choose_voting(bundle, 2, "auto"), 4, "plan.json")

    @pytest.mark.parametrize(
        "voting",
        [
            Voting("fitted", (0.5, 0.3, 0.2), 1.5),
            Voting("fitted", (0.5, 0.2, 0.3), 1.0),
            Voting("custom", (0.5, 0.2, 0.3), 1.5),
        ],
    )
    def test_another_voting(self, plan: CascadePlan, bundle: Bundle, voting: Voting) -> None:
        with pytest.raises(ToolkitError, match=r"plan\.json: voting: Expected .* another"):
            plan.check(bundle, voting, 2, "plan.json")

    def test_a_precision_that_the_member_does_not_have(
        self, plan: CascadePlan, bundle: Bundle
    ) -> None:
        content = json.loads(json.dumps(plan.content))
        content["steps"][0][0]["precision"] = "fp16"
        content["search"]["costs"].append({"member": "alpha", "precision": "fp16", "ms": 1.0})
        other = CascadePlan.model_validate_json(json.dumps(content))
        with pytest.raises(ToolkitError, match=r"plan\.json: steps: member 'alpha' has no fp16"):
            other.check(bundle, choose_voting(bundle, 2, "auto"), 2, "plan.json")


@pytest.mark.parametrize("sets", [0, 1])
def test_a_plan_with_fewer_threshold_sets_is_a_plan(plan: CascadePlan, sets: int) -> None:
    fewer = plan.with_threshold_sets(plan.threshold_sets[:sets])
    assert CascadePlan.model_validate_json(json.dumps(fewer.content)) == fewer
    assert fewer.sha256 != plan.sha256
    assert fewer.method == ("cascade" if sets else "label-exact")
