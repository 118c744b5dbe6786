"""Any metric with an interval, and its difference between classifiers, by the bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.intervals import (
    Difference,
    Interval,
    Labels,
    mean_difference,
    mean_interval,
    wilson_interval,
)
from toolkit.metrics import Answers, Metric, judged_classes, log_losses, measure, undefined

RESAMPLES, FEWEST_RESAMPLES = 1000, 100
"""Bootstrap samples, and how few they become where a sample takes long."""

_WORK = 2e8
"""Ranks that a bootstrap of AUC may add up, which takes a few seconds."""

_RESAMPLES_OF_ERROR = 200
"""Enough for a standard error (Efron and Tibshirani 1993)."""

_BLOCK = 50
"""Bootstrap samples at a time, to bound memory."""


@dataclass(frozen=True)
class Estimate:
    """A metric with its interval.

    Attributes:
        value: None where the metric is undefined.
        interval: 95 %; None where it is unknown.
        how: How the interval was derived, with the numbers of photos and resamples; or why there
            is no value.
    """

    value: float | None
    interval: Interval | None
    how: str


def estimate(metric: Metric, answers: Answers, *, seed: int = 0) -> Estimate:
    """Measure a metric, with an interval.

    Accuracy has Wilson's interval and log-loss that of a mean. The others are resampled: the
    2.5th and 97.5th percentile over bootstrap samples of the photos (Efron 1979).

    Args:
        metric: The metric.
        answers: The answers.
        seed: Of the bootstrap.
    """
    photos = len(answers.labels)
    if reason := undefined(metric, answers):
        return Estimate(None, None, reason)
    value = measure(metric, answers)
    if metric.name == "accuracy":
        right = int((answers.predicted == answers.labels).sum())
        return Estimate(value, wilson_interval(right, photos), f"Wilson, {photos} photos")
    if metric.name == "log-loss":
        assert answers.probabilities is not None
        losses = log_losses(answers.probabilities, answers.labels)
        return Estimate(value, mean_interval(losses), f"t interval, {photos} photos")
    samples = bootstrap(metric, [answers], seed=seed)[0]
    return Estimate(value, _percentiles(samples), _said(samples, photos))


def difference(metric: Metric, first: Answers, second: Answers, *, seed: int = 0) -> Difference:
    """Compare a metric of two classifiers on the same photos in the same order.

    Accuracy and log-loss are means over photos and compared by the paired t test; the others by
    the bootstrap, both on the same samples.

    Args:
        metric: The metric; defined for both.
        first: What one says.
        second: What the other says.
        seed: Of the bootstrap.

    Returns:
        The first less the second.
    """
    if (means := _means(metric, first)) is not None:
        return mean_difference(means, np.asarray(_means(metric, second)))
    values = [measure(metric, each) for each in (first, second)]
    assert values[0] is not None and values[1] is not None
    samples = bootstrap(metric, [first, second], seed=seed)
    return Difference(values[0] - values[1], _percentiles(samples[0] - samples[1]), None)


def standard_error(metric: Metric, first: Answers, second: Answers, *, seed: int = 0) -> float:
    """Return the standard error of the difference of a metric between two classifiers.

    Args:
        metric: The metric.
        first: What one says of photos.
        second: What the other says of the same.
        seed: Of the bootstrap, which all but accuracy and log-loss need.
    """
    if (means := _means(metric, first)) is not None:
        gains = means - np.asarray(_means(metric, second))
        return float(gains.std(ddof=1) / np.sqrt(len(gains)))
    samples = bootstrap(metric, [first, second], resamples=_RESAMPLES_OF_ERROR, seed=seed)
    return float(np.nanstd(samples[0] - samples[1], ddof=1))


def bootstrap(
    metric: Metric, answers: list[Answers], *, resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Measure a metric on bootstrap samples of the photos, the same for several classifiers.

    Args:
        metric: The metric; not `log-loss`.
        answers: Of one or more classifiers on the same photos in the same order.
        resamples: How many samples; fewer, at least `FEWEST_RESAMPLES`, for AUC of many photos
            and classes.
        seed: Decides the samples.

    Returns:
        Shape (classifiers, resamples); NaN where a sample leaves the metric undefined.
    """
    generator = np.random.default_rng(seed)
    labels = answers[0].labels
    if metric.name == "auc":
        curves = [(each.probabilities, judged_classes(each)) for each in answers]
        work = len(labels) * sum(len(judged) for _, judged in curves)
        resamples = max(min(resamples, int(_WORK / work)), min(resamples, FEWEST_RESAMPLES))
        counts = _counts(np.ones(len(labels)), len(labels), resamples, generator)
        return np.stack([_auc(scores, labels, judged, counts) for scores, judged in curves])
    # What counts is how many photos have the same label and answers: few rows stand for all.
    rows = np.stack([labels, *(each.predicted for each in answers)])
    unique, photos = np.unique(rows, axis=1, return_counts=True)
    counts = _counts(photos.astype(np.float64), len(labels), resamples, generator)
    return np.stack([label_values(metric.name, unique[0], row, counts) for row in unique[1:]])


def label_values(
    name: str, labels: Labels, predicted: Labels, counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return a metric of labels for counts of photos, as in many samples at once.

    The formulas are those of scikit-learn, whose functions take one sample at a time.

    Args:
        name: A metric that needs no probabilities.
        labels: The true classes of kinds of photos, shape (kinds,).
        predicted: Their answers, shape (kinds,).
        counts: Photos of each kind in each sample, shape (samples, kinds).

    Returns:
        Shape (samples,); NaN where the metric is undefined.
    """
    if name == "accuracy":
        right: NDArray[np.float64] = counts @ (labels == predicted) / counts.sum(axis=1)
        return right
    if name == "kappa":
        return _kappa(labels, predicted, counts)
    from scipy.sparse import csr_array

    classes = int(max(labels.max(), predicted.max())) + 1

    def by_class(which: Labels, weight: NDArray[np.floating]) -> NDArray[np.float64]:
        places = np.arange(len(which)), which
        matrix = csr_array((weight, places), shape=(len(which), classes))
        return np.asarray(counts @ matrix, dtype=np.float64)

    every = np.ones(len(labels))
    hits = by_class(labels, (labels == predicted).astype(np.float64))
    true = by_class(labels, every)
    with np.errstate(invalid="ignore"):
        if name == "balanced-accuracy":
            return np.asarray(np.nanmean(hits / true, axis=1))
        return np.asarray(np.nanmean(2 * hits / (true + by_class(predicted, every)), axis=1))


def _counts(
    photos: NDArray[np.float64], total: int, resamples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return how often each kind of photo is in each sample, shape (resamples, kinds)."""
    return generator.multinomial(total, photos / total, size=resamples).astype(np.float64)


def _kappa(labels: Labels, predicted: Labels, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return quadratic kappa: 1 less the mean squared distance over that of independent pairs."""
    first, second = labels.astype(np.float64), predicted.astype(np.float64)
    total = counts.sum(axis=1)
    observed = counts @ (first - second) ** 2 / total
    moments = [counts @ column / total for column in (first, first**2, second, second**2)]
    expected = moments[1] + moments[3] - 2 * moments[0] * moments[2]
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa: NDArray[np.float64] = np.where(expected > 1e-12, 1 - observed / expected, np.nan)
    return kappa


def _auc(
    scores: NDArray[np.floating] | None,
    labels: Labels,
    judged: list[int],
    counts: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the mean AUC over classes, for counts of photos of shape (samples, photos).

    A pair of photos counts 1 where the positive one has the higher score, 1/2 where both are equal
    (Mann and Whitney 1947).
    """
    assert scores is not None
    orders, starts = [], []
    for index in judged:
        order = np.argsort(scores[:, index], kind="stable")
        ranked = scores[order, index]
        orders.append(order)
        starts.append(np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]))
    areas = np.empty((len(judged), len(counts)))
    for block in range(0, len(counts), _BLOCK):
        some = counts[block : block + _BLOCK]
        for row, (index, order, ties) in enumerate(zip(judged, orders, starts, strict=True)):
            positive = labels[order] == index
            weights = some[:, order]
            above = np.add.reduceat(weights * positive, ties, axis=1)
            below = np.add.reduceat(weights * ~positive, ties, axis=1)
            won = (above * (np.cumsum(below, axis=1) - below / 2)).sum(axis=1)
            with np.errstate(invalid="ignore"):
                areas[row, block : block + _BLOCK] = won / (above.sum(axis=1) * below.sum(axis=1))
    known = np.isfinite(areas)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = np.where(known, areas, 0).sum(axis=0) / known.sum(axis=0)
    return mean


def _means(metric: Metric, answers: Answers) -> NDArray[np.float64] | None:
    """Return what each photo adds to a metric that is a mean over photos; None for others."""
    if metric.name == "accuracy":
        return np.asarray(answers.predicted == answers.labels, dtype=np.float64)
    if metric.name == "log-loss":
        assert answers.probabilities is not None
        return log_losses(answers.probabilities, answers.labels)
    return None


def _percentiles(samples: NDArray[np.float64]) -> Interval | None:
    known = samples[np.isfinite(samples)]
    if len(known) < 2:
        return None
    low, high = np.percentile(known, (2.5, 97.5))
    return float(low), float(high)


def _said(samples: NDArray[np.float64], photos: int) -> str:
    return f"bootstrap, {int(np.isfinite(samples).sum())} resamples of {photos} photos"
