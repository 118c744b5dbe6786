"""Trains one run in the process it is called in, going on where an earlier call was killed."""

from __future__ import annotations

import datetime
import importlib.metadata
import shutil
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from toolkit.data.augmentor import Augmentor, photo_seed
from toolkit.data.pixels import DECODER_VERSION, Pixels
from toolkit.errors import ToolkitError
from toolkit.files import sha256_file, written_whole
from toolkit.metrics import score
from toolkit.progress import Reporter
from toolkit.training.batches import PlainBatches, TrainingBatches
from toolkit.training.model import (
    backbone_of,
    build_model,
    copy_weights,
    freeze,
    load_imagenet,
)
from toolkit.training.recipe import Recipe, Stage
from toolkit.training.registry import find_backbone
from toolkit.training.run import (
    CHECKPOINTS,
    MODEL,
    PROGRESS,
    VALIDATION,
    DataSeen,
    Progress,
    Run,
    Validation,
    save_run,
    write_history,
)

VERSIONED = ("keras", "tensorflow", "jax", "torch", "numpy", "albumentations", "toolkit")


@dataclass(frozen=True)
class Job:
    """One run to train; it can be sent to another process.

    Attributes:
        folder: The run folder.
        recipe: Its settings.
        data: Which photos it sees.
        identity: What must be equal for the run to be the same.
        photos: `.npy` file of all decoded photos at the recipe's size.
        ids: Of all photos.
        labels: Shape (photos,), class indices.
        groups: Shape (photos,), near-duplicate groups.
        held_out: Shape (photos,), True for validation photos; none where all are trained on.
        pretrained: Whether the backbone starts from ImageNet weights.
        weights_folder: Where they lie; None downloads them.
        seed: The training seed.
        workers: Threads that prepare batches.
        mixed_precision: Compute in 16 bits.
        tensorboard: Write TensorBoard logs into the run folder.
        reporter: Where progress is told.
    """

    folder: Path
    recipe: Recipe
    data: DataSeen
    identity: dict[str, Any]
    photos: Path
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    held_out: NDArray[np.bool_]
    pretrained: bool
    weights_folder: Path | None
    seed: int
    workers: int
    mixed_precision: bool
    tensorboard: bool
    reporter: Reporter


def fit(job: Job) -> Run:
    """Train a run to its end.

    Args:
        job: The run. Where its folder holds a `progress.json`, training goes on from there.

    Returns:
        The finished run, as it stands in its folder.
    """
    if job.mixed_precision:
        keras.mixed_precision.set_global_policy(_sixteen_bit_policy())
    keras.utils.set_random_seed(job.seed)
    photos = np.load(job.photos, mmap_mode="r")
    progress = Progress.load(job.folder) or Progress(identity=job.identity)
    (job.folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    model = _resumed(job, progress) if progress.checkpoint else _new_model(job)
    for index in range(progress.stage, len(job.recipe.stages)):
        if index > progress.stage:
            model = _checkpoint(job, progress.best_checkpoint)
            _enter_stage(progress, index)
        if progress.stage_epoch == 0:
            _compile(model, job.recipe, job.recipe.stages[index])
        _fit_stage(job, progress, model, photos)
    return _finish(job, progress, photos)


def load_model(path: Path) -> keras.Model:
    """Load a run's model for prediction."""
    model: keras.Model = keras.models.load_model(path, compile=False)
    return model


def predict(model: keras.Model, photos: Pixels, batch_size: int) -> NDArray[np.float32]:
    """Return probabilities of shape (photos, classes) for pixels of shape (photos, S, S, 3)."""
    chosen = np.arange(len(photos))
    batches = PlainBatches(
        photos, np.zeros(len(photos), dtype=np.int64), chosen, classes=1, batch_size=batch_size
    )
    probabilities: NDArray[np.float32] = model.predict(batches, verbose=0)
    return probabilities


class _Recorder(keras.callbacks.Callback):
    """Writes each finished epoch down. It has to come after the callbacks it remembers."""

    REMEMBERED = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")

    def __init__(self, job: Job, progress: Progress, remembered: list[Any]) -> None:
        super().__init__()
        self._job, self._progress, self._remembered = job, progress, remembered
        self._started = 0.0
        self._steps: Any = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        # Keras's callbacks forget their counters when training begins; they get them back here.
        for callback in self._remembered:
            for key, value in self._progress.callbacks.get(type(callback).__name__, {}).items():
                setattr(callback, key, value)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._started = time.monotonic()
        _seed_dropout(self.model, self._job.seed, len(self._progress.history))
        label = f"{self._job.recipe.backbone} epoch {len(self._progress.history) + 1}"
        self._tracking = self._job.reporter.track(label, int(self.params["steps"] or 0), "steps")
        self._advance = self._tracking.__enter__()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._advance(1)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._tracking.__exit__(None, None, None)
        figures = dict(logs or {})
        if not np.isfinite(figures["loss"]):
            raise ToolkitError(
                f"{self._job.folder}: the loss became {figures['loss']} in epoch {epoch + 1}. "
                "Lower optimizer.learning_rate in the recipe."
            )
        progress = self._progress
        progress.stage_epoch = epoch + 1
        progress.stage_done = bool(self.model.stop_training)
        seconds = time.monotonic() - self._started
        progress.seconds += seconds
        progress.history.append(self._history_row(figures, seconds))
        number = len(progress.history)
        progress.checkpoint = f"epoch-{number:04d}.keras"
        best = self._is_best(figures)
        if best:
            progress.best_checkpoint, progress.best_epoch = progress.checkpoint, number
        progress.callbacks = {
            type(callback).__name__: {
                key: _plain(getattr(callback, key))
                for key in self.REMEMBERED
                if hasattr(callback, key)
            }
            for callback in self._remembered
        }
        with written_whole(self._job.folder / CHECKPOINTS / progress.checkpoint) as temporary:
            self.model.save(temporary)
        progress.save(self._job.folder)
        write_history(self._job.folder, progress.history)
        self._job.reporter.say(_epoch_line(self._job, progress, best))

    def _history_row(self, figures: dict[str, float], seconds: float) -> dict[str, Any]:
        stage = self._job.recipe.stages[self._progress.stage]
        keys = ("loss", "accuracy", "val_loss", "val_accuracy")
        return {
            "epoch": len(self._progress.history) + 1,
            "stage": stage.name,
            **{key: _plain(figures.get(key)) for key in keys},
            "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "seconds": round(seconds, 2),
        }

    def _is_best(self, figures: dict[str, float]) -> bool:
        progress, metric = self._progress, self._job.recipe.keep_best
        if metric not in figures:
            return True  # Trained on all photos: the last weights are the ones to keep.
        value = float(figures[metric])
        known = progress.best_value
        better = known is None or (value < known if metric.endswith("loss") else value > known)
        if better:
            progress.best_value = value
        return better


def _fit_stage(job: Job, progress: Progress, model: keras.Model, photos: Pixels) -> None:
    stage = job.recipe.stages[progress.stage]
    if progress.stage_done or progress.stage_epoch >= stage.epochs:
        return
    validates = bool(job.held_out.any())
    remembered = _recipe_callbacks(job.recipe) if validates else []
    extra: list[Any] = []
    if job.tensorboard:
        extra = [keras.callbacks.TensorBoard(job.folder / "tensorboard" / stage.name)]
    classes, batch_size = len(job.data.classes), job.recipe.batch_size
    training = TrainingBatches(
        photos,
        job.labels,
        np.flatnonzero(~job.held_out),
        classes=classes,
        batch_size=batch_size,
        augmentor=Augmentor(job.recipe.augmentor),
        seed=job.seed,
        epoch=len(progress.history),
        workers=job.workers,
    )
    validation = PlainBatches(
        photos, job.labels, np.flatnonzero(job.held_out), classes=classes, batch_size=batch_size
    )
    model.fit(
        training,
        validation_data=validation if validates else None,
        initial_epoch=progress.stage_epoch,
        epochs=stage.epochs,
        shuffle=False,  # Keras would draw the order of the batches from the process's own state.
        callbacks=[*extra, *remembered, _Recorder(job, progress, remembered)],
        verbose=0,
    )


def _recipe_callbacks(recipe: Recipe) -> list[Any]:
    callbacks: list[Any] = []
    if recipe.early_stopping:
        stopping = recipe.early_stopping
        callbacks.append(
            keras.callbacks.EarlyStopping(stopping.monitor, patience=stopping.patience)
        )
    if recipe.reduce_on_plateau:
        plateau = recipe.reduce_on_plateau
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                plateau.monitor,
                factor=plateau.factor,
                patience=plateau.patience,
                min_lr=plateau.min_learning_rate,
            )
        )
    return callbacks


def _compile(model: keras.Model, recipe: Recipe, stage: Stage) -> None:
    freeze(model, stage.frozen_fraction)
    rate: Any = stage.learning_rate or recipe.optimizer.learning_rate
    if recipe.exponential_decay:
        decay = recipe.exponential_decay
        rate = keras.optimizers.schedules.ExponentialDecay(rate, decay.every_steps, decay.rate)
    optimizer = getattr(keras.optimizers, recipe.optimizer.name)(learning_rate=rate)
    model.compile(
        optimizer=optimizer, loss=recipe.loss, metrics=["accuracy"], jit_compile=_jit_compile()
    )


def _new_model(job: Job) -> keras.Model:
    model = build_model(job.recipe, len(job.data.classes), pretrained=job.pretrained)
    if job.pretrained:
        load_imagenet(model, find_backbone(job.recipe.backbone), job.weights_folder)
    return model


def _resumed(job: Job, progress: Progress) -> keras.Model:
    job.reporter.say(
        f"{job.recipe.backbone}: going on after epoch {len(progress.history)} of at most "
        f"{job.recipe.epochs}"
    )
    return _checkpoint(job, progress.checkpoint)


def _checkpoint(job: Job, name: str) -> keras.Model:
    path = job.folder / CHECKPOINTS / name
    try:
        model: keras.Model = keras.models.load_model(path)
    except (OSError, ValueError) as error:
        raise ToolkitError(
            f"{path}: the checkpoint cannot be read ({error}); pass --fresh."
        ) from None
    return model


def _enter_stage(progress: Progress, index: int) -> None:
    progress.stage, progress.stage_epoch, progress.stage_done = index, 0, False
    progress.callbacks = {}
    progress.best_value = None


def _finish(job: Job, progress: Progress, photos: Pixels) -> Run:
    best = _checkpoint(job, progress.best_checkpoint)
    keras.mixed_precision.set_global_policy("float32")
    # Built anew: in float32 whatever it was trained in, and without the optimizer's state.
    model = build_model(job.recipe, len(job.data.classes), pretrained=job.pretrained)
    copy_weights(best, model)
    with written_whole(job.folder / MODEL) as temporary:
        model.save(temporary)
    figures: dict[str, Any] = {}
    chosen = np.flatnonzero(job.held_out)
    (job.folder / VALIDATION).unlink(missing_ok=True)
    if len(chosen):
        probabilities = predict(model, photos[chosen], job.recipe.batch_size)
        validation = Validation(
            np.array([job.ids[index] for index in chosen]),
            job.labels[chosen],
            job.groups[chosen],
            probabilities,
        )
        validation.save(job.folder / VALIDATION)
        figures = asdict(score(probabilities, validation.labels))
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
        versions=_versions(),
        model_sha256=sha256_file(job.folder / MODEL),
    )
    save_run(run)
    (job.folder / PROGRESS).unlink(missing_ok=True)
    shutil.rmtree(job.folder / CHECKPOINTS)
    return run


def _seed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    """Draw dropout from (seed, epoch), so that a resumed epoch drops what it would have dropped.

    Keras saves no state of random generators with a model.
    """
    for layer in [*model.layers, *backbone_of(model).layers]:
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            own = zlib.crc32(layer.name.encode())
            generator.state.assign(np.array([photo_seed(seed, epoch, own), 0], dtype=np.uint32))


def _sixteen_bit_policy() -> str:
    if not _gpu_is_visible():
        raise ToolkitError(
            f"--mixed-precision: no GPU is visible to Keras's backend "
            f"'{keras.backend.backend()}' (see 'toolkit doctor'); leave the option out."
        )
    return "mixed_float16"


def _jit_compile() -> bool | str:
    # Keras would compile with XLA on a CPU too, where TensorFlow's own kernels start in a third of
    # the time and run several times faster on busy cores.
    if keras.backend.backend() == "tensorflow" and not _gpu_is_visible():
        return False
    return "auto"


def _gpu_is_visible() -> bool:
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        return bool(tensorflow.config.list_physical_devices("GPU"))
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() in ("gpu", "tpu")
    import torch

    return torch.cuda.is_available()


def _epoch_line(job: Job, progress: Progress, best: bool) -> str:
    row = progress.history[-1]
    stage = job.recipe.stages[progress.stage]
    parts = [
        f"{job.recipe.backbone:<15} {row['stage']} {progress.stage_epoch}/{stage.epochs}",
        f"loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}",
    ]
    if row["val_loss"] is not None:
        parts.append(f"validation loss {row['val_loss']:.4f}  accuracy {row['val_accuracy']:.4f}")
    parts += [f"rate {row['learning_rate']:.2e}", f"{row['seconds']:.0f} s"]
    return "  ".join(parts) + ("  best" if best and row["val_loss"] is not None else "")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _versions() -> dict[str, str]:
    found = {"backend": keras.backend.backend(), "decoder": DECODER_VERSION}
    for name in VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
