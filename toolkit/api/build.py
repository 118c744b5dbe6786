"""From photos to a bundle: train, export, fuse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from toolkit.data.reading import Reading
from toolkit.errors import RunError, UsageError
from toolkit.exporting import export as exporting
from toolkit.exporting.bags import FoldPolicy
from toolkit.exporting.select import choose_runs
from toolkit.inference.bundle import Bundle, load_bundle
from toolkit.metrics import find_metric
from toolkit.progress import SILENT, Reporter
from toolkit.reporting.curves import draw_curves
from toolkit.training import train as training
from toolkit.training.recipe_files import RecipeSet, load_set
from toolkit.training.run import CURVES, Run, finished_runs

if TYPE_CHECKING:
    from toolkit.exporting.fused import Fused

Runs = Path | str | Sequence[Run | Path | str]
"""A folder of run folders, or the runs themselves: loaded, or their folders."""


def train(
    data: Path | str = "data",
    *,
    recipes: RecipeSet | Path | str = "improved",
    backbones: Sequence[str] | None = None,
    labels: Path | str | None = None,
    id_column: str | None = None,
    label_column: str | None = None,
    photos: Path | str | None = None,
    group_column: str | None = None,
    runs: Path | str = "runs",
    name: str | None = None,
    pretrained: Path | str | None = None,
    pretrained_missing: Literal["error", "none"] = "error",
    seed: int | None = None,
    split_seed: int = 42,
    folds: int | None = None,
    holdout: float | None = None,
    only_folds: Sequence[int] | None = None,
    fresh: bool = False,
    skip_broken: bool = False,
    refit_all: bool = False,
    mixed_precision: bool = False,
    tensorboard: bool = False,
    workers: int | None = None,
    jobs: int | None = None,
    threads: int | None = None,
    checkpoint_every_s: float = 120.0,
    reporter: Reporter = SILENT,
) -> list[Run]:
    """Train the backbones of a recipe set, several at the same time.

    Finished runs are not trained again. Interrupted, the same call goes on from the last
    checkpoints. Each backbone is trained in a process of its own: the caller imports no framework.

    Args:
        data: The data folder. Its layout is found by itself; the next five arguments name what
            cannot be found.
        recipes: A set that comes with the toolkit (`baseline`, `improved`, `finetune`), a folder of
            recipe files, or a set already loaded.
        backbones: Which of its recipes, in order; None takes all.
        labels: The table of ids and labels.
        id_column: Its column of ids.
        label_column: Its column of labels.
        photos: The folder of the photos.
        group_column: Column of the table; photos with one value, such as those of one patient, stay
            on one side of the split.
        runs: Where run folders are made.
        name: Trains beside other runs, in `<backbone>-<name>`.
        pretrained: `imagenet` downloads weights, `none` starts from random ones, a folder holds
            `<backbone>_imagenet_notop.weights.h5`; None takes what the recipe says.
        pretrained_missing: For a backbone without a file in that folder: `error`, or `none` to
            start from random weights.
        seed: The training seed, at least 0; None takes the recipe's.
        split_seed: Seed of the validation split, at least 0.
        folds: Train each backbone once for each of so many folds, in `<backbone>-fold0` and so on:
            stratified, groups and near-duplicates whole. None holds photos out once.
        holdout: With `folds`: the share of the photos that stays outside all folds.
        only_folds: With `folds`: which of them to train, from 0; another machine may train the
            others, whose run folders are then copied here.
        fresh: Discard what the run folders hold.
        skip_broken: Leave out photos that cannot be read, instead of refusing.
        refit_all: Train on all photos for the recipe's epochs, without validation.
        mixed_precision: Compute in 16 bits; needs a GPU.
        tensorboard: Write TensorBoard logs into the runs.
        workers: Threads that prepare batches; None takes one per core, at most 4.
        jobs: Backbones to train at the same time; None takes as many as cores and memory allow, and
            one on a GPU. It changes no result.
        threads: Threads that one training computes with. They belong to a run, because sums in
            another order have other last digits. None takes one per core, at most 8, and those of
            an interrupted run.
        checkpoint_every_s: Least seconds of training between two checkpoints.
        reporter: Where progress is shown; silent by default.

    Returns:
        The finished runs in the order of `backbones`, of each its folds in order. Each has its
        score on the held-out photos.

    Raises:
        UsageError: Arguments do not fit together; nothing was trained.
        RecipeError: A recipe is not valid, or does not fit the data.
        DataError: The data folder is not as expected, or photos are broken; the message lists them.
        ToolkitError: A run folder holds another run, there is too little memory or disk, or a
            training failed; the others have gone on to their end.

    Example:
        >>> runs = train("data", recipes="improved", backbones=["xception", "efficientnetb3"])
        >>> [(run.label, run.score["accuracy"]) for run in runs]
        [('improved/xception', 0.9106), ('improved/efficientnetb3', 0.9187)]
    """
    if isinstance(backbones, str) or (backbones is not None and not backbones):
        raise UsageError.of("backbones", backbones, "Expected a list of names.")
    chosen = recipes if isinstance(recipes, RecipeSet) else load_set(str(recipes))
    options = training.TrainingOptions(
        data=Path(data),
        reading=Reading(
            labels=None if labels is None else Path(labels),
            id_column=id_column,
            label_column=label_column,
            photos=None if photos is None else Path(photos),
            group_column=group_column,
        ),
        runs=Path(runs),
        name=name,
        pretrained=None if pretrained is None else str(pretrained),
        pretrained_missing=pretrained_missing,
        seed=seed,
        split_seed=split_seed,
        folds=folds,
        holdout=holdout,
        only_folds=None if only_folds is None else tuple(only_folds),
        fresh=fresh,
        skip_broken=skip_broken,
        refit_all=refit_all,
        mixed_precision=mixed_precision,
        tensorboard=tensorboard,
        workers=training.default_workers() if workers is None else workers,
        jobs=jobs,
        threads=threads,
        checkpoint_every_s=checkpoint_every_s,
    )
    options.check()
    names = list(chosen.recipes if backbones is None else backbones)
    return training.train(chosen, names, options, reporter, when_finished=_draw)


def export(
    runs: Runs = "runs",
    bundle: Path | str = "bundle",
    *,
    set_name: str | None = None,
    name: str | None = None,
    data: Path | str | None = None,
    voting: str = "auto",
    metric: str = "log-loss",
    precisions: Sequence[str] = ("fp32",),
    fold_policy: FoldPolicy = "all",
    fresh: bool = False,
    reporter: Reporter = SILENT,
) -> Bundle:
    """Export finished runs to ONNX files, compare each with Keras, and find voting weights.

    Interrupted, the same call goes on with the members that are not done; of a bundle that holds
    these runs already nothing is exported again.

    Args:
        runs: A folder of run folders, of which the latest run of each backbone is taken, or all its
            folds, or a list of runs or their folders.
        bundle: The folder to make.
        set_name: Of a folder of runs: the recipe set; None takes the one trained last.
        name: Of a folder of runs: those that were trained with this name.
        data: The data folder; None takes the one that the runs name.
        voting: `auto` lets the held-out photos decide; `uniform`, `accuracy`, `fitted`, `selected`,
            or `NAME=W,NAME=W,...`.
        metric: What `auto` chooses weights by, one of `toolkit.metrics.METRICS`.
        precisions: `fp32`, which is always made, and lower ones to try: `int8`, `bf16`, `fp16`. One
            is kept where it is faster here and keeps the labels of the held-out photos.
        fold_policy: Of runs that were trained in folds: `all` folds of a backbone vote together, as
            a bag; or the `best` fold by `metric` alone, the same for all backbones.
        fresh: Replace a bundle that was made from something else.
        reporter: Where progress is shown; silent by default.

    Returns:
        The bundle, as it lies in its folder.

    Raises:
        UsageError: The arguments do not fit together, or do not fit the runs.
        RunError: There is no finished run, or one lacks files or was changed.
        ParityError: A file does not compute what Keras computes.
        BundleError: Another bundle, or something else, is in the way.
        ToolkitError: The photos are not those that the runs saw, there is too little memory or
            disk, or another process is exporting to the same folder.

    Example:
        >>> bundle = export("runs", "bundle", precisions=("fp32", "int8"))
        >>> [member.name for member in bundle.members]
        ['xception', 'inceptionv3', 'resnet101v2', 'efficientnetb3']
    """
    if isinstance(precisions, str):
        precisions = (precisions,)
    chosen = choose_runs(
        runs,
        set_name=set_name,
        name=name,
        fold_policy=fold_policy,
        metric=find_metric(metric),
        reporter=reporter,
    )
    options = exporting.ExportOptions(
        bundle=Path(bundle),
        data=None if data is None else Path(data),
        voting=voting,
        fresh=fresh,
        precisions=tuple(precisions),
        metric=metric,
        fold_policy=fold_policy,
    )
    return exporting.export(chosen, options, reporter)


def fuse(
    bundle: Bundle | Path | str,
    file: Path | str,
    *,
    runs: Runs = "runs",
    data: Path | str | None = None,
    tta: int = 4,
    voting: str = "auto",
    reporter: Reporter = SILENT,
) -> Fused:
    """Write a bundle's whole ensemble as one ONNX file, which any ONNX runtime can run.

    It takes photos as squares, uint8 of shape (batch, size, size, 3), RGB, and gives probabilities,
    float32 of shape (batch, classes): views, members and voting are inside. It is compared with the
    bundle before it is put in place.

    Args:
        bundle: The bundle, or its folder.
        file: The file to write; its name ends in `.onnx`.
        runs: Where one of the bundle's runs is: it says which photos to compare on.
        data: The data folder; None takes the one that the run names.
        tta: Views per photo, 1 to 8.
        voting: As for `Ensemble.load`; members without a vote are left out.
        reporter: Where progress is shown; silent by default.

    Returns:
        What was written: inputs, members, and the largest difference from the bundle.

    Raises:
        UsageError: The file's name does not fit, or the bundle has no such voting.
        RunError: None of the bundle's runs is there.
        ParityError: The file computes something else than the bundle.
        ToolkitError: The file cannot be written or would be too large.

    Example:
        >>> fuse("bundle", "ensemble.onnx", tta=4).largest_difference
        2.1e-07
    """
    from toolkit.exporting import fused  # It needs onnx, which training and evaluation do not.

    chosen = bundle if isinstance(bundle, Bundle) else load_bundle(Path(bundle))
    fused.check_target(Path(file), chosen.folder)
    run = _member(chosen, runs)
    photos = fused.photos_to_compare(run, None if data is None else Path(data), reporter)
    return fused.fuse(chosen, Path(file), photos, views=tta, voting=voting, reporter=reporter)


def _draw(run: Run) -> None:
    if not (run.folder / CURVES).is_file():
        draw_curves(run.history, run.best_epoch, run.label, run.folder / CURVES)


def _member(bundle: Bundle, runs: Runs) -> Run:
    found = finished_runs(Path(runs)) if isinstance(runs, str | Path) else choose_runs(runs)
    models = {member.model_sha256 for member in bundle.members}
    for run in found:
        if run.model_sha256 in models:
            return run
    where = runs if isinstance(runs, str | Path) else ", ".join(str(run.folder) for run in found)
    raise RunError(f"{where}: holds no run that {bundle.folder} was exported from.")
