"""Trains one run in the process it is called in, going on where an earlier call was killed."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from toolkit.data.augmentor import Augmentor
from toolkit.data.pixels import Pixels
from toolkit.files import sha256_file, written_whole
from toolkit.machine import package_versions, peak_memory_bytes
from toolkit.metrics import have_order, score
from toolkit.progress import Reporter, counted
from toolkit.training.backend import jit_compile, set_jit_compile, sixteen_bit_policy
from toolkit.training.batches import PlainBatches, TrainingBatches
from toolkit.training.callbacks import AveragedWeights, WholeValidation, recipe_callbacks
from toolkit.training.checkpoints import Checkpoints
from toolkit.training.epoch import batches_an_epoch
from toolkit.training.imbalance import class_weights
from toolkit.training.mixing import Mixing
from toolkit.training.model import (
    build_model,
    freeze,
    load_imagenet,
    reestimate_batch_norm,
)
from toolkit.training.optimizer import build_optimizer
from toolkit.training.recipe import Recipe
from toolkit.training.recorder import Recorder
from toolkit.training.registry import find_backbone
from toolkit.training.run import (
    MODEL,
    OUTSIDE_PREDICTIONS,
    VALIDATION,
    DataSeen,
    Progress,
    Run,
    Validation,
    discard_progress,
    save_run,
    write_history,
)

VERSIONED = ("toolkit", "keras", "tensorflow", "jax", "torch", "numpy", "albumentations", "pillow")


FOCAL_GAMMA = 2.0
"""As Lin et al. found best."""

MOST_PHOTOS_FOR_STATISTICS, STATISTICS_BATCH = 1024, 64
"""Enough for means and variances of a network's channels."""


@dataclass(frozen=True)
class Job:
    """One run to train; it can be sent to another process.

    Attributes:
        folder: The run folder.
        recipe: Its settings.
        data: Which photos it sees.
        identity: What must be equal for the run to be the same.
        photos: `.npy` file of all decoded photos as the network looks at them.
        stored: `.npy` file of all decoded photos as the augmentor gets them; often the same.
        ids: Of all photos.
        labels: Shape (photos,), class indices.
        groups: Shape (photos,), near-duplicate groups.
        held_out: Shape (photos,), True for validation photos; none where all are trained on.
        outside: Shape (photos,), True for photos outside all folds, which are neither.
        trained_on: What the run records of the training photos' hashes.
        pretrained: Whether the backbone starts from ImageNet weights.
        weights_folder: Where they lie; None downloads them.
        seed: The training seed.
        workers: Threads that prepare batches.
        mixed_precision: Compute in 16 bits.
        tensorboard: Write TensorBoard logs into the run folder.
        checkpoint_every_s: Least seconds between two checkpoints.
        reporter: Where progress is told.
    """

    folder: Path
    recipe: Recipe
    data: DataSeen
    identity: dict[str, Any]
    photos: Path
    stored: Path
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    held_out: NDArray[np.bool_]
    outside: NDArray[np.bool_]
    trained_on: str
    pretrained: bool
    weights_folder: Path | None
    seed: int
    workers: int
    mixed_precision: bool
    tensorboard: bool
    checkpoint_every_s: float
    reporter: Reporter

    @property
    def trained(self) -> NDArray[np.bool_]:
        """Shape (photos,), True for training photos."""
        return np.asarray(~(self.held_out | self.outside))


def fit(job: Job) -> Run:
    """Train a run to its end.

    Args:
        job: The run. Where its folder holds a `progress.json`, training goes on from there.

    Returns:
        The finished run, as it stands in its folder.
    """
    if job.mixed_precision:
        keras.mixed_precision.set_global_policy(sixteen_bit_policy())
    keras.utils.set_random_seed(job.seed)
    photos = np.load(job.photos, mmap_mode="r")
    progress = _progress(job)
    checkpoints = Checkpoints(job.folder, job.checkpoint_every_s)
    model = _network(job, progress)
    for index in range(progress.stage, len(job.recipe.stages)):
        if index > progress.stage:
            _enter_stage(job, progress, index)
            checkpoints.set_best(model, progress)
        if not progress.stage_done:
            _compile(job, model, index)
            if progress.stage_epoch:
                checkpoints.restore(model, progress)
            _fit_stage(job, progress, model, checkpoints, photos)
    return _finish(job, progress, checkpoints, photos)


def load_model(path: Path) -> keras.Model:
    """Load a run's model for prediction."""
    model: keras.Model = keras.models.load_model(path, compile=False)
    return model


def predict(
    model: keras.Model, photos: Pixels, chosen: NDArray[np.int64], batch_size: int
) -> NDArray[np.float32]:
    """Return probabilities of shape (chosen, classes) for some of the pixels (photos, S, S, 3)."""
    set_jit_compile(model)
    batches = PlainBatches(
        photos, np.zeros(len(photos), dtype=np.int64), chosen, classes=1, batch_size=batch_size
    )
    probabilities: NDArray[np.float32] = model.predict(batches, verbose=0)
    return probabilities


def _fit_stage(
    job: Job, progress: Progress, model: keras.Model, checkpoints: Checkpoints, photos: Pixels
) -> None:
    stage = job.recipe.stages[progress.stage]
    validates = bool(job.held_out.any())
    remembered = recipe_callbacks(job.recipe, validates=validates)
    extra: list[Any] = []
    if job.recipe.averages(stage):
        extra.append(
            AveragedWeights(
                lambda averaged: _reestimate(job, averaged, photos),
                averaged=progress.stage_epoch > 0,
            )
        )
    if job.tensorboard:
        extra += [keras.callbacks.TensorBoard(job.folder / "tensorboard" / stage.name)]
    classes, batch_size = len(job.data.classes), job.recipe.batch_size
    trained, judged = np.flatnonzero(job.trained), np.flatnonzero(job.held_out)
    validation = PlainBatches(photos, job.labels, judged, classes=classes, batch_size=batch_size)
    if validates and job.recipe.watched:
        extra.append(
            WholeValidation(
                job.recipe.watched,
                validation,
                job.labels[judged],
                ordered=have_order(job.data.classes),
            )
        )
    training = TrainingBatches(
        np.load(job.stored, mmap_mode="r"),
        job.labels,
        trained,
        classes=classes,
        batch_size=batch_size,
        augmentor=Augmentor(job.recipe.augmentor, job.recipe.image_size),
        seed=job.seed,
        epoch=len(progress.history),
        workers=job.workers,
        mixing=_mixing(job.recipe),
        class_weights=class_weights(job.recipe, job.labels[trained], job.data.classes),
        balanced=job.recipe.sampling == "balanced",
    )
    recorder = Recorder(
        job.folder, job.recipe, job.seed, progress, remembered, checkpoints, job.reporter
    )
    model.fit(
        training,
        validation_data=validation if validates else None,
        initial_epoch=progress.stage_epoch,
        epochs=stage.epochs,
        shuffle=False,  # Keras would draw the order of the batches from the process's own state.
        callbacks=[*extra, *remembered, recorder],
        verbose=0,
    )


def _create_variables(model: keras.Model, classes: int) -> None:
    """Create the variables of optimizer and metrics before the first step.

    TensorFlow traces a step that creates variables twice, which takes up to half a minute.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    answer = keras.ops.full((1, classes), 1 / classes)
    model.compute_loss(None, answer, answer)
    model.compute_metrics(None, answer, answer)
    model.reset_metrics()


def _mixing(recipe: Recipe) -> Mixing:
    return Mixing(
        label_smoothing=recipe.label_smoothing or 0.0,
        mixup_alpha=recipe.mixup.alpha if recipe.mixup else None,
        cutmix_alpha=recipe.cutmix.alpha if recipe.cutmix else None,
    )


def _compile(job: Job, model: keras.Model, index: int) -> None:
    recipe, stage = job.recipe, job.recipe.stages[index]
    freeze(model, stage.frozen_fraction)
    photos = int(job.trained.sum())
    steps = stage.epochs * batches_an_epoch(photos, recipe.batch_size)
    model.compile(
        optimizer=build_optimizer(recipe, stage, steps),
        loss=_loss(recipe),
        metrics=["accuracy"],  # Of mixed targets: whether the class of the largest share was found.
        jit_compile=jit_compile(),
    )
    _create_variables(model, len(job.data.classes))


def _loss(recipe: Recipe) -> Any:
    if recipe.loss == "focal":
        gamma = FOCAL_GAMMA if recipe.focal_gamma is None else recipe.focal_gamma
        # Keras's alpha is one factor for all classes: `class_weights` weighs them.
        return keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=gamma)
    return recipe.loss


def _progress(job: Job) -> Progress:
    known = Progress.load(job.folder)
    progress = known or Progress(identity=job.identity)
    if known:
        done = len(known.history)
        job.reporter.say(
            f"{job.folder.name}: going on after epoch {done} of at most {job.recipe.epochs}"
            if done
            else f"{job.folder.name}: starting again; no checkpoint had been written yet"
        )
    # From now on the folder is this run's, and what a killed process had begun to write is removed.
    progress.save(job.folder)
    return progress


def _network(job: Job, progress: Progress) -> keras.Model:
    model = build_model(job.recipe, len(job.data.classes), pretrained=job.pretrained)
    if job.pretrained and not progress.history:
        load_imagenet(model, find_backbone(job.recipe.backbone), job.weights_folder)
    return model


def _enter_stage(job: Job, progress: Progress, index: int) -> None:
    progress.stage, progress.stage_epoch, progress.stage_done = index, 0, False
    progress.callbacks = {}
    job.reporter.say(
        f"{job.folder.name}: stage '{job.recipe.stages[index].name}' begins with the weights "
        f"of epoch {progress.best_epoch}"
    )


def _reestimate(job: Job, model: keras.Model, photos: Pixels) -> int:
    chosen = np.random.default_rng(job.seed).permutation(np.flatnonzero(job.trained))
    chosen = chosen[:MOST_PHOTOS_FOR_STATISTICS]
    batches = PlainBatches(
        photos, job.labels, chosen, classes=len(job.data.classes), batch_size=STATISTICS_BATCH
    )
    reestimate_batch_norm(model, (batches[index][0] for index in range(len(batches))))
    return len(chosen)


def _predicted(
    job: Job, model: keras.Model, photos: Pixels, chosen: NDArray[np.int64]
) -> Validation:
    return Validation(
        np.array([job.ids[index] for index in chosen]),
        job.labels[chosen],
        job.groups[chosen],
        predict(model, photos, chosen, job.recipe.batch_size),
    )


def _finish(job: Job, progress: Progress, checkpoints: Checkpoints, photos: Pixels) -> Run:
    keras.mixed_precision.set_global_policy("float32")
    # Built anew: in float32 whatever it was trained in, and without the optimizer's state.
    model = build_model(job.recipe, len(job.data.classes), pretrained=job.pretrained)
    checkpoints.set_best(model, progress)
    if job.recipe.reestimate_batch_norm:
        count = _reestimate(job, model, photos)
        used = counted(count, "photo")
        job.reporter.say(f"{job.folder.name}: batch statistics from {used}")
    with written_whole(job.folder / MODEL) as temporary:
        model.save(temporary)
    figures = None
    chosen = np.flatnonzero(job.held_out)
    (job.folder / VALIDATION).unlink(missing_ok=True)
    if len(chosen):
        validation = _predicted(job, model, photos, chosen)
        validation.save(job.folder / VALIDATION)
        ordered = have_order(job.data.classes)
        figures = score(validation.probabilities, validation.labels, ordered=ordered)
    outside = np.flatnonzero(job.outside)
    (job.folder / OUTSIDE_PREDICTIONS).unlink(missing_ok=True)
    if len(outside):
        _predicted(job, model, photos, outside).save(job.folder / OUTSIDE_PREDICTIONS)
    run = Run(
        folder=job.folder,
        recipe=job.recipe,
        data=job.data,
        identity=job.identity,
        score=figures,
        epochs=len(progress.history),
        seconds=round(progress.seconds, 1),
        best_epoch=progress.best_epoch,
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        versions={"backend": keras.backend.backend(), **package_versions(VERSIONED)},
        model_sha256=sha256_file(job.folder / MODEL),
        peak_memory_bytes=peak_memory_bytes(),
        weights_folder=str(job.weights_folder.absolute()) if job.weights_folder else "",
        trained_on=job.trained_on,
    )
    write_history(job.folder, progress.history)
    save_run(run)
    discard_progress(job.folder)
    return run
