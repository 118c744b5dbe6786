"""Plans are kept as files; margins and mixtures are tested against plain NumPy."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.errors import ToolkitError
from toolkit.inference.bundle import load_bundle
from toolkit.inference.plan import (
    Candidate,
    Mixture,
    Plan,
    Run,
    described,
    exact_runs,
    load_plan,
    margins,
    run_cost,
    save_plan,
)
from toolkit.inference.voting import Voting, choose_voting


@pytest.fixture
def plan(tiny_bundle: Any) -> Plan:
    bundle = load_bundle(tiny_bundle.folder)
    return Plan(
        bundle=bundle.sha256,
        views=2,
        voting=described(bundle, choose_voting(bundle, 2, "auto")),
        device={"kind": "cpu", "name": "processor"},
        tolerance=0.01,
        confidence=0.95,
        photos=300,
        exact_ms=4.1,
        settled_ms=3.2,
        costs={"alpha fp32": 1.1, "beta fp32": 0.95},
        steps=((Run("alpha", "fp32", 0),), (Run("alpha", "fp32", 1), Run("beta", "fp32", 0))),
        candidates=(
            Candidate((2.5, inf), {"ms": 3.3, "risk": 0.001, "left": [0.1, 0.0]}),
            Candidate((0.1 + 0.2, 0.0), {"ms": 1.2, "risk": 0.01, "left": [0.5, 0.5]}),
        ),
        table=({"way": "exact", "ms": 4.1},),
    )


def test_a_plan_is_read_as_it_was_written(plan: Plan, tmp_path: Path) -> None:
    save_plan(plan, tmp_path / "plan.json")
    again = load_plan(tmp_path / "plan.json")
    assert again == plan
    assert again.sha256 == plan.sha256
    assert again.candidates[0].thresholds == (2.5, inf)
    save_plan(again, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "plan.json").read_bytes()


def test_its_file_is_json_of_the_standard(plan: Plan, tmp_path: Path) -> None:
    """Which knows no Infinity."""
    save_plan(plan, tmp_path / "plan.json")
    text = (tmp_path / "plan.json").read_text(encoding="utf-8")
    content = json.loads(text, parse_constant=pytest.fail)
    assert content["candidates"][0]["thresholds"] == [2.5, None]
    assert content["sha256"] == plan.sha256


@pytest.mark.parametrize(
    "change",
    [
        {"tolerance": 0.02},
        {"photos": 301},
        {"steps": ((Run("alpha", "fp32", 1),),)},
        {"candidates": ()},
        {"exact_ms": 4.2},
    ],
)
def test_another_plan_has_another_hash(plan: Plan, change: dict[str, Any]) -> None:
    assert replace(plan, **change).sha256 != plan.sha256


def test_an_edited_file_is_refused_in_one_line(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    save_plan(plan, path)
    text = path.read_text(encoding="utf-8")
    assert text.count("0.95,") == 1
    path.write_text(text.replace("0.95,", "0.90,"), encoding="utf-8")
    with pytest.raises(ToolkitError, match=r"plan\.json: was changed after it was made") as told:
        load_plan(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("content", ["{}", '{"schema_version": 1}', '{"schema_version": 99}'])
def test_what_is_no_plan_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "other.json").write_text(content, encoding="utf-8")
    with pytest.raises(ToolkitError, match=r"other\.json: is no plan .* 'toolkit plan'"):
        load_plan(tmp_path / "other.json")


class TestCheck:
    def test_it_is_for_the_ensemble_it_was_made_for(
        self, plan: Plan, tiny_bundle: Any, tmp_path: Path
    ) -> None:
        save_plan(plan, tmp_path / "plan.json")
        bundle = load_bundle(tiny_bundle.folder)
        load_plan(tmp_path / "plan.json").check(bundle, choose_voting(bundle, 2, "auto"), 2)

    def test_another_bundle(self, plan: Plan, tiny_bundle: Any) -> None:
        bundle = replace(load_bundle(tiny_bundle.folder), created="later")
        with pytest.raises(ToolkitError, match="made for another bundle"):
            plan.check(bundle, choose_voting(bundle, 2, "auto"), 2)

    def test_another_number_of_views(self, plan: Plan, tiny_bundle: Any) -> None:
        bundle = load_bundle(tiny_bundle.folder)
        with pytest.raises(ToolkitError, match=r"made for --tta \d, not \d"):
            plan.check(bundle, choose_voting(bundle, 2, "auto"), 4)

    @pytest.mark.parametrize(
        "voting",
        [
            Voting("fitted", (0.7, 0.3, 0.0), 1.5),
            Voting("fitted", (0.75, 0.25, 0.0), 1.0),
            Voting("custom", (0.75, 0.25, 0.0), 1.5),
        ],
    )
    def test_another_voting(self, plan: Plan, tiny_bundle: Any, voting: Voting) -> None:
        with pytest.raises(ToolkitError, match="made for another voting"):
            plan.check(load_bundle(tiny_bundle.folder), voting, 2)


def test_margins_are_the_log_of_the_two_best_ones_ratio() -> None:
    found = margins(np.array([[0.2, 0.7, 0.1], [0.4, 0.2, 0.4], [1.0, 0.0, 0.0]]))
    assert found == pytest.approx([np.log(0.7 / 0.2), 0.0, np.log(1e9)])
    assert np.isfinite(found).all()


WEIGHTS = {"a": 0.6, "b": 0.3, "c": 0.1}


class TestMixture:
    @pytest.fixture
    def said(self) -> dict[Run, np.ndarray]:
        runs = [Run("b", "fp32", 0), Run("a", "int8", 0), Run("b", "fp32", 3)]
        drawn = np.random.default_rng(0).dirichlet((1, 1, 1, 1), (3, 5)).astype(np.float32)
        return dict(zip(runs, drawn, strict=True))

    def mixture(self, said: dict[Run, np.ndarray]) -> Mixture:
        mixture = Mixture(WEIGHTS, 5, 4)
        for run, probabilities in said.items():
            mixture.add(run, probabilities)
        return mixture

    def test_members_count_by_weight_and_their_views_equally(
        self, said: dict[Run, np.ndarray]
    ) -> None:
        b, a, other_b = (each.astype(float) for each in said.values())
        expected = (0.6 * a + 0.3 * (b + other_b) / 2) / 0.9
        np.testing.assert_allclose(self.mixture(said).mean(), expected, rtol=1e-12)

    def test_a_photos_answer_does_not_depend_on_the_others(
        self, said: dict[Run, np.ndarray]
    ) -> None:
        whole, chosen = self.mixture(said), np.array([False, True, True, False, True])
        part = whole.copy()
        part.keep(chosen)
        np.testing.assert_array_equal(part.mean(), whole.mean()[chosen])
        last = Run("c", "fp32", 0)
        added = np.random.default_rng(1).dirichlet((1, 1, 1, 1), 5).astype(np.float32)
        whole.add(last, added)
        part.add(last, added[chosen])
        np.testing.assert_array_equal(part.mean(), whole.mean()[chosen])

    def test_a_copy_leaves_the_original_alone(self, said: dict[Run, np.ndarray]) -> None:
        mixture = self.mixture(said)
        before = mixture.mean()
        copied = mixture.copy()
        copied.add(Run("a", "fp32", 1), np.eye(4, dtype=np.float32)[[0, 0, 0, 0, 0]])
        copied.keep(np.arange(5) < 2)
        np.testing.assert_array_equal(mixture.mean(), before)
        assert copied.mean().shape == (2, 4)


def test_the_exact_ensemble_runs_all_views_of_the_members_that_vote() -> None:
    runs = exact_runs({"a": 0.5, "b": 0.0, "c": 0.5}, 2)
    assert runs == [Run(name, "fp32", view) for name in ("a", "c") for view in (0, 1)]
    assert run_cost([*runs, Run("a", "int8", 0)], {"a fp32": 2, "c fp32": 3, "a int8": 1}) == 11
