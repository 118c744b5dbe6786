"""A label is called certain where no runs to come can change it, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.inference.calls import ModelCall, ModelKey
from toolkit.inference.exits import SLACK, settled, settling_steps
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
    by_key = {
        ModelKey(name, "fp32"): weight
        for name, weight in zip(names, weights, strict=True)
        if weight
    }
    costs = {key: float(generator.uniform(1, 5)) for key in by_key}
    votes, to_come, early = np.zeros((photos, CLASSES)), 1.0, 0
    for step in settling_steps((), by_key, views, costs):
        certain = settled(votes, to_come)
        np.testing.assert_array_equal(votes[certain].argmax(axis=1), expected[certain])
        early += int(certain.sum())
        for call in step:
            votes += by_key[call.key] / views * seen[call.member][:, call.view]
            to_come -= by_key[call.key] / views
    assert early > photos / 10


def test_a_tie_is_never_certain() -> None:
    assert not settled(np.array([[0.5, 0.5, 0.0]]), 0.0).any()


def order(*steps: tuple[ModelCall, ...]) -> list[list[tuple[str, int]]]:
    return [[(call.member, call.view) for call in step] for step in steps]


WEIGHTS = {
    ModelKey("heavy", "fp32"): 0.6,
    ModelKey("light", "fp32"): 0.3,
    ModelKey("dear", "int8"): 0.1,
}
COSTS = dict(zip(WEIGHTS, (8.0, 3.0, 3.0), strict=True))


def test_what_costs_least_by_weight_comes_first_and_what_all_photos_need_together() -> None:
    assert order(*settling_steps((), WEIGHTS, 2, COSTS)) == [
        [("light", 0), ("light", 1), ("heavy", 0)],
        [("heavy", 1)],
        [("dear", 0)],
        [("dear", 1)],
    ]


def test_what_was_called_before_counts_and_is_not_called_again() -> None:
    done = (ModelCall("heavy", "fp32", 1), ModelCall("heavy", "int8", 0))
    assert order(*settling_steps(done, WEIGHTS, 2, COSTS)) == [
        [("light", 0), ("light", 1)],
        [("heavy", 0)],
        [("dear", 0)],
        [("dear", 1)],
    ]
