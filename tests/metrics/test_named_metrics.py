"""Metrics by name: their definitions, cases without a figure, intervals by the bootstrap."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bootstrap as scipy_bootstrap
from sklearn import metrics as reference

from toolkit.bootstrap import bootstrap, difference, estimate
from toolkit.metrics import METRICS, Answers, have_order, measure, score, undefined

Floats = NDArray[np.float64]
RESAMPLED = ("macro-f1", "balanced-accuracy", "kappa", "auc")


def answers(photos: int = 200, classes: int = 4, seed: int = 0, strength: float = 1.5) -> Answers:
    """Answers to uneven classes, right more often than not, with ties among the probabilities."""
    generator = np.random.default_rng(seed)
    labels = np.minimum(generator.geometric(0.4, photos) - 1, classes - 1)
    logits = generator.normal(size=(photos, classes)) + strength * np.eye(classes)[labels]
    powers = np.exp(np.round(logits, 1))
    return Answers.of(powers / powers.sum(axis=1, keepdims=True), labels, ordered=True)


def by_counting(name: str, given: Answers) -> float:
    """The metric from its definition, photo by photo."""
    labels, said = given.labels.tolist(), given.predicted.tolist()
    pairs = list(zip(labels, said, strict=True))
    if name == "accuracy":
        return sum(true == guess for true, guess in pairs) / len(pairs)
    if name == "log-loss":
        assert given.probabilities is not None
        rows = zip(given.probabilities, labels, strict=True)
        return -sum(math.log(row[true]) for row, true in rows) / len(pairs)
    if name == "kappa":
        observed = sum((true - guess) ** 2 for true, guess in pairs) / len(pairs)
        chance = sum((true - guess) ** 2 for true in labels for guess in said) / len(pairs) ** 2
        return 1 - observed / chance
    recalls, f1s = [], []
    for category in sorted({*labels, *said}):
        hits = pairs.count((category, category))
        true, guessed = labels.count(category), said.count(category)
        f1s.append(2 * hits / (true + guessed))
        if true:
            recalls.append(hits / true)
    return float(np.mean(f1s if name == "macro-f1" else recalls))


def auc_by_pairs(given: Answers) -> float:
    """The share of pairs of photos that each class's probability puts in the right order."""
    assert given.probabilities is not None
    areas = []
    classes = [1] if given.probabilities.shape[1] == 2 else sorted(set(given.labels.tolist()))
    for category in classes:
        column = given.probabilities[:, category]
        above, below = column[given.labels == category], column[given.labels != category]
        wins = [(a > b) + (a == b) / 2 for a in above for b in below]
        areas.append(np.mean(wins))
    return float(np.mean(areas))


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_what_its_definition_says(name: str, classes: int) -> None:
    given = answers(classes=classes)
    expected = auc_by_pairs(given) if name == "auc" else by_counting(name, given)
    assert measure(METRICS[name], given) == pytest.approx(expected, rel=1e-12)


def test_a_score_holds_every_metric_and_what_it_was_measured_on() -> None:
    given = answers(classes=5)
    assert given.probabilities is not None
    found = score(given.probabilities, given.labels, ordered=True)
    for metric in METRICS.values():
        assert getattr(found, metric.key) == pytest.approx(measure(metric, given))
    assert (found.classes, found.covered) == (5, len(set(given.labels.tolist())))


def without_class(given: Answers, category: int) -> Answers:
    kept = given.labels != category
    assert given.probabilities is not None
    return Answers.of(given.probabilities[kept], given.labels[kept], ordered=True)


@pytest.mark.parametrize("name", METRICS)
def test_a_class_without_a_photo_leaves_a_figure(name: str) -> None:
    given = without_class(answers(), 2)
    expected = auc_by_pairs(given) if name == "auc" else by_counting(name, given)
    assert measure(METRICS[name], given) == pytest.approx(expected)
    found = estimate(METRICS[name], given)
    assert found.interval is not None
    assert found.interval[0] < expected < found.interval[1]


@pytest.mark.parametrize("name", METRICS)
def test_one_class_said_of_all_photos_leaves_a_figure(name: str) -> None:
    labels = np.array([0] * 30 + [1] * 10)
    given = Answers.of(np.tile([0.75, 0.25], (40, 1)), labels, ordered=True)
    expected = {"accuracy": 0.75, "macro-f1": (2 * 30 / 70) / 2, "balanced-accuracy": 0.5}
    value = measure(METRICS[name], given)
    assert value == pytest.approx({**expected, "auc": 0.5, "kappa": 0}.get(name, value))
    assert value is not None and math.isfinite(value)
    assert (interval := estimate(METRICS[name], given).interval) and np.isfinite(interval).all()


def undefined_cases() -> Iterator[tuple[str, Answers, str]]:
    only = np.zeros(20, dtype=np.int64)
    certain = np.tile([0.9, 0.1], (20, 1))
    yield "auc", Answers.of(certain, only), "at least two classes"
    yield "kappa", Answers.of(certain, only, ordered=True), "the same class"
    yield "kappa", dataclasses.replace(answers(), ordered=False), "not all numbers"
    for name in ("auc", "log-loss"):
        yield name, dataclasses.replace(answers(), probabilities=None), "needs probabilities"


@pytest.mark.parametrize(("name", "given", "reason"), list(undefined_cases()))
def test_what_has_no_value_says_why_and_is_never_nan(
    name: str, given: Answers, reason: str
) -> None:
    assert measure(METRICS[name], given) is None
    assert reason in undefined(METRICS[name], given)
    found = estimate(METRICS[name], given)
    assert (found.value, found.interval) == (None, None)
    assert reason in found.how


@pytest.mark.parametrize(
    ("classes", "order"),
    [
        (("0", "1", "2"), True),
        (("2", "10"), True),
        (("-1.5", "0", "1e3"), True),
        (("10", "2"), False),
        (("1", "1.0"), False),
        (("nan", "1"), False),
        (("low", "high"), False),
    ],
)
def test_only_rising_numbers_are_an_order(classes: tuple[str, ...], order: bool) -> None:
    assert have_order(classes) is order


def sampled(given: Answers, chosen: NDArray[np.integer]) -> Answers:
    assert given.probabilities is not None
    return Answers.of(given.probabilities[chosen], given.labels[chosen], ordered=True)


@pytest.mark.parametrize("name", RESAMPLED)
def test_a_bootstrap_sample_is_scored_as_scikit_learn_scores_its_photos(name: str) -> None:
    given = answers(photos=60)
    metric = METRICS[name]
    found = bootstrap(metric, [given], resamples=400, seed=3)[0]
    generator = np.random.default_rng(4)
    values = [
        value
        for _ in range(400)
        if (value := measure(metric, sampled(given, generator.integers(0, 60, 60)))) is not None
    ]
    assert found.mean() == pytest.approx(np.mean(values), abs=4 * np.std(values) / math.sqrt(200))
    assert found.std() == pytest.approx(np.std(values), rel=0.2)


def test_counts_of_photos_are_scikit_learns_weights() -> None:
    given = answers(photos=80)
    assert given.probabilities is not None
    from toolkit.bootstrap import _auc, label_values

    counts = np.random.default_rng(5).poisson(1.0, (3, 80)).astype(float)
    found = _auc(given.probabilities, given.labels, [0, 1, 2], counts)
    for row, weights in zip(found, counts, strict=True):
        expected = [
            reference.roc_auc_score(
                given.labels == index, given.probabilities[:, index], sample_weight=weights
            )
            for index in (0, 1, 2)
        ]
        assert row == pytest.approx(np.mean(expected))
    for name, function in {
        "macro-f1": lambda w: reference.f1_score(
            given.labels, given.predicted, average="macro", sample_weight=w
        ),
        "kappa": lambda w: reference.cohen_kappa_score(
            given.labels, given.predicted, weights="quadratic", sample_weight=w
        ),
        "balanced-accuracy": lambda w: reference.balanced_accuracy_score(
            given.labels, given.predicted, sample_weight=w
        ),
    }.items():
        values = label_values(name, given.labels, given.predicted, counts)
        assert values == pytest.approx([function(weights) for weights in counts])


@pytest.mark.parametrize("name", ["macro-f1", "kappa"])
def test_an_interval_is_scipys_percentile_bootstrap(name: str) -> None:
    given = answers(photos=150)
    found = estimate(METRICS[name], given)
    expected = scipy_bootstrap(
        (given.labels, given.predicted),
        lambda labels, said: measure(METRICS[name], Answers(labels, said, ordered=True)),
        paired=True,
        vectorized=False,
        n_resamples=600,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert found.interval == pytest.approx((expected.low, expected.high), abs=0.02)
    assert found.how == "bootstrap, 1000 resamples of 150 photos"
    assert estimate(METRICS[name], given) == found


@pytest.mark.parametrize("name", METRICS)
def test_a_classifier_does_not_differ_from_itself_and_beats_a_worse_one(name: str) -> None:
    better, worse = answers(strength=3), answers(strength=0.5)
    np.testing.assert_array_equal(better.labels, worse.labels)
    metric = METRICS[name]
    same = difference(metric, better, better)
    assert (same.mean, same.interval) == (0, (0, 0))
    found = difference(metric, better, worse)
    assert found.interval is not None
    low, high = sorted(metric.gain(np.array(found.interval)).tolist())
    assert 0 < low <= metric.gain(np.array([found.mean]))[0] <= high


def test_an_area_of_many_photos_and_classes_is_resampled_less_often_and_it_is_said() -> None:
    labels = np.arange(2500) % 1000
    probabilities = np.full((2500, 1000), 0.5 / 1000)
    probabilities[np.arange(2500), labels] += 0.5
    found = estimate(METRICS["auc"], Answers.of(probabilities, labels))
    assert found.value == 1
    assert found.how == "bootstrap, 100 resamples of 2500 photos"


@pytest.mark.parametrize(
    ("photos", "covered", "classes", "said"),
    [
        (60, 1, 1001, "only 1 of 1001 classes are among the 60 photos"),
        (12, 10, 10, "only 12 photos"),
        (300, 6, 10, ""),
    ],
)
def test_photos_that_cannot_carry_a_figure_are_doubted(
    photos: int, covered: int, classes: int, said: str
) -> None:
    labels = np.arange(photos) % covered
    found = score(np.full((photos, classes), 1 / classes), labels)
    assert said in found.doubt
    assert bool(found.doubt) is bool(said)


def test_the_option_offers_every_metric() -> None:
    from toolkit.cli import options
    from toolkit.training.recipe import WholeMetric

    assert tuple(METRICS) == options.METRICS
    watched = {f"val_{metric.key}" for metric in METRICS.values()} - {"val_accuracy"}
    assert set(get_args(WholeMetric)) == watched
