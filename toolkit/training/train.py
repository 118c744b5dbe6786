"""Trains the backbones of a recipe set, each in a process of its own, several at a time."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from toolkit.capacity import Capacity, available_memory, how_many_fit
from toolkit.data.augmentor import Augmentor
from toolkit.data.cache import decoded_photos
from toolkit.data.folds import OUTSIDE
from toolkit.data.holdout import Prepared, prepare
from toolkit.data.labelled import load_labelled
from toolkit.data.pixels import Square
from toolkit.data.reading import AUTO, Reading
from toolkit.errors import RunError, ToolkitError, UsageError, listing, nearest
from toolkit.files import (
    held,
    remove_folder,
    remove_half_written,
    sha256_file,
    sha256_json,
    write_text,
)
from toolkit.machine import usable_cores
from toolkit.processes import Call, Outcome, import_quietly, in_own_process, in_own_processes
from toolkit.progress import SILENT, Relayed, Reporter, Works, counted
from toolkit.training.at_once import (
    default_threads,
    trainings_at_once,
)
from toolkit.training.backend import (
    choose_backend,
    framework_settings,
    keep_freed_memory,
    may_have_gpu,
    set_threads,
    sixteen_bit_policy,
)
from toolkit.training.epoch import check_accumulation
from toolkit.training.imbalance import check_classes
from toolkit.training.memory import refuse_too_little, training_memory
from toolkit.training.recipe import Recipe
from toolkit.training.recipe_files import RecipeSet
from toolkit.training.registry import find_backbone
from toolkit.training.run import (
    MANIFEST,
    PHOTO_DIGITS,
    PROGRESS,
    RECIPE,
    DataSeen,
    Fold,
    Progress,
    Run,
    discard_progress,
    fold_name,
    load_run,
)

LOCK = ".lock"
REFIT_NAME = "refit"


@dataclass(frozen=True)
class TrainingOptions:
    """What a user may choose beside the recipe.

    Attributes:
        data: The data folder.
        reading: How it is to be read, where that cannot be found by itself.
        runs: Where run folders are made.
        pretrained: "imagenet" downloads, "none" starts from random weights, a path is a folder of
            weight files; None takes what the recipe says.
        pretrained_missing: What to do for a backbone that has no file in that folder.
        name: Added to the run folder's name, so that runs stand side by side.
        seed: The training seed; None takes the recipe's.
        split_seed: Seed of the validation split.
        fresh: Throw away what stands in the run folder.
        folds: Trains each backbone once for each of so many folds; None holds out once.
        holdout: Share of the photos that stays outside all folds.
        only_folds: Which folds to train, from 0; None trains all.
        skip_broken: Leave broken photos out.
        refit_all: Train on all photos, without validation.
        mixed_precision: Compute in 16 bits; needs a GPU.
        tensorboard: Write TensorBoard logs.
        workers: Threads that prepare batches.
        jobs: How many backbones are trained at the same time; None takes as many as cores and
            memory allow, and one on a GPU. It changes no result.
        threads: Threads that one training computes with. They belong to a run's identity, because
            sums in another order have other last bits. None takes those of the run that goes on,
            and for a new one `default_threads`.
        checkpoint_every_s: Least seconds of training between two checkpoints; 0 writes one after
            each epoch.
    """

    data: Path = Path("data")
    reading: Reading = AUTO
    runs: Path = Path("runs")
    pretrained: str | None = None
    pretrained_missing: Literal["error", "none"] = "error"
    name: str | None = None
    seed: int | None = None
    split_seed: int = 42
    fresh: bool = False
    folds: int | None = None
    holdout: float | None = None
    only_folds: tuple[int, ...] | None = None
    skip_broken: bool = False
    refit_all: bool = False
    mixed_precision: bool = False
    tensorboard: bool = False
    workers: int = 2
    jobs: int | None = None
    threads: int | None = None
    checkpoint_every_s: float = 120.0

    def check(self) -> None:
        """Refuse values that are out of range.

        Raises:
            UsageError: Names the first.
        """
        if self.pretrained_missing not in ("error", "none"):
            raise UsageError.of(
                "pretrained_missing", self.pretrained_missing, "Expected error or none."
            )
        least = {"workers": 1, "jobs": 1, "threads": 1, "seed": 0, "split_seed": 0}
        for name, low in {**least, "checkpoint_every_s": 0}.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise UsageError.of(name, value, f"Expected at least {low}.")
        self._check_folds()

    def _check_folds(self) -> None:
        for name in ("holdout", "only_folds"):
            if self.folds is None and getattr(self, name) is not None:
                raise UsageError.of(name, getattr(self, name), "Expected together with `folds=K`.")
        if self.folds is None:
            return
        if self.folds < 2:
            raise UsageError.of("folds", self.folds, "Expected at least 2.")
        if self.refit_all:
            raise UsageError(
                "`refit_all=True`: trains on all photos, and `folds=K` holds some out. Choose one.",
                argument="refit_all",
            )
        if self.holdout is not None and not 0 < self.holdout < 1:
            raise UsageError.of("holdout", self.holdout, "Expected a share between 0 and 1.")
        chosen = self.only_folds
        if chosen is not None and (
            not chosen
            or len(set(chosen)) < len(chosen)
            or not all(0 <= number < self.folds for number in chosen)
        ):
            raise UsageError.of(
                "only_folds", chosen, f"Expected each once, from 0 to {self.folds - 1}."
            )

    @property
    def chosen_folds(self) -> tuple[int | None, ...]:
        """The folds to train; None alone stands for the one split of a training without folds."""
        if self.folds is None:
            return (None,)
        return self.only_folds or tuple(range(self.folds))


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
        when_finished: Called with each run as soon as it is finished, in the thread that called.

    Returns:
        The finished runs in the order of `backbones`, of each its folds in order.

    Raises:
        ToolkitError: Something the user can mend. Whatever can be checked is checked before the
            first run begins. Where a training fails, the others go on to their end before it is
            raised.
    """
    if importlib.util.find_spec("keras") is None:
        raise ToolkitError("Training needs Keras: pip install 'toolkit[train]'.")
    if options.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ToolkitError("`tensorboard=True`: pip install 'toolkit[train,tensorboard]' first.")
    chosen = [recipes.recipe(backbone) for backbone in backbones]
    starts = [_weights_start(recipe, options) for recipe in chosen]
    backend = choose_backend()
    _check_name(options.name)
    for recipe in chosen:
        _check_augmentor(recipe)
    if options.mixed_precision:
        in_own_process(_check_sixteen_bits, environment={"KERAS_BACKEND": backend})
    busy = (
        f"{options.runs}: another process is training here. Wait for it, or pass another "
        "`runs=DIR`."
    )
    with held(options.runs / LOCK, busy):
        dataset = load_labelled(options.data, options.reading, reporter)
        reporter.say(f"{options.data}: {dataset.found.line}")
        for warning in dataset.found.warnings:
            reporter.warn(warning)
        prepared = prepare(dataset, skip_broken=options.skip_broken, reporter=reporter)
        if prepared.left_out:
            reporter.say(f"left out as broken: {', '.join(prepared.left_out)}")
        dealt = None
        if options.folds is not None:
            dealt = prepared.folds(
                options.folds, options.holdout or 0.0, options.split_seed, reporter
            )
        plans = [
            _plan(recipe, start, prepared, options, backend, dealt, fold)
            for recipe, start in zip(chosen, starts, strict=True)
            for fold in options.chosen_folds
        ]
        for split in {plan.data.held_out: plan for plan in plans}.values():
            if split.data.validation_photos:
                wanted = split.data.validation_fraction
                prepared.tell_split(split.held_out, wanted, reporter)
        runs: dict[Path, Run] = {}
        todo: dict[Path, _Plan] = {}
        to_train = [
            plan.recipe for plan in plans if options.fresh or not (plan.folder / MANIFEST).is_file()
        ]
        hashes = [fact.sha256 for fact in prepared.facts]
        on_gpu = may_have_gpu()
        refuse_too_little(
            to_train,
            options.runs,
            hashes,
            prepared.pixels,
            Capacity.here(),
            reporter,
            on_gpu=on_gpu,
        )
        for plan in plans:
            run = None if options.fresh else _done(plan)
            if run is None:
                todo[plan.folder] = plan
                continue
            reporter.say(f"{run.label}: finished on {run.finished}, not trained again")
            when_finished(run)
            runs[plan.folder] = run
        if todo:
            runs |= _train(list(todo.values()), prepared, options, reporter, when_finished)
        return [runs[plan.folder] for plan in plans]


def default_workers() -> int:
    """Return how many threads prepare batches where none are named."""
    return min(4, usable_cores())


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
    outside: np.ndarray[Any, np.dtype[np.bool_]]
    identity: dict[str, Any]

    @property
    def name(self) -> str:
        """How messages and processes name it: after its folder, each in a set's once."""
        return self.folder.name

    @property
    def trained(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return np.asarray(~(self.held_out | self.outside))


def _weights_start(recipe: Recipe, options: TrainingOptions) -> _WeightsStart:
    chosen = options.pretrained or recipe.weights
    if chosen in ("none", "imagenet"):
        return _WeightsStart(chosen == "imagenet", None, "")
    folder = Path(chosen)
    if not folder.is_dir():
        raise UsageError.of(
            "pretrained",
            chosen,
            "Expected imagenet, none or a folder. "
            f"{nearest(chosen, ('imagenet', 'none'))}".rstrip(),
        )
    path = folder / find_backbone(recipe.backbone).weights_file
    if path.is_file():
        return _WeightsStart(True, folder, sha256_file(path))
    if options.pretrained_missing == "none":
        return _WeightsStart(False, None, "")
    raise ToolkitError(
        f"{path}: no such file. Put the weights there, or pass `pretrained_missing='none'` to "
        f"train {recipe.backbone} from nothing.",
        path=path,
    )


def _check_augmentor(recipe: Recipe) -> None:
    try:
        Augmentor(recipe.augmentor, recipe.image_size).check(recipe.stored_square.size)
    except ToolkitError as error:
        where = f"{recipe.set}/{recipe.backbone} at image_size {recipe.image_size}"
        raise error.within(where) from None


def _check_name(name: str | None) -> None:
    if name is not None and not re.fullmatch(r"\w[\w.-]*", name):
        raise UsageError.of("name", name, "Expected letters, digits, '_', '.' and '-'.")


def _plan(
    recipe: Recipe,
    start: _WeightsStart,
    prepared: Prepared,
    options: TrainingOptions,
    backend: str,
    dealt: np.ndarray[Any, np.dtype[np.int64]] | None,
    fold: int | None,
) -> _Plan:
    check_classes(recipe, prepared.dataset.classes)
    fraction = 0.0 if options.refit_all else recipe.validation_fraction
    given = prepared.given
    outside = np.zeros(len(prepared.labels), dtype=np.bool_)
    if dealt is not None:
        held_out, outside = dealt == fold, dealt == OUTSIDE
        fraction = float(held_out.mean())
    elif options.refit_all:
        held_out = np.zeros(len(prepared.labels), dtype=np.bool_)
    elif given is not None:
        held_out, fraction = given, float(given.mean())
        prepared.refuse_uncovered(held_out, "those that the data itself holds out")
    else:
        held_out = prepared.held_out(fraction, options.split_seed)
    trained = ~(held_out | outside)
    check_accumulation(recipe, int(trained.sum()))
    classes = prepared.dataset.classes
    data = DataSeen(
        folder=str(options.data.absolute()),
        fingerprint=prepared.dataset.fingerprint,
        classes=classes,
        class_counts=tuple(np.bincount(prepared.labels[trained], minlength=len(classes)).tolist()),
        split_seed=options.split_seed,
        validation_fraction=fraction,
        training_photos=int(trained.sum()),
        validation_photos=int(held_out.sum()),
        left_out=prepared.left_out,
        held_out=_hash_of_held_out(prepared, held_out),
        photos_sha256=sha256_json([fact.sha256 for fact in prepared.facts]),
        reading=options.reading.recorded(options.data),
        split_by="data"
        if given is not None and not options.refit_all and dealt is None
        else "seed",
        pixels=prepared.pixels,
        fold=None if dealt is None or fold is None else _fold(prepared, dealt, fold, options),
    )
    name = options.name or (REFIT_NAME if options.refit_all else None)
    if fold is not None:
        name = f"{name}-{fold_name(fold)}" if name else fold_name(fold)
    folder = run_folder(options.runs, recipe, name)
    known = None if options.fresh else _known_identity(folder)
    # A run that is known goes on with its own threads, as on a machine with other cores.
    threads = options.threads or (known or {}).get("threads") or default_threads()
    identity = {
        "recipe": recipe.settings,
        "data": data.fingerprint,
        "photos_sha256": data.photos_sha256,
        "pixels": data.pixels.settings,
        "split_seed": options.split_seed,
        "validation_fraction": fraction,
        "held_out": data.held_out,
        "fold": asdict(data.fold) if data.fold else None,
        "seed": recipe.seed if options.seed is None else options.seed,
        "pretrained": start.said,
        "mixed_precision": options.mixed_precision,
        "backend": backend,
        "threads": threads,
    }
    if known:
        _refuse_another(folder, known, identity)
    return _Plan(recipe, start, folder, data, held_out, outside, identity)


def _fold(
    prepared: Prepared,
    dealt: np.ndarray[Any, np.dtype[np.int64]],
    number: int,
    options: TrainingOptions,
) -> Fold:
    ids = [photo.id for photo in prepared.dataset.photos]
    assert options.folds is not None
    return Fold(
        number=number,
        count=options.folds,
        dealt=sha256_json([ids, dealt.tolist()]),
        outside_photos=int((dealt == OUTSIDE).sum()),
        holdout=options.holdout or 0.0,
    )


def _known_identity(folder: Path) -> dict[str, Any] | None:
    """Return the identity of the run that a folder holds, finished or not."""
    if (folder / MANIFEST).is_file():
        return load_run(folder).identity
    progress = Progress.load(folder)
    return progress.identity if progress else None


def _refuse_another(folder: Path, known: dict[str, Any], identity: dict[str, Any]) -> None:
    changed = _changed_keys(known, identity)
    if changed:
        raise RunError(
            f"{folder}: holds a run with another {', '.join(changed)}. Pass `name=NAME` to train "
            "beside it, or `fresh=True` to discard it.",
            path=folder,
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


def _trained_on(prepared: Prepared, trained: np.ndarray[Any, np.dtype[np.bool_]]) -> str:
    facts = prepared.facts
    return "".join(facts[index].sha256[:PHOTO_DIGITS] for index in np.flatnonzero(trained))


def _train(
    plans: Sequence[_Plan],
    prepared: Prepared,
    options: TrainingOptions,
    reporter: Reporter,
    when_finished: Callable[[Run], None],
) -> dict[Path, Run]:
    """Train in processes of their own, some at the same time, and return runs by folder.

    Raises:
        ToolkitError: Trainings failed; the others have gone on to their end.
    """
    photos = _decoded(plans, prepared, reporter)
    backend = str(plans[0].identity["backend"])
    at_once = _at_once([plan.recipe for plan in plans], backend, options.jobs, reporter)
    by_name = {plan.name: plan for plan in plans}
    runs: dict[Path, Run] = {}
    failed: dict[Path, Exception] = {}

    def calls() -> Iterator[Call]:
        for name, plan in by_name.items():
            _begin(plan, options, reporter)
            own, stored = photos[plan.recipe.square], photos[plan.recipe.stored_square]
            reporter.detail(f"{name}: decoded photos in {own}")
            arguments = (plan, own, stored, prepared, options, reporter)
            settings = framework_settings(backend, plan.identity["threads"], shared=at_once > 1)
            yield Call(name, _fit_in_child, arguments, settings)

    def ended(outcome: Outcome) -> None:
        works.forget(outcome.name)
        folder = by_name[outcome.name].folder
        if outcome.error is None:
            runs[folder] = outcome.result
            when_finished(outcome.result)
        else:
            failed[folder] = outcome.error
            if len(plans) > 1:
                reporter.say(f"{outcome.name}: failed: {outcome.error}")

    with Works(reporter) as works:
        in_own_processes(calls(), at_once, works.hear, ended)
    if failed:
        raise _failure(failed, len(plans))
    return runs


def _at_once(recipes: Sequence[Recipe], backend: str, jobs: int | None, reporter: Reporter) -> int:
    needs = [training_memory(recipe) for recipe in recipes]
    at_once = min(jobs, len(needs)) if jobs else trainings_at_once(needs, backend)
    if at_once > 1:
        reporter.say(f"{len(needs)} networks to train, {at_once} at the same time")
        if how_many_fit(needs) < at_once:
            needed, free = sum(sorted(needs)[-at_once:]), available_memory()
            reporter.say(
                f"warning: so many may need {needed / 2**30:.1f} GiB of memory, of which "
                f"{free / 2**30:.1f} GiB are free; the system may kill one"
            )
    return at_once


def _failure(failed: Mapping[Path, Exception], count: int) -> Exception:
    for folder, error in failed.items():
        if not isinstance(error, ToolkitError):
            error.add_note(f"while {folder} was trained")
            return error
        if count == 1:
            return error if str(folder) in str(error) else error.within(folder)
    messages = [
        str(error) if str(folder) in str(error) else f"{folder}: {error}"
        for folder, error in failed.items()
    ]
    return ToolkitError(
        f"{len(messages)} of {counted(count, 'training')} failed:\n{listing(messages)}"
    )


def _decoded(plans: Sequence[_Plan], prepared: Prepared, reporter: Reporter) -> dict[Square, Path]:
    """Decode photos to all squares, here and once, before processes that share them begin."""
    paths = [photo.path for photo in prepared.dataset.photos]
    hashes = [fact.sha256 for fact in prepared.facts]
    squares = [each for plan in plans for each in (plan.recipe.square, plan.recipe.stored_square)]
    return {
        square: decoded_photos(paths, hashes, square, prepared.pixels, reporter)
        for square in dict.fromkeys(squares)
    }


def _begin(plan: _Plan, options: TrainingOptions, reporter: Reporter) -> None:
    if options.fresh:
        remove_folder(plan.folder)
    plan.folder.mkdir(parents=True, exist_ok=True)
    remove_half_written(plan.folder)
    if not (plan.folder / PROGRESS).is_file():
        write_text(plan.folder / RECIPE, plan.recipe.to_yaml())
    start = "ImageNet weights" if plan.start.pretrained else "random weights"
    reporter.say(
        f"{plan.folder}: {counted(plan.data.training_photos, 'photo')} at "
        f"{plan.recipe.square}, at most {counted(plan.recipe.epochs, 'epoch')} from {start}"
    )
    _say_what_is_dropped(plan, reporter)
    for key in ("backend", "threads", "seed", "split_seed", "pretrained"):
        reporter.detail(f"{plan.name}: {key} {plan.identity[key]}")


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
    tell: Callable[[Any], None],
) -> Run:
    # Keras is imported here, in the child, and nowhere in the parent.
    keep_freed_memory()
    import_quietly("keras")
    set_threads(plan.identity["threads"])
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
            outside=plan.outside,
            trained_on=_trained_on(prepared, plan.trained),
            pretrained=plan.start.pretrained,
            weights_folder=plan.start.folder,
            seed=plan.identity["seed"],
            workers=options.workers,
            mixed_precision=options.mixed_precision,
            tensorboard=options.tensorboard,
            checkpoint_every_s=options.checkpoint_every_s,
            reporter=Relayed(reporter.quiet, reporter.verbose, tell),
        )
    )
