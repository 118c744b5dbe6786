"""Voting weights: the best there are on the held-out photos, and honest about how good they are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from toolkit.exporting.weights import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    SHRINKAGE,
    _folds,
    accuracy_weights,
    cross_fitting,
    fitted_temperature,
    fitted_weights,
    selected_weights,
    unvalidated_table,
    voting_table,
)
from toolkit.inference.voting import soften
from toolkit.metrics import METRICS, Answers, log_losses, measure

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def members(
    strengths: list[float], photos: int = 300, classes: int = 5, seed: int = 0
) -> tuple[Floats, Integers]:
    """Members that see the true class through noise of their own, the stronger the better."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, photos)
    truth = np.eye(classes)[labels]
    logits = [strength * truth + generator.normal(size=(photos, classes)) for strength in strengths]
    return softmax(np.stack(logits)), labels


def objective(weights: Floats, probabilities: Floats, labels: Integers) -> float:
    """Mean log-loss of the weighted average, plus the shrinkage towards equal weights."""
    total = 0.0
    for photo, label in enumerate(labels):
        total -= np.log(sum(w * p[photo, label] for w, p in zip(weights, probabilities)))  # noqa: B905
    return total / len(labels) + SHRINKAGE * float(((weights - 1 / len(weights)) ** 2).sum())


@pytest.mark.parametrize("strengths", [[1.0, 2.0, 3.0], [2.0, 2.0, 0.2], [3.0, 0.0, 0.0]])
def test_fitted_weights_are_the_best_of_a_grid_over_the_simplex(strengths: list[float]) -> None:
    probabilities, labels = members(strengths, photos=80)
    fitted = fitted_weights(probabilities, labels)
    assert fitted.sum() == pytest.approx(1)
    assert (fitted >= 0).all()
    grid = [
        np.array([first, second, 100 - first - second]) / 100
        for first, second in itertools.product(range(101), repeat=2)
        if first + second <= 100
    ]
    losses = [objective(weights, probabilities, labels) for weights in grid]
    best = grid[int(np.argmin(losses))]
    np.testing.assert_allclose(fitted, best, atol=0.011)
    assert objective(fitted, probabilities, labels) <= min(losses) + 1e-9


def test_shrinkage_holds_weights_nearer_to_equal_ones_than_the_log_loss_alone() -> None:
    probabilities, labels = members([2.0, 2.5], photos=80)
    probabilities = softmax(0.3 * np.log(probabilities))
    first = np.linspace(0, 1, 1001)
    mixed = first[:, None] * probabilities[0, range(80), labels]
    mixed += (1 - first[:, None]) * probabilities[1, range(80), labels]
    unshrunk = first[np.argmin(-np.log(mixed).mean(axis=1))]
    fitted = fitted_weights(probabilities, labels)[0]
    assert unshrunk + 0.05 < fitted < 0.5


def test_a_member_of_pure_noise_gets_no_vote() -> None:
    probabilities, labels = members([4.0, 4.0, 0.0])
    fitted = fitted_weights(probabilities, labels)
    assert fitted[2] == 0
    assert fitted[:2].min() > 0.3


def test_members_that_say_the_same_share_the_vote_equally() -> None:
    probabilities, labels = members([2.0])
    fitted = fitted_weights(np.repeat(probabilities, 4, axis=0), labels)
    np.testing.assert_allclose(fitted, 0.25, atol=1e-6)


def test_a_member_alone_has_the_whole_vote() -> None:
    probabilities, labels = members([2.0])
    assert fitted_weights(probabilities, labels) == pytest.approx([1.0])


def test_a_member_that_is_certain_and_wrong_breaks_nothing() -> None:
    labels = np.zeros(10, dtype=np.int64)
    right, wrong = np.tile([1.0, 0.0], (10, 1)), np.tile([0.0, 1.0], (10, 1))
    np.testing.assert_allclose(fitted_weights(np.stack([right, wrong]), labels), [1, 0], atol=0.01)
    everyone_wrong = fitted_weights(np.stack([wrong, wrong]), labels)
    np.testing.assert_allclose(everyone_wrong, 0.5)


def test_accuracy_weights_are_in_proportion_to_accuracy() -> None:
    labels = np.array([0, 0, 0, 0])
    right, wrong = [0.9, 0.1], [0.2, 0.8]
    probabilities = np.array([[right, right, right, wrong], [right, wrong, wrong, wrong]])
    np.testing.assert_allclose(accuracy_weights(probabilities, labels), [0.75, 0.25])


def test_accuracy_weights_of_members_that_are_never_right_are_equal() -> None:
    probabilities = np.tile([0.2, 0.8], (3, 4, 1))
    np.testing.assert_allclose(accuracy_weights(probabilities, np.zeros(4, dtype=int)), 1 / 3)


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_fitted_temperature_is_the_best_of_a_fine_grid(sharpness: float) -> None:
    probabilities, labels = members([2.0], photos=400)
    mixed = softmax(sharpness * np.log(probabilities[0]))
    grid = np.exp(np.linspace(np.log(LOWEST_TEMPERATURE), np.log(HIGHEST_TEMPERATURE), 4001))
    losses = [
        -np.log(softmax(np.log(mixed) / each)[np.arange(400), labels]).mean() for each in grid
    ]
    assert fitted_temperature(mixed, labels) == pytest.approx(grid[np.argmin(losses)], rel=0.005)


def test_fitted_temperature_has_the_least_log_loss_where_members_are_certain_and_wrong() -> None:
    # Probabilities of 0 and 1: of what is as wrong as can be, only so much is counted.
    probabilities, labels = members([3.0], photos=400)
    mixed = probabilities[0]
    mixed[:20] = np.eye(5)[(labels[:20] + 1) % 5]
    grid = np.exp(np.linspace(np.log(LOWEST_TEMPERATURE), np.log(HIGHEST_TEMPERATURE), 4001))
    losses = [log_losses(soften(mixed, each), labels).mean() for each in grid]
    fitted = fitted_temperature(mixed, labels)
    assert log_losses(soften(mixed, fitted), labels).mean() <= min(losses) + 1e-6


def test_temperature_undoes_what_made_probabilities_too_sharp() -> None:
    probabilities, labels = members([2.0], photos=2000)
    sharp = softmax(3 * np.log(probabilities[0]))
    ratio = fitted_temperature(sharp, labels) / fitted_temperature(probabilities[0], labels)
    assert ratio == pytest.approx(3, rel=0.001)


@given(
    st.lists(
        st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4).filter(any),
        min_size=1,
        max_size=5,
    ),
    st.floats(LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE),
)
@settings(deadline=None)
def test_a_temperature_never_changes_a_label(rows: list[list[float]], temperature: float) -> None:
    probabilities = np.array(rows, dtype=np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    softened = soften(probabilities, temperature)
    np.testing.assert_array_equal(softened.argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(softened.sum(axis=1), 1)


def test_folds_never_split_a_group_and_use_all_photos() -> None:
    groups = np.random.default_rng(5).integers(0, 60, 200)
    labels = np.random.default_rng(6).integers(0, 3, 200)
    folds = _folds(groups, labels)
    for group in np.unique(groups):
        assert len(set(folds[groups == group])) == 1
    assert set(folds) == set(range(5))
    assert np.bincount(folds).min() > 20
    np.testing.assert_array_equal(folds, _folds(groups, labels))


def test_folds_follow_groups_not_their_numbers() -> None:
    groups = np.random.default_rng(5).integers(0, 60, 200)
    labels = np.random.default_rng(6).integers(0, 3, 200)
    np.testing.assert_array_equal(_folds(groups, labels), _folds(groups * 1000 + 7, labels))


def test_folds_have_an_even_share_of_each_class() -> None:
    labels = np.repeat(np.arange(30), [5] * 20 + [12] * 10)
    folds = _folds(np.arange(len(labels)), labels)
    for label in range(30):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1


def alone(photos: int) -> Integers:
    """Groups of photos that are all different."""
    return np.arange(photos)


def test_fitted_weights_are_chosen_where_they_help() -> None:
    probabilities, labels = members([4.0, 0.0, 0.0], photos=400)
    table = voting_table(probabilities, labels, alone(400), ["good", "bad", "worse"])
    assert table.choice == "fitted"
    fitted, uniform = table.alternatives["fitted"], table.alternatives["uniform"]
    assert fitted.log_loss is not None
    assert uniform.log_loss is not None
    assert fitted.log_loss < uniform.log_loss
    assert fitted.weights[0] > 0.9


@pytest.mark.parametrize("seed", range(5))
def test_uniform_weights_are_chosen_where_fitted_ones_do_not_help(seed: int) -> None:
    probabilities, labels = members([2.0, 2.0, 2.0], photos=100, seed=seed)
    table = voting_table(probabilities, labels, alone(100), ["a", "b", "c"])
    assert table.choice == "uniform"
    assert "standard error" in table.reason


def test_a_single_member_votes_uniformly() -> None:
    probabilities, labels = members([2.0])
    table = voting_table(probabilities, labels, alone(300), ["only"])
    assert table.choice == "uniform"
    assert {each.weights for each in table.alternatives.values()} == {(1.0,)}


def fold_by_fold(probabilities: Floats, labels: Integers, groups: Integers) -> dict[str, Floats]:
    """The log-losses of equal and fitted weights, cross-fitted by hand."""
    folds, photos = _folds(groups, labels), len(labels)
    losses = {"uniform": np.zeros(photos), "fitted": np.zeros(photos)}
    for fold in range(5):
        inside, outside = folds == fold, folds != fold
        fitted = fitted_weights(probabilities[:, outside], labels[outside])
        for name, weights in (("uniform", [1 / 3] * 3), ("fitted", fitted)):
            mixed = sum(w * p for w, p in zip(weights, probabilities, strict=True))
            temperature = fitted_temperature(mixed[outside], labels[outside])
            judged = softmax(np.log(mixed) / temperature)[range(photos), labels]
            losses[name][inside] = -np.log(judged[inside])
    return losses


def test_a_choice_needs_a_gain_of_more_than_its_standard_error() -> None:
    seen = set()
    groups = np.arange(60) // 2
    for seed in range(12):
        probabilities, labels = members([2.0, 0.5, 0.5], photos=60, seed=seed)
        table = voting_table(probabilities, labels, groups, ["a", "b", "c"])
        losses = fold_by_fold(probabilities, labels, groups)
        for name, values in losses.items():
            assert table.alternatives[name].log_loss == pytest.approx(values.mean())
        gain = losses["uniform"] - losses["fitted"]
        error = gain.std(ddof=1) / np.sqrt(60)
        assert table.choice == ("fitted" if gain.mean() > error else "uniform")
        seen.add((table.choice, bool(gain.mean() > 0)))
    assert seen == {("fitted", True), ("uniform", True), ("uniform", False)}


def test_weights_given_by_hand_are_compared_too() -> None:
    probabilities, labels = members([3.0, 1.0])
    table = voting_table(probabilities, labels, alone(300), ["a", "b"], custom=(1.0, 0.0))
    custom = table.alternatives["custom"]
    assert custom.weights == (1.0, 0.0)
    assert custom.accuracy == (probabilities[0].argmax(axis=1) == labels).mean()
    assert table.best_single.name == "a"
    assert table.best_single.log_loss == pytest.approx(custom.log_loss)


def test_figures_of_labels_that_mean_nothing_are_those_of_chance() -> None:
    # Of forty members that guess among five classes one is right on a third of the photos, by
    # luck; a figure taken on the photos that it was chosen on would say so.
    best, chosen, losses = [], [], []
    for seed in range(8):
        generator = np.random.default_rng(seed)
        labels = generator.integers(0, 5, 60)
        probabilities = softmax(3 * generator.normal(size=(40, 60, 5)))
        table = voting_table(probabilities, labels, alone(60), [str(each) for each in range(40)])
        best.append((probabilities.argmax(axis=2) == labels).mean(axis=1).max())
        figures = [*table.alternatives.values()]
        chosen.append([table.best_single.accuracy, *(each.accuracy for each in figures)])
        losses.append([table.best_single.log_loss, *(each.log_loss for each in figures)])
        assert table.choice == "uniform"
    assert np.mean(best) > 0.3
    assert (np.abs(np.mean(chosen, axis=0) - 0.2) < 0.05).all()
    assert (np.mean(losses, axis=0) > np.log(5) - 0.01).all()


def test_copies_of_a_photo_cannot_vouch_for_each_other() -> None:
    # Each photo of a group has its own random label in common: learning one tells all the others.
    generator = np.random.default_rng(9)
    groups = np.repeat(np.arange(20), 20)
    labels = generator.integers(0, 2, 20)[groups]
    probabilities = softmax(2 * generator.normal(size=(12, 20, 2)))[:, groups]
    honest = voting_table(probabilities, labels, groups, [str(number) for number in range(12)])
    leaking = voting_table(probabilities, labels, alone(400), [str(number) for number in range(12)])
    honest_loss = honest.alternatives["fitted"].log_loss
    leaking_loss = leaking.alternatives["fitted"].log_loss
    assert honest_loss is not None
    assert leaking_loss is not None
    assert leaking_loss < np.log(2) - 0.02 < honest_loss


def test_photos_of_one_group_leave_nothing_to_judge_weights_on() -> None:
    probabilities, labels = members([2.0, 1.0], photos=3)
    table = voting_table(probabilities, labels, np.zeros(3, dtype=np.int64), ["a", "b"])
    assert table.choice == "uniform"
    assert table.alternatives["uniform"].weights == (0.5, 0.5)
    assert table.alternatives["uniform"].accuracy is None
    assert "too few" in table.reason


def test_without_held_out_photos_the_vote_is_uniform_and_no_figure_is_claimed() -> None:
    table = unvalidated_table(4)
    assert table.choice == "uniform"
    assert list(table.alternatives) == ["uniform"]
    uniform = table.alternatives["uniform"]
    assert (uniform.weights, uniform.temperature) == ((0.25,) * 4, 1.0)
    assert uniform.accuracy is None
    assert uniform.log_loss is None
    assert table.best_single is None


def rare_class(photos: int = 400, seed: int = 0) -> tuple[Floats, Integers]:
    """A rare class that one member sees and others, who are surer, do not."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(photos) < 0.15).astype(np.int64)
    truth = np.eye(2)[labels]
    sees = softmax(1.2 * truth + 0.3 * generator.normal(size=(photos, 2)))
    blind = np.tile([0.93, 0.07], (photos, 1)) + 0.02 * generator.random((photos, 1)) * [1, -1]
    return np.stack([sees, blind, blind]), labels


@pytest.mark.parametrize("name", ["macro-f1", "balanced-accuracy", "kappa"])
def test_weights_for_a_metric_are_found_by_that_metric(name: str) -> None:
    probabilities, labels = rare_class()
    metric = METRICS[name]
    groups = alone(len(labels))
    table = voting_table(
        probabilities, labels, groups, ["a", "b", "c"], metric=metric, ordered=True
    )
    assert table.metric == name
    selected, uniform = table.alternatives["selected"], table.alternatives["uniform"]
    assert selected.value is not None
    assert uniform.value is not None
    assert selected.value > uniform.value + 0.2
    assert table.choice in ("selected", "fitted")
    assert f"cross-fitted {metric.title} of uniform ones by +" in table.reason
    # The figure is that of the answers by weights found without each photo.
    fitted = cross_fitting("selected", probabilities, labels, groups, metric=metric)
    judged = Answers.of(fitted.judge(probabilities), labels, ordered=True)
    assert measure(metric, judged) == pytest.approx(selected.value)


def test_selected_weights_are_the_best_votes_one_after_another() -> None:
    probabilities, labels = rare_class(120)
    metric = METRICS["macro-f1"]
    weights = selected_weights(probabilities, labels, metric)
    assert weights.sum() == pytest.approx(1)
    found = measure(metric, Answers.of(np.tensordot(weights, probabilities, 1), labels))
    singles = [measure(metric, Answers.of(each, labels)) for each in probabilities]
    assert found is not None
    assert found >= max(value for value in singles if value is not None)


def test_accuracy_and_auc_choose_too_and_noise_is_not_chosen() -> None:
    probabilities, labels = members([2.0, 2.0, 2.0], photos=150, seed=3)
    for name in ("accuracy", "auc", "macro-f1"):
        table = voting_table(
            probabilities, labels, alone(150), ["a", "b", "c"], metric=METRICS[name]
        )
        assert table.choice == "uniform"
        assert ("selected" in table.alternatives) is (name != "auc")
        assert table.alternatives["uniform"].value == pytest.approx(
            measure(METRICS[name], judged_uniformly(probabilities, labels))
        )


def judged_uniformly(probabilities: Floats, labels: Integers) -> Answers:
    fitted = cross_fitting("uniform", probabilities, labels, alone(len(labels)))
    return Answers.of(fitted.judge(probabilities), labels)
