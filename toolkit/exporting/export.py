"""From finished runs to a bundle."""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.capacity import Capacity
from toolkit.data.pixels import PixelDefinition
from toolkit.errors import BundleError, RunError, ToolkitError, UsageError, nearest
from toolkit.exporting.bags import FoldPolicy, bags_of, has_bags, held_out_by, out_of_fold
from toolkit.exporting.members import VERSIONED, Photos, export_members
from toolkit.exporting.memory import refuse_too_little
from toolkit.exporting.precision import Lowered, lower_members, lower_precisions
from toolkit.exporting.select import member_names
from toolkit.exporting.weights import (
    SELECTED,
    can_cross_fit,
    can_select,
    unvalidated_table,
    voting_table,
)
from toolkit.files import held, replace_folder, sha256_file
from toolkit.inference.bundle import (
    MANIFEST,
    OUTSIDE,
    VALIDATION,
    Bundle,
    BundleValidation,
    Member,
    TrainedOn,
    VotingTable,
    load_bundle,
    save_bundle,
)
from toolkit.inference.calls import ModelKey
from toolkit.inference.manifest import voters_of
from toolkit.inference.views import VIEWS
from toolkit.inference.voting import parse_weights, share_out
from toolkit.machine import package_versions
from toolkit.metrics import METRICS, Answers, Metric, have_order, undefined
from toolkit.progress import SILENT, Reporter
from toolkit.training.run import PHOTO_DIGITS, Run, Validation

_FITTED = ("accuracy", "fitted", SELECTED)
_VOTINGS = ("auto", "uniform", *_FITTED)


@dataclass(frozen=True)
class ExportOptions:
    """What a user may choose at export.

    Attributes:
        bundle: The folder to make.
        data: The data folder; None takes the one that the runs name.
        voting: `auto`, `uniform`, `accuracy`, `fitted` or `NAME=W,...`.
        fresh: Replace a bundle that was made from something else.
        precisions: `fp32`, which is always made, and lower ones to try.
        metric: What `auto` chooses voting weights by, one of `toolkit.metrics.METRICS`.
        fold_policy: How the runs were chosen, where they were trained in folds.
    """

    bundle: Path = Path("bundle")
    data: Path | None = None
    voting: str = "auto"
    fresh: bool = False
    precisions: tuple[str, ...] = ("fp32",)
    metric: str = "log-loss"
    fold_policy: FoldPolicy = "all"


def export(runs: Sequence[Run], options: ExportOptions, reporter: Reporter = SILENT) -> Bundle:
    """Export runs to ONNX, compare each with Keras, find voting weights, write the bundle.

    Lower precisions that are asked for are tried, and those that pay are in the bundle beside fp32.

    Interrupted, the same call goes on with the members that are not done.

    Args:
        runs: The members, all trained on the same split; or all folds of some backbones, those of
            one side by side.
        options: Everything else.

    Returns:
        The bundle, as it stands in its folder.

    Raises:
        ToolkitError: A member's file does not compute what Keras computes, a run's files were
            changed, the photos are not those that the runs saw, another bundle stands in the way,
            or another process is exporting to the same folder.
        UsageError: The options do not fit the runs.
    """
    if importlib.util.find_spec("tf2onnx") is None:
        raise ToolkitError("Exporting needs TensorFlow and tf2onnx: pip install 'toolkit[train]'.")
    names = member_names(runs)
    named = list(zip(names, runs, strict=True))
    voting = voters_of(list(zip(names, bags_of(names, runs), strict=True)))
    custom = _custom_weights(options.voting, [voter.name for voter in voting])
    held_out = held_out_by(runs)
    lower = lower_precisions(options.precisions)
    if lower and not runs[0].data.validation_photos:
        raise UsageError.of(
            "precisions",
            tuple(options.precisions),
            f"{runs[0].label} trained on all photos, so that none is left to judge lower "
            "precisions by. Pass `precisions='fp32'`.",
        )
    if options.voting in _FITTED:
        _refuse_unfittable(options.voting, runs[0], held_out)
    wanted = _Wanted(
        options.voting,
        custom,
        METRICS[options.metric],
        have_order(runs[0].data.classes),
        options.fold_policy,
    )
    _refuse_metric(wanted, runs[0], held_out)
    for run in runs:
        run.check_model()
    # What a link leads to: a link could not be replaced by a folder.
    target = options.bundle.resolve()
    busy = (
        f"{options.bundle}: another process is exporting. Wait for it, or pass another "
        "`bundle=DIR`."
    )
    with held(target.with_name(f".{target.name}.lock"), busy):
        building = target.with_name(f".{target.name}.building")
        finished = _finish_earlier(building, target, named, options, lower)
        if finished is not None:
            reporter.say(f"{options.bundle}: the export that was interrupted is finished")
            return finished
        existing = _existing(named, options, lower)
        if existing is not None:
            reporter.say(
                f"{options.bundle}: already holds these runs, not exported again (`fresh=True` "
                "does it, as after a change of classes.csv or of what is installed)"
            )
            return existing
        photos = Photos.find(runs, options.data, reporter)
        recipes = [run.recipe for run in runs]
        pixels = runs[0].data.pixels
        refuse_too_little(recipes, target, photos.hashes, pixels, Capacity.here(), reporter)
        building.mkdir(exist_ok=True)
        try:
            (building / MANIFEST).unlink(missing_ok=True)  # Its files are about to change.
            bundle = _build(named, photos, building, lower, wanted, reporter)
            save_bundle(bundle)  # From here on its files are all that is needed.
            _tidy(bundle)
        finally:
            with contextlib.suppress(OSError):
                building.rmdir()  # Where nothing is in it that the next call could go on with.
        replace_folder(target, building)
    return load_bundle(options.bundle)


@dataclass(frozen=True)
class _Wanted:
    """What is wanted of the voting weights; see `ExportOptions` and `voting_table`."""

    voting: str
    custom: tuple[float, ...] | None
    metric: Metric
    ordered: bool
    fold_policy: FoldPolicy


def _build(
    named: Sequence[tuple[str, Run]],
    photos: Photos,
    building: Path,
    lower: Sequence[str],
    wanted: _Wanted,
    reporter: Reporter,
) -> Bundle:
    runs = [run for _, run in named]
    exported = export_members(named, photos, building, reporter)
    lowered = lower_members(exported, runs, lower, photos, building, reporter)
    members = [each.member for each in lowered]
    seen = runs[0].data
    said = _answers(lowered, runs, building)
    tables = _voting(members, said, wanted, reporter)
    outside = _outside_answers(lowered, runs, building)
    for answers, file in ((said, VALIDATION), (outside, OUTSIDE)):
        if answers is not None:
            answers.save(building / file)
    return Bundle(
        folder=building,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=package_versions(VERSIONED),
        classes=seen.classes,
        names=photos.names,
        class_prior=_class_prior(runs),
        pixels=PixelDefinition(ranges=seen.pixels.ranges),
        data=_trained_on(runs),
        members=tuple(members),
        voting=tables,
        requested_voting=wanted.voting,
        validation_sha256=sha256_file(building / VALIDATION) if said else "",
        precisions=tuple(trial for each in lowered for trial in each.trials),
        outside_sha256=sha256_file(building / OUTSIDE) if outside else "",
        fold_policy=_policy(runs, wanted.fold_policy),
    )


def _policy(runs: Sequence[Run], chosen: FoldPolicy) -> Literal["", "all", "best"]:
    if has_bags(runs):
        return "all"
    # Where one fold was named nothing was chosen among folds.
    return "best" if chosen == "best" and runs[0].data.fold else ""


def _class_prior(runs: Sequence[Run]) -> tuple[float, ...]:
    """Return the share of each class among the training photos; of folds, among all of them."""
    counts = np.sum([run.data.class_counts for run in runs], axis=0)
    return tuple((counts / counts.sum()).tolist())


def _trained_on(runs: Sequence[Run]) -> TrainedOn:
    seen = runs[0].data
    hashes = (
        run.trained_on[start : start + PHOTO_DIGITS]
        for run in runs
        for start in range(0, len(run.trained_on), PHOTO_DIGITS)
    )
    return TrainedOn(
        fingerprint=seen.fingerprint,
        split_seed=seen.split_seed,
        validation_fraction=float(np.mean([run.data.validation_fraction for run in runs])),
        held_out=seen.fold.dealt if has_bags(runs) and seen.fold else seen.held_out,
        reading=seen.reading,
        trained_on="".join(dict.fromkeys(hashes)),
    )


def _finish_earlier(
    building: Path,
    target: Path,
    named: Sequence[tuple[str, Run]],
    options: ExportOptions,
    lower: Sequence[str],
) -> Bundle | None:
    """Put a bundle in its place whose export was killed when all but that was done.

    Returns:
        The bundle if it is the one asked for.
    """
    if not (building / MANIFEST).is_file():
        return None
    try:
        bundle = load_bundle(building)
        _tidy(bundle)
        bundle.check_files()
    except ToolkitError:
        return None  # Made anew.
    is_asked_for = _is_of(bundle, named, options, lower)
    # Without it no bundle stands there: the old one had been put aside for it.
    if not target.exists() or (options.fresh and is_asked_for and (target / MANIFEST).is_file()):
        replace_folder(target, building)
        return load_bundle(options.bundle) if is_asked_for else None
    return None


def _tidy(bundle: Bundle) -> None:
    """Remove what only an export that goes on would need."""
    kept = {MANIFEST, *(file for member in bundle.members for file in member.files)}
    if bundle.validation_sha256:
        kept.add(VALIDATION)
    if bundle.outside_sha256:
        kept.add(OUTSIDE)
    for path in bundle.folder.iterdir():
        if path.name not in kept:
            path.unlink()


def _answers(
    lowered: Sequence[Lowered], runs: Sequence[Run], building: Path
) -> BundleValidation | None:
    """Return what the voters say of the held-out photos; None where there are none."""
    held_out = held_out_by(runs)
    if held_out is None:
        return None
    variants = {
        ModelKey(each.member.name, precision): said[: run.data.validation_photos]
        for each, run in zip(lowered, runs, strict=True)
        for precision, said in each.answers.items()
        if not each.member.bag
    }
    return BundleValidation(
        held_out.ids,
        held_out.labels,
        held_out.groups,
        out_of_fold(_probabilities(lowered, building), runs),
        variants,
    )


def _outside_answers(
    lowered: Sequence[Lowered], runs: Sequence[Run], building: Path
) -> BundleValidation | None:
    """Return what the networks of bags say of photos outside all folds; None without such."""
    photos = runs[0].outside if has_bags(runs) else None
    if photos is None:
        return None
    count = len(photos.labels)
    said = [each[-count:] for each in _probabilities(lowered, building)]
    variants = {
        ModelKey(each.member.name, precision): answers[-count:]
        for each in lowered
        for precision, answers in each.answers.items()
    }
    return BundleValidation(photos.ids, photos.labels, photos.groups, np.stack(said), variants)


def _probabilities(lowered: Sequence[Lowered], building: Path) -> list[NDArray[np.float32]]:
    return [np.load(building / f"{each.member.name}.npz")["probabilities"] for each in lowered]


def _voting(
    members: Sequence[Member],
    said: BundleValidation | None,
    wanted: _Wanted,
    reporter: Reporter,
) -> dict[int, VotingTable]:
    voters = voters_of([(member.name, member.bag) for member in members])
    if said is None:
        table = unvalidated_table(len(voters), wanted.custom, metric=wanted.metric)
        return {views: _chosen(table, wanted.voting) for views in range(1, len(VIEWS) + 1)}
    tables = {}
    with reporter.track("voting weights", len(VIEWS), "views") as advance:
        for views in range(1, len(VIEWS) + 1):
            table = voting_table(
                said.averaged(views),
                said.labels,
                said.groups,
                [voter.name for voter in voters],
                wanted.custom,
                metric=wanted.metric,
                ordered=wanted.ordered,
            )
            shared = {
                name: replace(each, weights=share_out(each.weights, voters))
                for name, each in table.alternatives.items()
            }
            tables[views] = _chosen(replace(table, alternatives=shared), wanted.voting)
            advance(1)
    return tables


def _chosen(table: VotingTable, wanted: str) -> VotingTable:
    if wanted == "auto":
        return table
    name = "custom" if "=" in wanted else wanted
    return replace(table, choice=name, reason="asked for at export")


def _custom_weights(voting: str, names: list[str]) -> tuple[float, ...] | None:
    if "=" in voting:
        return parse_weights(voting, names)
    if voting not in _VOTINGS:
        raise UsageError.of(
            "voting",
            voting,
            f"Expected {', '.join(_VOTINGS)} or NAME=WEIGHT,... "
            f"{nearest(voting, _VOTINGS)}".rstrip(),
        )
    return None


def _refuse_unfittable(voting: str, run: Run, validation: Validation | None) -> None:
    """Refuse weights that would have to be found on photos that there are none of."""
    if validation is None:
        reason = f"where photos were held out, and {run.label} trained on all"
    elif not can_cross_fit(validation.groups):
        reason = f"where held-out photos differ, and those of {run.label} are near-duplicates"
    else:
        return
    raise UsageError.of(
        "voting",
        voting,
        f"weights can only be found {reason}. Pass `voting='auto'`, uniform or NAME=WEIGHT,...",
    )


def _refuse_metric(wanted: _Wanted, run: Run, validation: Validation | None) -> None:
    """Refuse a metric that has no value here, or that weights cannot be found for."""
    metric = wanted.metric
    if wanted.voting == SELECTED and not can_select(metric):
        raise UsageError.of(
            "voting",
            SELECTED,
            "Expected with a metric of labels "
            f"({', '.join(each.name for each in METRICS.values() if can_select(each))}), received "
            f"{metric.name}, which 'fitted' and 'auto' serve.",
        )
    if metric.name == "kappa" and not wanted.ordered:
        raise UsageError.of(
            "metric",
            metric.name,
            f"the classes of {run.label} are not numbers, so they have no order. Choose another "
            "metric.",
        )
    if validation is None:
        return
    answers = Answers.of(validation.probabilities, validation.labels, ordered=wanted.ordered)
    if (reason := undefined(metric, answers)) and metric.name != "kappa":
        raise RunError(f"{run.folder}: {reason}, and no others were held out.", path=run.folder)


def _existing(
    named: Sequence[tuple[str, Run]], options: ExportOptions, lower: Sequence[str]
) -> Bundle | None:
    """Return the bundle that stands there if it is the one asked for; refuse another."""
    if not options.bundle.exists():
        return None
    # Not even `fresh` may remove a folder that the toolkit did not make.
    if not (options.bundle / MANIFEST).is_file():
        raise BundleError(
            f"{options.bundle}: exists and is no bundle. Name another with `bundle=DIR`.",
            path=options.bundle,
        )
    if options.fresh:
        return None
    bundle = load_bundle(options.bundle)
    if _is_of(bundle, named, options, lower):
        bundle.check_files()
        return bundle
    holds = _in_words(
        (each.run for each in bundle.members),
        bundle.requested_voting,
        bundle.voting[1].metric,
        _tried(bundle),
    )
    asked = _in_words((run.label for _, run in named), options.voting, options.metric, set(lower))
    raise BundleError(
        f"{options.bundle}: holds a bundle made from other runs or with another voting or other "
        f"precisions: {holds}; requested: {asked}. Pass `fresh=True` to replace it, or name "
        "another with `bundle=DIR`.",
        path=options.bundle,
    )


def _in_words(runs: Iterable[str], voting: str, metric: str, lower: set[str]) -> str:
    precisions = ", ".join(["fp32", *sorted(lower)])
    return f"{', '.join(runs)} (voting {voting} by {metric}, {precisions})"


def _tried(bundle: Bundle) -> set[str]:
    # Whatever is requested is tried, so every precision has trials.
    return {trial.precision for trial in bundle.precisions}


def _is_of(
    bundle: Bundle, named: Sequence[tuple[str, Run]], options: ExportOptions, lower: Sequence[str]
) -> bool:
    members = [(each.name, each.run, each.model_sha256) for each in bundle.members]
    wanted = [(name, run.label, run.model_sha256) for name, run in named]
    same_voting = (bundle.requested_voting, bundle.voting[1].metric) == (
        options.voting,
        options.metric,
    )
    return members == wanted and same_voting and _tried(bundle) == set(lower)
