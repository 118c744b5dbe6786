"""Runs and bundles side by side: how good, how sure, at what cost.

Two submissions are compared in `toolkit.reporting.answers`, which needs no probabilities.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from toolkit.bootstrap import Estimate, difference, estimate
from toolkit.errors import ToolkitError, UsageError, argument, suggestion
from toolkit.inference.manifest import OUT_OF_FOLD
from toolkit.intervals import Difference, Interval, Paired, mean_difference, mean_interval, paired
from toolkit.metrics import METRICS, Answers, Metric, find_metric, undefined
from toolkit.progress import SILENT, Reporter
from toolkit.reporting.contenders import Contender, Cost, find_contenders, load_contenders

SORTS = ("given", "metric", "accuracy", "log-loss", "calibration", "cost")
BEST, FIRST = "best", "first"


@dataclass(frozen=True)
class Spread:
    """How far training seeds of one recipe lie apart.

    Attributes:
        deviation: Standard deviation of a sample.
        lowest: Of all seeds.
        highest: Likewise.
    """

    deviation: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Against:
    """A row against another that held out the same photos, photo by photo.

    Attributes:
        accuracy: The row's share of right labels less the other's; one of the two, or both, may be
            a mean over seeds.
        paired: The counts of McNemar's test; None where one of the two is of several seeds.
        log_loss: The row's mean log-loss less the other's.
        metric: The chosen metric's difference; None where one of the two is of several seeds, or
            it is undefined.
    """

    accuracy: Difference
    paired: Paired | None
    log_loss: Difference
    metric: Difference | None


@dataclass(frozen=True)
class Row:
    """One line of the comparison.

    Attributes:
        name: Of the run, bundle, member or group.
        kind: `run`, `bundle`, `member` or `group`.
        runs: Training seeds it is the mean of; 1 for all but a group.
        views: Views a photo that its figures are of.
        photos: Held-out photos it is scored on; None where none were held out.
        accuracy: Share of right labels, 0 to 1.
        accuracy_interval: 95 %; None for a group, whose seeds answered the same photos.
        log_loss: Mean negative log-likelihood in nats.
        log_loss_interval: Likewise.
        calibration_error: See `toolkit.metrics.Score`.
        metric: The chosen metric: of a group the mean, without an interval; None where no photos
            were held out.
        spread: By `accuracy`, `log_loss` and `calibration_error`, of a group of at least two.
        against: None for the row that others are compared with, and where other photos were held
            out.
        cost: Of a group, the means over its runs.
    """

    name: str
    kind: str
    runs: int
    views: int
    photos: int | None
    accuracy: float | None
    accuracy_interval: Interval | None
    log_loss: float | None
    log_loss_interval: Interval | None
    calibration_error: float | None
    metric: Estimate | None
    spread: dict[str, Spread]
    against: Against | None
    cost: Cost


@dataclass(frozen=True)
class SideBySide:
    """The whole comparison.

    Attributes:
        rows: In the order asked for.
        against: Name of the row that others are compared with.
        metric: What rows are judged by, one of `toolkit.metrics.METRICS`.
        notes: What a reader has to know not to be misled.
    """

    rows: tuple[Row, ...]
    against: str
    metric: str
    notes: tuple[str, ...]


def compare(
    subjects: Sequence[Path | str] | None = None,
    *,
    against: str = BEST,
    sort: str = "given",
    group: bool = False,
    members: bool = False,
    tta: int = 1,
    voting: str = "auto",
    device: str = "auto",
    batch: int = 16,
    measure: bool = False,
    metric: str = "accuracy",
    reporter: Reporter = SILENT,
) -> SideBySide:
    """Compare runs and bundles on the photos held out from their training, and by cost.

    A run is scored on one view per photo, a bundle on `tta` views, with voting weights that were
    found without the photo they are judged on.

    Args:
        subjects: Run folders, folders of runs, and bundles; None takes those of `runs` and `bundle`
            in the current folder that exist.
        against: What the others are compared with: `best` by the metric, `first`, or a name.
        sort: One of `SORTS`. Best or cheapest first; rows without the figure last.
        group: Summarise runs of one recipe that differ only by name and training seed.
        members: Show each member of a bundle by itself, too.
        tta: Views per photo of a bundle, 1 to 8.
        voting: As for `Ensemble.load`.
        device: What inference cost is measured on; as for `Ensemble.load`.
        batch: Photos a batch of it.
        measure: Measure what the members of the bundles cost on this machine.
        metric: What rows are judged by, one of `toolkit.metrics.METRICS`.
        reporter: Where progress is shown.

    Returns:
        One row for each run, bundle, member or group, each with its differences from `against`.

    Raises:
        UsageError: An argument is not one of those above, or there is nothing to compare.
        ToolkitError: A folder is neither a run nor a bundle or not whole, or no photo was held out.

    Example:
        >>> table = compare(["runs/improved", "bundle"], tta=4, metric="macro-f1")
        >>> [(row.name, row.accuracy) for row in table.rows]
        [('improved/xception', 0.9106), ('bundle', 0.9341)]
    """
    find_metric(metric)
    if sort not in SORTS:
        raise UsageError.of("sort", sort, suggestion(sort, SORTS))
    if isinstance(subjects, str | Path):
        raise UsageError.of("subjects", subjects, "Expected a list of folders.")
    named = [Path(each) for each in subjects or ()]
    usual = [Path(folder) for folder in USUAL if Path(folder).is_dir()]
    if not named and not usual:
        raise UsageError(
            "There is no runs/ and no bundle/ here. Name run folders or bundles to compare.",
            argument="subjects",
        )
    contenders = load_contenders(
        find_contenders(named or usual, reporter),
        views=tta,
        voting=voting,
        device=device,
        batch=batch,
        members=members,
        measure=measure,
        reporter=reporter,
    )
    return side_by_side(contenders, against=against, sort=sort, group=group, metric=metric)


USUAL = ("runs", "bundle")
"""The folders that are compared where none are named."""


def side_by_side(
    contenders: Sequence[Contender],
    *,
    against: str = BEST,
    sort: str = "given",
    group: bool = False,
    metric: str = "accuracy",
) -> SideBySide:
    """Compare runs and bundles.

    Args:
        contenders: What is compared, in the order given.
        against: `best` (by the metric, then accuracy and log-loss, among those of the photos that
            most of them held out), `first`, a name, or a folder.
        sort: One of `SORTS`. Best or cheapest first, what is not known last.
        group: Summarise runs that differ only by name and training seed.
        metric: What rows are judged by, one of `toolkit.metrics.METRICS`.

    Returns:
        One row a contender or group.

    Raises:
        UsageError: There is no contender of that name.
        ToolkitError: None of them, or not the one named, held out any photos.
    """
    groups = _groups(contenders) if group else [(each.name, [each]) for each in contenders]
    chosen = METRICS[metric]
    reference = _reference(groups, against, chosen)
    rows = []
    for name, members in groups:
        other = None if members is reference[1] else _against(members, reference[1], chosen)
        rows.append(replace(_row(name, members, chosen), against=other))
    notes = tuple(_notes(groups, reference))
    return SideBySide(tuple(sorted(rows, key=_key(sort, chosen))), reference[0], metric, notes)


_Group = tuple[str, list[Contender]]


def _groups(contenders: Sequence[Contender]) -> list[_Group]:
    """Put runs of one recipe together, and name them after the first."""
    found: dict[str, list[Contender]] = {}
    for each in contenders:
        # Of other held-out photos, seeds would not be all that differs.
        key = each.recipe + _photos([each]) if each.recipe else each.name
        found.setdefault(key, []).append(each)
    return [
        (each[0].name if len(each) == 1 else f"{each[0].name} and {len(each) - 1} more", each)
        for each in found.values()
    ]


def _reference(groups: Sequence[_Group], against: str, metric: Metric) -> _Group:
    scored = [each for each in groups if each[1][0].held_out is not None]
    if not scored:
        raise ToolkitError(
            "Nothing to compare: all of them trained on all photos, so none was held out. Score "
            "them on other labelled photos with `evaluate(data=DIR)`."
        )
    said = [members[0].held_out for _, members in scored]
    reasons = [undefined(metric, each.answers) for each in said if each]
    if all(reasons):
        raise ToolkitError(f"No {metric.title} to compare by: {reasons[0]}.")
    if against == FIRST:
        return scored[0]
    if against == BEST:
        usual, _ = Counter(_photos(members) for _, members in scored).most_common(1)[0]
        return min(
            (each for each in scored if _photos(each[1]) == usual),
            key=lambda each: (
                *_worse_first(_mean_metric(each[1], metric), metric),
                -_mean(each[1], "accuracy"),
                _mean(each[1], "log_loss"),
            ),
        )
    for each in groups:
        if any(against.rstrip("/") in (one.name, str(one.path)) for one in each[1]):
            if each[1][0].held_out is None:
                raise ToolkitError(f"{argument('against', against)}: it trained on all photos.")
            return each
    names = [one.name for _, members in groups for one in members]
    raise UsageError.of(
        "against", against, f"is not among those compared. {suggestion(against, [*names, BEST])}"
    )


def _photos(members: Sequence[Contender]) -> str:
    """Return which photos were held out, the same for all of a group; empty for none."""
    said = members[0].held_out
    return said.photos if said else ""


def _worse_first(value: float | None, metric: Metric) -> tuple[float, ...]:
    """Return a sorting key by which better values come first, and unknown ones last."""
    if value is None:
        return (float("inf"),)
    return (-value if metric.larger_is_better else value,)


def _mean_metric(members: Sequence[Contender], metric: Metric) -> float | None:
    values = [getattr(each.held_out.score, metric.key) for each in members if each.held_out]
    return fmean(values) if values and None not in values else None


def _row(name: str, members: Sequence[Contender], metric: Metric) -> Row:
    first, several = members[0], len(members) > 1
    said = first.held_out
    figures = ("accuracy", "log_loss", "calibration_error") if said else ()
    spread = {}
    for figure in figures if several else ():
        values = _figures(members, figure)
        spread[figure] = Spread(stdev(values), min(values), max(values))
    means = {figure: _mean(members, figure) for figure in figures}
    return Row(
        name=name,
        kind="group" if several else first.kind,
        runs=len(members),
        views=first.views,
        photos=said.score.photos if said else None,
        accuracy=means.get("accuracy"),
        accuracy_interval=said.score.interval if said and not several else None,
        log_loss=means.get("log_loss"),
        log_loss_interval=mean_interval(said.losses) if said and not several else None,
        calibration_error=means.get("calibration_error"),
        metric=_estimate(members, metric) if said else None,
        spread=spread,
        against=None,
        cost=_mean_cost([each.cost for each in members]),
    )


def _estimate(members: Sequence[Contender], metric: Metric) -> Estimate:
    said = members[0].held_out
    if len(members) > 1 or said is None:
        return Estimate(_mean_metric(members, metric), None, f"mean of {len(members)} seeds")
    return estimate(metric, said.answers)


def _figures(members: Sequence[Contender], figure: str) -> list[float]:
    return [float(getattr(each.held_out.score, figure)) for each in members if each.held_out]


def _mean(members: Sequence[Contender], figure: str) -> float:
    return fmean(_figures(members, figure))


def _mean_cost(costs: Sequence[Cost]) -> Cost:
    if len(costs) == 1:
        return costs[0]

    def mean(key: str) -> Any:
        values = [getattr(cost, key) for cost in costs]
        return None if None in values else fmean(values)

    return Cost(
        training_seconds=mean("training_seconds"),
        epochs=mean("epochs"),
        parameters=mean("parameters"),
        megabytes=mean("megabytes"),
        image_sizes=costs[0].image_sizes,
        inference_ms=mean("inference_ms"),
    )


def _against(
    members: Sequence[Contender], others: Sequence[Contender], metric: Metric
) -> Against | None:
    mine = [each.held_out for each in members if each.held_out]
    theirs = [each.held_out for each in others if each.held_out]
    if not mine or mine[0].photos != theirs[0].photos:
        return None
    labels = mine[0].answers.labels
    right = [
        np.stack([each.answers.predicted == labels for each in group])
        .astype(np.float64)
        .mean(axis=0)
        for group in (mine, theirs)
    ]
    losses = [np.stack([each.losses for each in group]).mean(axis=0) for group in (mine, theirs)]
    single = len(mine) == len(theirs) == 1
    return Against(
        mean_difference(right[0], right[1]),
        (
            paired(mine[0].answers.predicted, theirs[0].answers.predicted, labels)
            if single
            else None
        ),
        mean_difference(losses[0], losses[1]),
        _difference(mine[0].answers, theirs[0].answers, metric) if single else None,
    )


def _difference(first: Answers, second: Answers, metric: Metric) -> Difference | None:
    if undefined(metric, first) or undefined(metric, second):
        return None
    return difference(metric, first, second)


def _notes(groups: Sequence[_Group], reference: _Group) -> list[str]:
    """Say what is not compared, and what was not measured."""
    name, members = reference
    others = [each for each, some in groups if _photos(some) and _photos(some) != _photos(members)]
    notes = []
    if others:
        notes.append(
            f"Held out other photos than {name}, so their figures are of other photos too and are "
            f"not compared with it: {', '.join(others)}."
        )
    bags = [each for each, (first, *_) in groups if first.out_of_fold]
    if bags:
        notes.append(f"Out-of-fold figures: {', '.join(bags)}. {OUT_OF_FOLD}")
    unscored = [each for each, (first, *_) in groups if first.held_out is None]
    if unscored:
        notes.append(
            f"Trained on all photos, so there is no honest figure here: {', '.join(unscored)}. "
            "`evaluate(data=DIR)` scores them on others."
        )
    doubtful: dict[str, list[str]] = {}
    for each, (first, *_) in groups:
        if first.held_out and first.held_out.score.doubt:
            doubtful.setdefault(first.held_out.score.doubt, []).append(each)
    for reason, names in doubtful.items():
        notes.append(f"Do not rely on the figures of {', '.join(names)}: {reason}.")
    return notes


def _key(sort: str, metric: Metric) -> Any:
    unknown = float("inf")

    def key(row: Row) -> tuple[float, ...]:
        if sort == "metric":
            return _worse_first(row.metric.value if row.metric else None, metric)
        if sort == "accuracy":
            return (unknown if row.accuracy is None else -row.accuracy,)
        if sort == "log-loss":
            return (unknown if row.log_loss is None else row.log_loss,)
        if sort == "calibration":
            return (unknown if row.calibration_error is None else row.calibration_error,)
        if sort == "cost":
            ms, seconds = row.cost.inference_ms, row.cost.training_seconds
            return (unknown if ms is None else ms, unknown if seconds is None else seconds)
        return (0.0,)

    return key
