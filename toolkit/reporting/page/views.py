"""The section on views: which answers looking again corrected, and which it spoiled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.inference.bundle import Bundle, BundleValidation
from toolkit.inference.views import VIEWS
from toolkit.intervals import Labels, Paired, paired
from toolkit.reporting.page.album import Album
from toolkit.reporting.page.charts import Chart, views_chart
from toolkit.reporting.page.ensemble import Judged
from toolkit.reporting.page.gallery import Card, cards

SHOWN = 12


@dataclass(frozen=True)
class ViewRow:
    """One view alone, or a voter with all views, compared with the original view.

    Attributes:
        name: Of the view or the voter.
        used: Whether the ensemble looks at it.
        accuracy: Share of right answers.
        original: The same with the original view only.
        corrected: Photos that were wrong with the original view and now are right.
        spoiled: The other way round.
        p_value: Of McNemar's exact test.
    """

    name: str
    used: bool
    accuracy: float
    original: float
    corrected: int
    spoiled: int
    p_value: float


@dataclass(frozen=True)
class ViewsSection:
    """What the page says of the views.

    Attributes:
        views: Views a photo.
        voters: The ensemble and each member, with all views.
        alone: Each view by itself, looked at by the ensemble.
        corrected: Photos that the views put right.
        spoiled: Photos that they made wrong.
        corrected_count: All of them.
        spoiled_count: All of them.
        chart: Accuracy by number of views.
    """

    views: int
    voters: tuple[ViewRow, ...]
    alone: tuple[ViewRow, ...]
    corrected: tuple[Card, ...]
    spoiled: tuple[Card, ...]
    corrected_count: int
    spoiled_count: int
    chart: Chart | None


def views_section(
    bundle: Bundle, validation: BundleValidation, judged: Judged, album: Album
) -> ViewsSection:
    """Describe what the views are worth, with the same weights for one view and for all."""
    labels, ids = judged.labels, validation.ids.tolist()
    first = _seen(validation, 0)
    original = judged.fitted.mix(first).argmax(axis=1)
    final = judged.final.argmax(axis=1)
    corrected = np.flatnonzero((original != labels) & (final == labels))
    spoiled = np.flatnonzero((original == labels) & (final != labels))
    voters = [_row("ensemble", True, paired(final, original, labels))]
    for number, name in enumerate(judged.members):
        pair = _labels(judged.each[number]), _labels(first[number])
        voters.append(_row(name, True, paired(*pair, labels)))
    alone = [
        _row(
            view.name,
            number < judged.views,
            paired(judged.fitted.mix(_seen(validation, number)).argmax(axis=1), original, labels),
        )
        for number, view in enumerate(VIEWS[: validation.probabilities.shape[2]])
    ]

    def shown(chosen: NDArray[np.intp], words: Sequence[str]) -> tuple[Card, ...]:
        return cards(judged, ids, album, chosen[:SHOWN], words)

    names = bundle.names
    was = [bundle.classes[index] for index in original]
    told = [f"first {names.get(category) or category}" for category in was]
    return ViewsSection(
        views=judged.views,
        voters=tuple(voters),
        alone=tuple(alone),
        corrected=shown(corrected, [told[index] for index in corrected[:SHOWN]]),
        spoiled=shown(spoiled, [told[index] for index in spoiled[:SHOWN]]),
        corrected_count=len(corrected),
        spoiled_count=len(spoiled),
        chart=views_chart(bundle.voting, judged.views),
    )


def _row(name: str, used: bool, pair: Paired) -> ViewRow:
    now, before = pair.accuracies
    return ViewRow(name, used, now, before, pair.only_first, pair.only_second, pair.p_value)


def _seen(validation: BundleValidation, view: int) -> NDArray[np.float64]:
    """Return what the members say to one view, shape (members, photos, classes)."""
    return validation.probabilities[:, :, view].astype(np.float64)


def _labels(probabilities: NDArray[np.float64]) -> Labels:
    labels: Labels = probabilities.argmax(axis=1)
    return labels
