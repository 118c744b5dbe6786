"""How good answers are: the metrics by name, and all figures of one classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import UsageError, suggestion
from toolkit.intervals import Interval, Labels, wilson_interval

Probabilities = NDArray[np.floating]

SMALLEST_PROBABILITY = 1e-7
"""Probabilities are clipped to this before a logarithm, as Keras does."""

LEAST_PHOTOS, LEAST_COVERED = 30, 0.5
"""Fewer photos, or a smaller share of the classes among them, cannot carry a figure."""


@dataclass(frozen=True)
class Metric:
    """A figure that answers are judged by.

    Attributes:
        name: As options and messages call it.
        title: As tables call it.
        larger_is_better: Its direction.
        is_share: Whether it is a share from 0 to 1, printed as a percentage.
        needs_probabilities: Whether labels alone cannot be scored.
    """

    name: str
    title: str
    larger_is_better: bool = True
    is_share: bool = False
    needs_probabilities: bool = False

    @property
    def key(self) -> str:
        """Its name as an attribute of `Score`."""
        return self.name.replace("-", "_")

    def better(self, value: float, than: float) -> bool:
        """Return whether one value is better than another; equal ones are not."""
        return value > than if self.larger_is_better else value < than

    def gain(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values so that larger ones are better."""
        return values if self.larger_is_better else -values


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "accuracy", is_share=True),
        Metric("log-loss", "log-loss", larger_is_better=False, needs_probabilities=True),
        Metric("macro-f1", "macro-F1"),
        Metric("balanced-accuracy", "balanced accuracy", is_share=True),
        Metric("auc", "AUC", needs_probabilities=True),
        Metric("kappa", "quadratic kappa"),
    )
}
"""By name. Values and edge cases are scikit-learn's."""


def find_metric(name: str) -> Metric:
    """Return the metric of a name.

    Raises:
        UsageError: There is none.
    """
    if name not in METRICS:
        raise UsageError.of("metric", name, suggestion(name, METRICS))
    return METRICS[name]


@dataclass(frozen=True)
class Answers:
    """What a classifier said of labelled photos.

    Attributes:
        labels: Shape (photos,), the true class indices.
        predicted: Shape (photos,), class indices.
        probabilities: Shape (photos, classes), rows summing to 1; None where only labels are known.
        ordered: Whether the classes stand in an order that means something, as grades do.
    """

    labels: Labels
    predicted: Labels
    probabilities: Probabilities | None = None
    ordered: bool = False

    @classmethod
    def of(cls, probabilities: Probabilities, labels: Labels, *, ordered: bool = False) -> Answers:
        """Take the most probable class of each row for the answer."""
        return cls(labels, probabilities.argmax(axis=1), probabilities, ordered)


@dataclass(frozen=True)
class Score:
    """The figures of one classifier on one set of labelled photos.

    A figure is None where it is undefined: without probabilities, with too few classes among the
    photos, or, for kappa, where the classes have no order.

    Attributes:
        photos: Number of photos.
        accuracy: Share of right labels, 0 to 1.
        interval: 95 % Wilson interval of the accuracy.
        log_loss: Mean negative log-likelihood in nats.
        calibration_error: Expected calibration error, 15 equal-width bins, 0 to 1.
        macro_f1: Mean F1 of the classes that are among the labels or the answers.
        balanced_accuracy: Mean recall of the classes that are among the labels, 0 to 1.
        auc: Area under the ROC curve: of two classes that of the second, else the mean of each
            class against the rest, over the classes that are among the labels.
        kappa: Cohen's kappa with quadratic weights, of ordered classes.
        classes: Number of classes.
        covered: Classes that are among the labels.
    """

    photos: int
    accuracy: float
    interval: Interval
    log_loss: float | None
    calibration_error: float | None
    macro_f1: float | None = None
    balanced_accuracy: float | None = None
    auc: float | None = None
    kappa: float | None = None
    classes: int = 0
    covered: int = 0

    @property
    def doubt(self) -> str:
        """Why the photos cannot carry these figures; empty where they can."""
        return doubt(self.photos, self.covered, self.classes)


def doubt(photos: int, covered: int, classes: int) -> str:
    """Say why so many photos of so many classes cannot carry a figure; empty where they can."""
    if photos < LEAST_PHOTOS:
        return f"only {photos} photos (at least {LEAST_PHOTOS} are needed)"
    if covered < LEAST_COVERED * classes:
        return f"only {covered} of {classes} classes are among the {photos} photos"
    return ""


def score(probabilities: Probabilities, labels: Labels, *, ordered: bool = False) -> Score:
    """Score probabilities against labels.

    Args:
        probabilities: Shape (photos, classes), rows summing to 1.
        labels: Shape (photos,), class indices.
        ordered: See `Answers`.

    Returns:
        All figures of `Score`.
    """
    answers = Answers.of(probabilities, labels, ordered=ordered)
    return score_answers(answers, probabilities.shape[1])


def score_answers(answers: Answers, classes: int) -> Score:
    """Score answers of so many classes; see `score`."""
    labels, probabilities = answers.labels, answers.probabilities
    right = int((answers.predicted == labels).sum())
    return Score(
        photos=len(labels),
        accuracy=right / len(labels),
        interval=wilson_interval(right, len(labels)),
        calibration_error=(
            None if probabilities is None else calibration_error(probabilities, labels)
        ),
        **{
            metric.key: measure(metric, answers)
            for metric in METRICS.values()
            if metric.name != "accuracy"
        },
        classes=classes,
        covered=len(np.unique(labels)),
    )


def measure(metric: Metric, answers: Answers) -> float | None:
    """Return a metric of answers; None where it is undefined (see `undefined`)."""
    if undefined(metric, answers):
        return None
    if metric.needs_probabilities:
        assert answers.probabilities is not None
        if metric.name == "auc":
            return _auc(answers.probabilities, answers)
        return float(log_losses(answers.probabilities, answers.labels).mean())
    return _of_labels(metric.name, answers.labels, answers.predicted)


def _of_labels(name: str, labels: Labels, predicted: Labels) -> float:
    from sklearn import metrics

    if name == "accuracy":
        return float(metrics.accuracy_score(labels, predicted))
    if name == "macro-f1":
        return float(metrics.f1_score(labels, predicted, average="macro", zero_division=0.0))
    if name == "kappa":
        return float(metrics.cohen_kappa_score(labels, predicted, weights="quadratic"))
    # `balanced_accuracy_score` is this, and warns of answers that no label has.
    true = np.unique(labels)
    return float(metrics.recall_score(labels, predicted, labels=true, average="macro"))


def _auc(probabilities: Probabilities, answers: Answers) -> float:
    from sklearn.metrics import roc_auc_score

    areas = [
        roc_auc_score(answers.labels == index, probabilities[:, index])
        for index in judged_classes(answers)
    ]
    return float(np.mean(areas))


def undefined(metric: Metric, answers: Answers) -> str:
    """Say why a metric of these answers has no value; empty where it has one."""
    if metric.needs_probabilities and answers.probabilities is None:
        return f"{metric.title} needs probabilities, and only labels are given"
    if metric.name == "auc" and len(np.unique(answers.labels)) < 2:
        return "AUC needs photos of at least two classes"
    if metric.name == "kappa":
        if not answers.ordered:
            return "kappa needs classes in an order, and their names are not all numbers"
        if len(np.unique([*answers.labels, *answers.predicted])) < 2:
            return "kappa is undefined where all labels and answers are the same class"
    return ""


def judged_classes(answers: Answers) -> list[int]:
    """Return the classes whose ROC curves count: of two the second, else those with a photo."""
    assert answers.probabilities is not None
    if answers.probabilities.shape[1] == 2:
        return [1]
    return [int(index) for index in np.unique(answers.labels)]


def have_order(classes: Sequence[str]) -> bool:
    """Return whether class names are rising numbers, as grades are."""
    try:
        values = [float(name) for name in classes]
    except ValueError:
        return False
    return all(map(math.isfinite, values)) and values == sorted(set(values))


def log_losses(probabilities: Probabilities, labels: Labels) -> NDArray[np.float64]:
    """Return each photo's negative log-likelihood in nats, shape (photos,)."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.clip(chosen, SMALLEST_PROBABILITY, 1.0))


def calibration_error(probabilities: Probabilities, labels: Labels, bins: int = 15) -> float:
    """Return the expected calibration error with equal-width bins (Naeini et al. 2015).

    A bin holds the confidences in (i / bins, (i + 1) / bins]; its gap between mean confidence and
    accuracy counts by its share of the photos. scikit-learn has no such figure: its
    `calibration_curve` does not tell how many photos a bin holds.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(which, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def confusion(predicted: Labels, labels: Labels, classes: int) -> NDArray[np.int64]:
    """Count photos by true class (row) and predicted class (column), shape (classes, classes)."""
    from sklearn.metrics import confusion_matrix

    counts: NDArray[np.int64] = confusion_matrix(labels, predicted, labels=np.arange(classes))
    return counts


@dataclass(frozen=True)
class ClassScore:
    """One class: its photos, and its figures, 0 to 1; one whose divisor is zero is 0."""

    photos: int
    precision: float
    recall: float
    f1: float


def class_scores(predicted: Labels, labels: Labels, classes: int) -> list[ClassScore]:
    """Return precision, recall and F1 of each class.

    Args:
        predicted: Shape (photos,), class indices.
        labels: Shape (photos,), the true ones.
        classes: Number of classes.
    """
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(classes), zero_division=0.0
    )
    return [
        ClassScore(int(photos), float(precision), float(recall), float(f1))
        for precision, recall, f1, photos in zip(*columns, strict=True)
    ]
