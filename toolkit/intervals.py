"""How sure figures are: intervals, and pairs of classifiers on the same photos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Agreement:
    """How often two classifiers say the same of the same photos, right or wrong.

    Attributes:
        photos: Number of photos.
        differing: Photos with different labels.
    """

    photos: int
    differing: int

    @property
    def equal(self) -> float:
        """Share of photos with equal labels, 0 to 1."""
        return 1 - self.differing / self.photos


@dataclass(frozen=True)
class Paired:
    """Two classifiers on the same labelled photos.

    The three counts are all the photos with different labels.

    Attributes:
        accuracies: Share of right labels of the first and of the second, 0 to 1.
        intervals: 95 % Wilson interval of each accuracy.
        difference: The first accuracy less the second; 0.01 is one point.
        difference_interval: 95 % interval of it (`difference_interval`).
        only_first: Photos that the first has right and the second wrong.
        only_second: Photos that the second has right and the first wrong.
        both_wrong: Photos that both have wrong, with different labels.
        p_value: Of McNemar's test, exact and two-sided: how likely flips as uneven as these, or
            more so, are between classifiers that are equally good.
    """

    accuracies: tuple[float, float]
    intervals: tuple[tuple[float, float], tuple[float, float]]
    difference: float
    difference_interval: Interval
    only_first: int
    only_second: int
    both_wrong: int
    p_value: float


@dataclass(frozen=True)
class Difference:
    """The difference of a figure between two classifiers on the same photos.

    Attributes:
        mean: The first less the second.
        interval: 95 %: the t interval of a mean, or by the bootstrap; None where one photo alone
            tells nothing of the spread.
        p_value: Of the paired t test, two-sided; None likewise, and for a bootstrap.
    """

    mean: float
    interval: Interval | None
    p_value: float | None


def agreement(first: Labels, second: Labels) -> Agreement:
    """Compare the labels that two classifiers give the same photos, each of shape (photos,)."""
    return Agreement(photos=len(first), differing=int((first != second).sum()))


def paired(first: Labels, second: Labels, labels: Labels) -> Paired:
    """Compare two classifiers photo by photo.

    The photos are the same, so the accuracies are not independent and overlapping intervals say
    little. What tells the classifiers apart is the photos that only one of them has right: between
    equals each is a toss of a fair coin (McNemar 1947; exact, by the binomial distribution).

    Args:
        first: Shape (photos,), class indices that the first predicts.
        second: The same of the second.
        labels: Shape (photos,), the true class indices.

    Returns:
        All figures of `Paired`. Without any flip `p_value` is 1.
    """
    from scipy.stats import binomtest

    first_right, second_right = first == labels, second == labels
    photos = len(labels)
    right = int(first_right.sum()), int(second_right.sum())
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    flips = only_first + only_second
    return Paired(
        accuracies=(right[0] / photos, right[1] / photos),
        intervals=(wilson_interval(right[0], photos), wilson_interval(right[1], photos)),
        difference=(right[0] - right[1]) / photos,
        difference_interval=difference_interval(only_first, only_second, photos),
        only_first=only_first,
        only_second=only_second,
        both_wrong=int((~first_right & ~second_right & (first != second)).sum()),
        p_value=float(binomtest(only_first, flips).pvalue) if flips else 1.0,
    )


def difference_interval(
    only_first: int, only_second: int, photos: int, confidence: float = 0.95
) -> Interval:
    """Return the interval of the difference of two accuracies on the same photos.

    The adjusted Wald interval of Agresti and Min (2005): half a photo is added to each of the four
    cells of right and wrong, so that it keeps its coverage where few photos flip, or none.

    Args:
        only_first: Photos that the first has right and the second wrong.
        only_second: Photos that the second has right and the first wrong.
        photos: All photos.
        confidence: Between 0 and 1.
    """
    from scipy.stats import norm

    total, flips = photos + 2, only_first + only_second + 1
    mean = (only_first - only_second) / total
    error = float(np.sqrt((flips / total - mean**2) / total))
    away = float(norm.ppf((1 + confidence) / 2)) * error
    return max(mean - away, -1.0), min(mean + away, 1.0)


def wilson_interval(right: int, photos: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a share (Wilson 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(right, photos).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mean_interval(values: NDArray[np.floating], confidence: float = 0.95) -> Interval | None:
    """Return the t interval of a mean over photos, of shape (photos,); None for a single one."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    mean, error = float(values.mean()), _standard_error(values)
    away = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return mean - away, mean + away


def mean_difference(first: NDArray[np.floating], second: NDArray[np.floating]) -> Difference:
    """Compare two figures of the same photos, such as their log-losses, photo by photo.

    Args:
        first: Shape (photos,).
        second: Shape (photos,), of the same photos in the same order.

    Returns:
        The first less the second. Where all differences are equal there is no spread to test with:
        `p_value` is 1 where they are zero, and 0 else.
    """
    from scipy.stats import t

    differences = first - second
    mean, interval = float(differences.mean()), mean_interval(differences)
    if interval is None:
        return Difference(mean, None, None)
    error = _standard_error(differences)
    if error == 0:
        return Difference(mean, interval, 0.0 if mean else 1.0)
    p_value = 2 * float(t.sf(abs(mean) / error, len(differences) - 1))
    return Difference(mean, interval, p_value)


def _standard_error(values: NDArray[np.floating]) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))
