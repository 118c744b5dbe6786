"""The section on the test photos: the submission against the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.data.dataset import class_order
from toolkit.intervals import wilson_interval
from toolkit.reporting.gain import Gain
from toolkit.reporting.page.figures import Mistakes, mistakes
from toolkit.reporting.page.sources import Submission


@dataclass(frozen=True)
class ScoredSection:
    """What the page says of a submission whose truth is known.

    Attributes:
        photos: That were scored.
        accuracy: Share of right answers.
        interval: 95 % of it.
        mistakes: Which classes are taken for which.
        gain: Of the bundle over its best member, where that was evaluated.
    """

    photos: int
    accuracy: float
    interval: tuple[float, float]
    mistakes: Mistakes
    gain: Gain | None


def scored_section(
    submission: Submission,
    truth: Mapping[str, str],
    classes: Sequence[str],
    names: Sequence[str],
    gain: Gain | None,
) -> ScoredSection:
    """Score a submission.

    Args:
        submission: The answers.
        truth: The true category by id; every id is answered.
        classes: Category values in class order; categories beside them are added.
        names: How they are called.
        gain: Of the bundle, on the same photos.
    """
    given = [(submission.answers[id], category) for id, category in truth.items()]
    others = class_order({category for pair in given for category in pair} - set(classes))
    place = {category: index for index, category in enumerate([*classes, *others])}
    predicted = np.array([place[answer] for answer, _ in given], dtype=np.int64)
    labels = np.array([place[category] for _, category in given], dtype=np.int64)
    right = int((predicted == labels).sum())
    return ScoredSection(
        len(labels),
        right / len(labels),
        wilson_interval(right, len(labels)),
        mistakes(predicted, labels, [*names, *others]),
        gain,
    )
