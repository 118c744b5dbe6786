"""A label is called certain where no runs to come can change it, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.inference.exits import SLACK, settled, settling_order
from toolkit.inference.plan import EXACT, Run, exact_runs
from toolkit.inference.voting import vote

CLASSES = 4


def some_probabilities(generator: np.random.Generator, *shape: int) -> np.ndarray:
    """Clear ones and unclear ones, in float32 as networks give them."""
    sharpness = generator.choice([0.3, 3.0, 10.0], size=(*shape, 1))
    logits = sharpness * generator.normal(size=(*shape, CLASSES))
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("to_come", [0.9, 0.5, 0.25, 0.03])
def test_it_is_certain_where_no_class_can_catch_up(to_come: float) -> None:
    """By giving all that is to come to each other class in turn."""
    votes = (1 - to_come) * some_probabilities(np.random.default_rng(3), 500).astype(np.float64)
    certain = settled(votes, to_come)
    for row, found in zip(votes, certain, strict=True):
        label = row.argmax()
        leads = [row[label] - (row[other] + to_come) for other in range(CLASSES) if other != label]
        assert found == (min(leads) > SLACK)
    assert certain.any() == (to_come < 0.5)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.25, 0.75), (0.5, 0.3, 0.2)])
def test_no_label_is_ever_another_than_the_votes(weights: tuple[float, ...]) -> None:
    generator = np.random.default_rng(7)
    views, photos = 3, 400
    names = [f"m{number}" for number in range(len(weights))]
    seen = {name: some_probabilities(generator, photos, views) for name in names}
    expected = vote([seen[name] for name in names], weights, 0.7).argmax(axis=1)
    by_name = dict(zip(names, weights, strict=True))
    runs = exact_runs(by_name, views)
    costs = {f"{name} {EXACT}": float(generator.uniform(1, 5)) for name in names}
    votes, to_come, early = np.zeros((photos, CLASSES)), 1.0, 0
    for run in settling_order(runs, by_name, costs):
        certain = settled(votes, to_come)
        np.testing.assert_array_equal(votes[certain].argmax(axis=1), expected[certain])
        early += int(certain.sum())
        votes += by_name[run.member] / views * seen[run.member][:, run.view]
        to_come -= by_name[run.member] / views
    assert early > photos / 10


def test_a_tie_is_never_certain() -> None:
    assert not settled(np.array([[0.5, 0.5, 0.0]]), 0.0).any()


def test_what_costs_least_by_weight_comes_first() -> None:
    weights = {"heavy": 0.6, "light": 0.3, "dear": 0.1}
    costs = {"heavy fp32": 8.0, "light fp32": 3.0, "dear fp32": 3.0}
    order = settling_order(reversed(exact_runs(weights, 2)), weights, costs)
    assert [(run.member, run.view) for run in order] == [
        ("light", 0), ("light", 1), ("heavy", 0), ("heavy", 1), ("dear", 0), ("dear", 1)
    ]  # fmt: skip
    assert all(isinstance(run, Run) and run.precision == EXACT for run in order)
