"""Figures against their definitions, computed the slow way."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import entropy, ttest_rel

from toolkit.intervals import (
    Agreement,
    Paired,
    agreement,
    difference_interval,
    mean_difference,
    mean_interval,
    paired,
    wilson_interval,
)
from toolkit.metrics import (
    ClassScore,
    calibration_error,
    class_scores,
    confusion,
    log_losses,
    score,
)


def some_probabilities(photos: int, classes: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.5), photos)


def wilson_by_the_textbook(right: int, photos: int, z: float) -> tuple[float, float]:
    share = right / photos
    centre = share + z * z / (2 * photos)
    half = z * math.sqrt(share * (1 - share) / photos + z * z / (4 * photos * photos))
    return (centre - half) / (1 + z * z / photos), (centre + half) / (1 + z * z / photos)


@pytest.mark.parametrize(("right", "photos"), [(0, 10), (7, 10), (10, 10), (1, 1), (1180, 1519)])
def test_interval_is_wilsons(right: int, photos: int) -> None:
    expected = wilson_by_the_textbook(right, photos, z=1.959963984540054)
    assert wilson_interval(right, photos) == pytest.approx(expected, abs=1e-12)


def test_interval_has_the_published_value() -> None:
    # Newcombe (1998), table I: 81 of 263.
    low, high = wilson_interval(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_interval_widens_with_the_confidence() -> None:
    expected = wilson_by_the_textbook(7, 10, z=2.5758293035489004)
    assert wilson_interval(7, 10, confidence=0.99) == pytest.approx(expected, abs=1e-12)


def test_log_losses_are_cross_entropies_with_the_true_class() -> None:
    probabilities = some_probabilities(50, 4)
    labels = np.random.default_rng(1).integers(0, 4, 50)
    # The Kullback-Leibler divergence of a one-hot distribution is its log-loss.
    expected = [
        entropy(np.eye(4)[label], row) for row, label in zip(probabilities, labels, strict=True)
    ]
    np.testing.assert_allclose(log_losses(probabilities, labels), expected, rtol=1e-12)


def test_log_loss_of_a_wrong_certainty_is_large_but_finite() -> None:
    losses = log_losses(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1, 1]))
    assert losses[0] == pytest.approx(-math.log(1e-7))
    assert losses[1] == 0


def test_log_losses_of_single_precision_are_computed_in_double() -> None:
    losses = log_losses(np.array([[0.3, 0.7]], dtype=np.float32), np.array([0]))
    assert losses.dtype == np.float64
    assert losses[0] == -math.log(float(np.float32(0.3)))


def calibration_error_by_the_definition(
    confidences: list[float], right: list[bool], bins: int
) -> float:
    total = Fraction(0)
    for index in range(bins):
        inside = [
            (Fraction(confidence), hit)
            for confidence, hit in zip(confidences, right, strict=True)
            if index / bins < confidence <= (index + 1) / bins
        ]
        if inside:
            accuracy = Fraction(sum(hit for _, hit in inside), len(inside))
            mean = sum((confidence for confidence, _ in inside), Fraction(0)) / len(inside)
            total += Fraction(len(inside), len(confidences)) * abs(accuracy - mean)
    return float(total)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_is_that_of_its_definition(bins: int) -> None:
    probabilities = some_probabilities(200, 3)
    labels = np.random.default_rng(2).integers(0, 3, 200)
    expected = calibration_error_by_the_definition(
        probabilities.max(axis=1).tolist(),
        (probabilities.argmax(axis=1) == labels).tolist(),
        bins,
    )
    assert calibration_error(probabilities, labels, bins) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("bins", [10, 15])
def test_a_confidence_on_the_edge_of_two_bins_belongs_to_the_lower_one(bins: int) -> None:
    # A right and a wrong photo a bin: one in the wrong bin would change the sum.
    edges = [step / bins for step in range(bins // 2 + 1, bins + 1)]
    inside = [edge - 0.4 / bins for edge in edges]
    confidences = edges + inside
    labels = np.array([0] * len(edges) + [1] * len(inside))
    probabilities = np.array([[confidence, 1 - confidence] for confidence in confidences])
    right = (labels == 0).tolist()
    expected = calibration_error_by_the_definition(confidences, right, bins)
    assert calibration_error(probabilities, labels, bins) == pytest.approx(expected, abs=1e-12)


def test_perfect_and_worst_calibration() -> None:
    certain = np.tile([1.0, 0.0], (4, 1))
    assert calibration_error(certain, np.zeros(4, dtype=int)) == 0
    assert calibration_error(certain, np.ones(4, dtype=int)) == 1


def test_confusion_has_the_true_classes_as_rows() -> None:
    generator = np.random.default_rng(3)
    labels, predicted = generator.integers(0, 5, 300), generator.integers(0, 4, 300)
    counts = confusion(predicted, labels, 5)
    for row in range(5):
        for column in range(5):
            expected = sum(
                label == row and guess == column
                for label, guess in zip(labels, predicted, strict=True)
            )
            assert counts[row, column] == expected
    assert counts[:, 4].sum() == 0 < counts[4].sum()


def test_class_scores_count_photo_by_photo() -> None:
    generator = np.random.default_rng(4)
    labels = generator.integers(0, 3, 100)
    predicted = np.where(generator.random(100) < 0.6, labels, generator.integers(0, 3, 100))
    table = class_scores(predicted, labels, 3)
    for category, row in enumerate(table):
        pairs = [(t == category, p == category) for t, p in zip(labels, predicted, strict=True)]
        hits, misses = pairs.count((True, True)), pairs.count((True, False))
        false_alarms = pairs.count((False, True))
        precision, recall = hits / (hits + false_alarms), hits / (hits + misses)
        assert row.photos == hits + misses
        assert row.precision == pytest.approx(precision)
        assert row.recall == pytest.approx(recall)
        assert row.f1 == pytest.approx(2 * precision * recall / (precision + recall))


def test_class_without_photos_or_predictions_has_zeros_and_no_warning() -> None:
    table = class_scores(np.array([0, 0]), np.array([0, 1]), 3)
    assert table[1] == ClassScore(photos=1, precision=0.0, recall=0.0, f1=0.0)
    assert table[2] == ClassScore(photos=0, precision=0.0, recall=0.0, f1=0.0)


def test_score_holds_all_figures_of_the_same_photos() -> None:
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.1, 0.9]])
    labels = np.array([0, 1, 1, 1])
    found = score(probabilities, labels)
    assert (found.photos, found.accuracy) == (4, 0.75)
    assert found.interval == pytest.approx(wilson_by_the_textbook(3, 4, 1.959963984540054))
    expected = -np.log([0.8, 0.4, 0.7, 0.9]).mean()
    assert found.log_loss == pytest.approx(expected)
    # Each photo has a bin of its own.
    assert found.calibration_error == pytest.approx((0.2 + 0.6 + 0.3 + 0.1) / 4)


def answers_with(only_first: int, only_second: int, both_right: int, both_wrong: int) -> Paired:
    """Compare two classifiers that are right and wrong so often; class 0 is right."""
    first = [0] * only_first + [1] * only_second + [0] * both_right + [1] * both_wrong
    second = [1] * only_first + [0] * only_second + [0] * both_right + [1] * both_wrong
    return paired(np.array(first), np.array(second), np.zeros(len(first), dtype=int))


def mcnemar_by_counting(only_first: int, only_second: int) -> float:
    """Both tails of a fair coin's tosses: as uneven as these, or more so."""
    flips, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(flips, heads) for heads in range(fewer + 1))
    return float(min(Fraction(2 * tail, 2**flips), Fraction(1)))


@pytest.mark.parametrize(
    ("only_first", "only_second"), [(0, 0), (1, 0), (0, 5), (3, 3), (4, 3), (12, 26), (59, 6)]
)
def test_the_p_value_is_that_of_the_exact_mcnemar_test(only_first: int, only_second: int) -> None:
    expected = pytest.approx(mcnemar_by_counting(only_first, only_second), rel=1e-9)
    assert answers_with(only_first, only_second, 100, 20).p_value == expected
    assert answers_with(only_second, only_first, 100, 20).p_value == expected


@pytest.mark.parametrize(("flips", "p_value"), [((10, 0), 2 / 1024), ((1, 9), 22 / 1024)])
def test_the_p_value_of_ten_flips_by_hand(flips: tuple[int, int], p_value: float) -> None:
    assert answers_with(*flips, 5, 5).p_value == pytest.approx(p_value, rel=1e-12)


def test_photos_where_both_are_right_or_wrong_do_not_change_the_p_value() -> None:
    assert answers_with(12, 26, 0, 0).p_value == answers_with(12, 26, 5000, 300).p_value


@pytest.mark.parametrize("flips", [(0, 0), (1, 0), (0, 7), (40, 22), (3, 180)])
def test_the_interval_of_a_difference_adds_half_a_photo_to_each_cell(
    flips: tuple[int, int],
) -> None:
    both_right, both_wrong = 900, 60
    found = answers_with(*flips, both_right, both_wrong).difference_interval
    weights = np.array([*flips, both_right, both_wrong]) + 0.5
    values = np.array([1, -1, 0, 0])
    mean = np.average(values, weights=weights)
    error = math.sqrt(np.average((values - mean) ** 2, weights=weights) / weights.sum())
    assert found == pytest.approx(
        (mean - 1.959963984540054 * error, mean + 1.959963984540054 * error)
    )
    low, high = answers_with(*flips[::-1], both_right, both_wrong).difference_interval
    assert (-high, -low) == pytest.approx(found)


def test_the_interval_of_a_difference_holds_it_about_as_often_as_it_says() -> None:
    drawn = np.random.default_rng(3).multinomial(200, [0.06, 0.02, 0.8, 0.12], size=2000)
    held = [
        low <= 0.04 <= high
        for low, high in (difference_interval(row[0], row[1], 200) for row in drawn)
    ]
    assert 0.935 < np.mean(held) < 0.975


def test_paired_counts_photo_by_photo() -> None:
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 4, 500)
    first, second = (
        np.where(generator.random(500) < share, labels, generator.integers(0, 4, 500))
        for share in (0.7, 0.6)
    )
    found = paired(first, second, labels)
    rows = list(zip(first, second, labels, strict=True))
    right = [sum(f == true for f, _, true in rows), sum(s == true for _, s, true in rows)]
    assert found.accuracies == (right[0] / 500, right[1] / 500)
    assert found.difference == pytest.approx(found.accuracies[0] - found.accuracies[1])
    assert found.only_first == sum(f == true != s for f, s, true in rows)
    assert found.only_second == sum(s == true != f for f, s, true in rows)
    assert found.both_wrong == sum(len({f, s, true}) == 3 for f, s, true in rows) > 0
    for count, interval in zip(right, found.intervals, strict=True):
        assert interval == pytest.approx(wilson_by_the_textbook(count, 500, 1.959963984540054))
    differing = found.only_first + found.only_second + found.both_wrong
    assert agreement(first, second) == Agreement(500, differing)
    assert agreement(first, second).equal == pytest.approx(np.mean(first == second))


def test_a_mean_difference_is_tested_as_pairs() -> None:
    generator = np.random.default_rng(1)
    first = generator.gamma(1, 1, 90)
    second = first + generator.normal(0.1, 0.4, 90)
    found, expected = mean_difference(first, second), ttest_rel(first, second)
    bounds = expected.confidence_interval(0.95)
    assert found.mean == pytest.approx(np.mean(first) - np.mean(second))
    assert found.interval == pytest.approx((bounds.low, bounds.high))
    assert found.p_value == pytest.approx(expected.pvalue)


def test_a_difference_without_spread_needs_no_test() -> None:
    same = np.array([0.5, 0.25, 1.0])
    assert mean_difference(same, same).p_value == 1
    assert mean_difference(same + 1, same).p_value == 0
    assert mean_difference(same[:1], same[1:2]).interval is None
    assert mean_difference(same[:1], same[1:2]).p_value is None
    assert mean_interval(same[:1]) is None
