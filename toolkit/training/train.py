"""Trains the backbones of a recipe set one after another, each in a process of its own."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from toolkit.data.augmentor import Augmentor
from toolkit.data.cache import decoded_photos
from toolkit.data.dataset import load_labelled
from toolkit.data.holdout import Prepared, prepare
from toolkit.errors import ToolkitError, UsageError, nearest
from toolkit.files import held, remove_folder, sha256_file, sha256_json, write_text
from toolkit.processes import import_quietly, in_own_process
from toolkit.progress import SILENT, Reporter, counted
from toolkit.training.backend import choose_backend, sixteen_bit_policy
from toolkit.training.recipe import Recipe
from toolkit.training.recipe_files import RecipeSet
from toolkit.training.registry import find_backbone
from toolkit.training.run import (
    MANIFEST,
    PHOTO_DIGITS,
    PROGRESS,
    RECIPE,
    DataSeen,
    Progress,
    Run,
    discard_progress,
    load_run,
)

LOCK = ".lock"
REFIT_NAME = "refit"


@dataclass(frozen=True)
class TrainingOptions:
    """What a user may choose beside the recipe.

    Attributes:
        data: The data folder.
        runs: Where run folders are made.
        pretrained: "imagenet" downloads, "none" starts from random weights, a path is a folder of
            weight files; None takes what the recipe says.
        pretrained_missing: What to do for a backbone that has no file in that folder.
        name: Added to the run folder's name, so that runs stand side by side.
        seed: The training seed; None takes the recipe's.
        split_seed: Seed of the validation split.
        fresh: Throw away what stands in the run folder.
        skip_broken: Leave broken photos out.
        refit_all: Train on all photos, without validation.
        mixed_precision: Compute in 16 bits; needs a GPU.
        tensorboard: Write TensorBoard logs.
        workers: Threads that prepare batches.
    """

    data: Path = Path("data")
    runs: Path = Path("runs")
    pretrained: str | None = None
    pretrained_missing: Literal["error", "none"] = "error"
    name: str | None = None
    seed: int | None = None
    split_seed: int = 42
    fresh: bool = False
    skip_broken: bool = False
    refit_all: bool = False
    mixed_precision: bool = False
    tensorboard: bool = False
    workers: int = 2


def train(
    recipes: RecipeSet,
    backbones: Sequence[str],
    options: TrainingOptions,
    reporter: Reporter = SILENT,
    when_finished: Callable[[Run], None] = lambda run: None,
) -> list[Run]:
    """Train runs, skipping those that are finished and going on with one that was interrupted.

    Args:
        recipes: The recipe set.
        backbones: Which of its recipes, in order.
        options: Everything else.
        reporter: Where progress is told.
        when_finished: Called with each run as soon as it is finished.

    Returns:
        The finished runs in the order of `backbones`.

    Raises:
        ToolkitError: Something the user can mend. Whatever can be checked is checked before the
            first run begins.
    """
    if importlib.util.find_spec("keras") is None:
        raise ToolkitError("Training needs Keras: pip install 'toolkit[train]'.")
    if options.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ToolkitError("--tensorboard: pip install 'toolkit[train,tensorboard]' first.")
    chosen = [recipes.recipe(backbone) for backbone in backbones]
    starts = [_weights_start(recipe, options) for recipe in chosen]
    backend = choose_backend()
    _check_name(options.name)
    for recipe in chosen:
        _check_augmentor(recipe)
    if options.mixed_precision:
        in_own_process(_check_sixteen_bits, environment={"KERAS_BACKEND": backend})
    busy = f"{options.runs}: another process is training here. Wait for it, or pass another --runs."
    with held(options.runs / LOCK, busy):
        dataset = load_labelled(options.data)
        prepared = prepare(dataset, skip_broken=options.skip_broken, reporter=reporter)
        if prepared.left_out:
            reporter.say(f"left out as broken: {', '.join(prepared.left_out)}")
        plans = [
            _plan(recipe, start, prepared, options, backend)
            for recipe, start in zip(chosen, starts, strict=True)
        ]
        finished: list[Run] = []
        for plan in plans:
            run = None if options.fresh else _done(plan)
            if run is not None:
                reporter.say(f"{run.label}: finished on {run.finished}, not trained again")
            else:
                run = _train(plan, prepared, options, reporter)
            when_finished(run)
            finished.append(run)
        return finished


def run_folder(runs: Path, recipe: Recipe, name: str | None) -> Path:
    """Return `runs/<set>/<backbone>[-name]`."""
    return runs / recipe.set / (f"{recipe.backbone}-{name}" if name else recipe.backbone)


@dataclass(frozen=True)
class _WeightsStart:
    pretrained: bool
    folder: Path | None
    sha256: str

    @property
    def said(self) -> str:
        return f"imagenet {self.sha256[:12]}".strip() if self.pretrained else "none"


@dataclass(frozen=True)
class _Plan:
    recipe: Recipe
    start: _WeightsStart
    folder: Path
    data: DataSeen
    held_out: np.ndarray[Any, np.dtype[np.bool_]]
    identity: dict[str, Any]


def _weights_start(recipe: Recipe, options: TrainingOptions) -> _WeightsStart:
    chosen = options.pretrained or recipe.weights
    if chosen in ("none", "imagenet"):
        return _WeightsStart(chosen == "imagenet", None, "")
    folder = Path(chosen)
    if not folder.is_dir():
        raise UsageError(
            f"--pretrained {chosen}: Expected imagenet, none or a folder. "
            f"{nearest(chosen, ('imagenet', 'none'))}".rstrip()
        )
    path = folder / find_backbone(recipe.backbone).weights_file
    if path.is_file():
        return _WeightsStart(True, folder, sha256_file(path))
    if options.pretrained_missing == "none":
        return _WeightsStart(False, None, "")
    raise ToolkitError(
        f"{path}: no such file. Put the weights there, or pass --pretrained-missing none to train "
        f"{recipe.backbone} from nothing."
    )


def _check_augmentor(recipe: Recipe) -> None:
    try:
        Augmentor(recipe.augmentor, recipe.image_size).check(recipe.stored_square.size)
    except ToolkitError as error:
        raise ToolkitError(
            f"{recipe.set}/{recipe.backbone} at image_size {recipe.image_size}: {error}"
        ) from None


def _check_name(name: str | None) -> None:
    if name is not None and not re.fullmatch(r"\w[\w.-]*", name):
        raise UsageError(f"--name {name}: Expected letters, digits, '_', '.' and '-'.")


def _plan(
    recipe: Recipe,
    start: _WeightsStart,
    prepared: Prepared,
    options: TrainingOptions,
    backend: str,
) -> _Plan:
    fraction = 0.0 if options.refit_all else recipe.validation_fraction
    if options.refit_all:
        held_out = np.zeros(len(prepared.labels), dtype=np.bool_)
    else:
        held_out = prepared.held_out(fraction, options.split_seed)
        if not held_out.any():
            raise ToolkitError(
                f"{options.data}: too few photos to hold {fraction:.0%} out for validation."
            )
    classes = prepared.dataset.classes
    data = DataSeen(
        folder=str(options.data.absolute()),
        fingerprint=prepared.dataset.fingerprint,
        classes=classes,
        class_counts=tuple(
            np.bincount(prepared.labels[~held_out], minlength=len(classes)).tolist()
        ),
        split_seed=options.split_seed,
        validation_fraction=fraction,
        training_photos=int((~held_out).sum()),
        validation_photos=int(held_out.sum()),
        left_out=prepared.left_out,
        held_out=_hash_of_held_out(prepared, held_out),
        photos_sha256=sha256_json([fact.sha256 for fact in prepared.facts]),
        pixels=prepared.pixels,
    )
    identity = {
        "recipe": recipe.settings,
        "data": data.fingerprint,
        "photos_sha256": data.photos_sha256,
        "pixels": data.pixels.settings,
        "split_seed": options.split_seed,
        "validation_fraction": fraction,
        "held_out": data.held_out,
        "seed": recipe.seed if options.seed is None else options.seed,
        "pretrained": start.said,
        "mixed_precision": options.mixed_precision,
        "backend": backend,
    }
    name = options.name or (REFIT_NAME if options.refit_all else None)
    folder = run_folder(options.runs, recipe, name)
    if not options.fresh:
        _refuse_another(folder, identity)
    return _Plan(recipe, start, folder, data, held_out, identity)


def _refuse_another(folder: Path, identity: dict[str, Any]) -> None:
    if (folder / MANIFEST).is_file():
        known = load_run(folder).identity
    else:
        progress = Progress.load(folder)
        if progress is None:
            return
        known = progress.identity
    changed = _changed_keys(known, identity)
    if changed:
        raise ToolkitError(
            f"{folder}: holds a run with another {', '.join(changed)}. Pass --name NAME to train "
            "beside it, or --fresh to throw it away."
        )


def _changed_keys(known: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[str]:
    changed: list[str] = []
    for key in sorted({*known, *wanted}):
        before, now = known.get(key), wanted.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            changed += _changed_keys(before, now, f"{prefix}{key}.")
        elif before != now:
            changed.append(f"{prefix}{key}")
    return changed


def _done(plan: _Plan) -> Run | None:
    if not (plan.folder / MANIFEST).is_file():
        return None
    discard_progress(plan.folder)  # It may have been killed just before it did so itself.
    return load_run(plan.folder)


def _hash_of_held_out(prepared: Prepared, held_out: np.ndarray[Any, np.dtype[np.bool_]]) -> str:
    photos = prepared.dataset.photos
    return sha256_json([photos[index].id for index in np.flatnonzero(held_out)])


def _trained_on(prepared: Prepared, held_out: np.ndarray[Any, np.dtype[np.bool_]]) -> str:
    facts = prepared.facts
    return "".join(facts[index].sha256[:PHOTO_DIGITS] for index in np.flatnonzero(~held_out))


def _train(plan: _Plan, prepared: Prepared, options: TrainingOptions, reporter: Reporter) -> Run:
    paths = [photo.path for photo in prepared.dataset.photos]
    hashes = [fact.sha256 for fact in prepared.facts]
    # Usually the same twice, which is then found again.
    photos, stored = (
        decoded_photos(paths, hashes, square, prepared.pixels, reporter)
        for square in (plan.recipe.square, plan.recipe.stored_square)
    )
    if options.fresh:
        remove_folder(plan.folder)
    plan.folder.mkdir(parents=True, exist_ok=True)
    if not (plan.folder / PROGRESS).is_file():
        write_text(plan.folder / RECIPE, plan.recipe.to_yaml())
    start = "ImageNet weights" if plan.start.pretrained else "random weights"
    reporter.say(
        f"{plan.folder}: {counted(plan.data.training_photos, 'photo')} at "
        f"{plan.recipe.square}, at most {counted(plan.recipe.epochs, 'epoch')} from {start}"
    )
    _say_what_is_dropped(plan, reporter)
    for key in ("backend", "seed", "split_seed", "pretrained"):
        reporter.detail(f"{plan.recipe.backbone}: {key} {plan.identity[key]}")
    reporter.detail(f"{plan.recipe.backbone}: decoded photos in {photos}")
    return in_own_process(
        _fit_in_child,
        plan,
        photos,
        stored,
        prepared,
        options,
        reporter,
        environment={"KERAS_BACKEND": plan.identity["backend"]},
    )


def _check_sixteen_bits() -> None:
    import_quietly("keras")
    sixteen_bit_policy()


def _say_what_is_dropped(plan: _Plan, reporter: Reporter) -> None:
    if plan.data.validation_photos:
        return
    for key in ("early_stopping", "reduce_on_plateau"):
        section = getattr(plan.recipe, key)
        if section and section.monitor.startswith("val_"):
            reporter.say(f"{plan.recipe.backbone}: without validation there is no {key}")


def _fit_in_child(
    plan: _Plan,
    photos: Path,
    stored: Path,
    prepared: Prepared,
    options: TrainingOptions,
    reporter: Reporter,
) -> Run:
    # Keras is imported here, in the child, and nowhere in the parent.
    import_quietly("keras")
    from toolkit.training.fit import Job, fit

    return fit(
        Job(
            folder=plan.folder,
            recipe=plan.recipe,
            data=plan.data,
            identity=plan.identity,
            photos=photos,
            stored=stored,
            ids=tuple(photo.id for photo in prepared.dataset.photos),
            labels=prepared.labels,
            groups=prepared.groups,
            held_out=plan.held_out,
            trained_on=_trained_on(prepared, plan.held_out),
            pretrained=plan.start.pretrained,
            weights_folder=plan.start.folder,
            seed=plan.identity["seed"],
            workers=options.workers,
            mixed_precision=options.mixed_precision,
            tensorboard=options.tensorboard,
            reporter=reporter,
        )
    )
