"""A run: one trained network in one folder, with all that is known about it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
import pydantic
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, PositiveInt

from toolkit.artifacts import (
    Count,
    Sha256,
    Share,
    artifact,
    check_predictions,
    check_probabilities,
    read_arrays,
    read_artifact,
)
from toolkit.data.pixels import PixelDefinition
from toolkit.data.reading import ReadingRecord
from toolkit.errors import RunError
from toolkit.files import (
    read_json,
    regular_file,
    sha256_file,
    sha256_json,
    write_json,
    write_text,
    written_whole,
)
from toolkit.metrics import Score
from toolkit.training.recipe import Recipe
from toolkit.training.recipe_files import recipe_from_yaml

SCHEMA_VERSION = 4
MANIFEST, RECIPE, MODEL = "run.json", "recipe.yaml", "model.keras"
HISTORY, VALIDATION, CURVES = "history.csv", "validation.npz", "curves.png"
PROGRESS, CHECKPOINTS = "progress.json", "checkpoints"

METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")
"""Columns of the history, which are empty where there is no such figure.

Those of `Recipe.watched` follow them.
"""

PHOTO_DIGITS = 12
"""Of each photo's hash that are kept: enough that of a million no two are alike by chance."""


OUTSIDE_PREDICTIONS = "outside.npz"
"""What a network of a fold says of the photos outside all folds."""


@artifact
class Fold:
    """Which fold of a cross-validation a run holds out.

    Attributes:
        number: From 0.
        count: How many folds there are.
        dealt: Hash of all photos' ids, each with its fold; equal for the folds of one bag.
        outside_photos: Photos outside all folds, which no network of them learns from.
        holdout: The share that was to stay outside, 0 where none or those that the data holds out.
    """

    number: Count
    count: Annotated[int, Field(ge=2)]
    dealt: str
    outside_photos: Count = 0
    holdout: Share = 0.0

    @pydantic.model_validator(mode="after")
    def _is_one_of_them(self) -> Fold:
        if self.number >= self.count:
            raise ValueError(f"number: Expected 0 to {self.count - 1}, received {self.number}")
        return self


def fold_name(number: int) -> str:
    """Return how the folder of a fold's run ends."""
    return f"fold{number}"


@artifact
class DataSeen:
    """Which photos a run saw.

    Attributes:
        folder: The data folder, absolute.
        fingerprint: Hash of class order, ids and labels.
        classes: Category values in class order.
        class_counts: Training photos a class.
        split_seed: Seed of the validation split.
        validation_fraction: Share held out; 0 where the run trained on all photos.
        training_photos: How many it trained on.
        validation_photos: How many were held out.
        left_out: Ids of broken photos that were left out.
        held_out: Hash of the held-out photos' ids. They depend on which photos are near-duplicates
            too, so neither the seed nor the fingerprint says which they are.
        photos_sha256: Hash of the bytes of all photos, in their order.
        reading: How the folder was read, as `toolkit.data.reading.Reading.recorded` returns it.
        split_by: "seed", or "data" where the data itself says which photos are held out.
        pixels: How they became pixels, before they were made square.
        fold: Which fold it holds out; None where the split is no part of a cross-validation.
    """

    folder: str
    fingerprint: str
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    class_counts: tuple[Count, ...]
    split_seed: int
    validation_fraction: Share
    training_photos: Count
    validation_photos: Count
    left_out: tuple[str, ...] = ()
    held_out: str = ""
    photos_sha256: str = ""
    reading: ReadingRecord = field(default_factory=dict)
    split_by: Literal["seed", "data"] = "seed"
    pixels: PixelDefinition = field(default_factory=PixelDefinition)
    fold: Fold | None = None

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> DataSeen:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes: Expected each once")
        if len(self.class_counts) != len(self.classes):
            raise ValueError(
                f"class_counts: Expected one for each of the {len(self.classes)} classes, "
                f"received {len(self.class_counts)}"
            )
        return self

    @property
    def split(self) -> tuple[str, ...]:
        """What must be equal for two runs to be members of one bundle."""
        pixels = sha256_json(self.pixels.settings)
        return self.fingerprint, self.photos_sha256, self.held_out, pixels, *self.left_out

    @property
    def deal(self) -> tuple[str, ...]:
        """What must be equal for two runs of folds to be members of one bundle."""
        pixels = sha256_json(self.pixels.settings)
        dealt = f"{self.fold.count} {self.fold.dealt}" if self.fold else ""
        return self.fingerprint, self.photos_sha256, dealt, pixels, *self.left_out


@dataclass(frozen=True)
class Validation:
    """A run's probabilities on its held-out photos, unaugmented.

    Attributes:
        ids: Shape (photos,), the photos' ids.
        labels: Shape (photos,), class indices.
        groups: Shape (photos,); near-duplicates share a number.
        probabilities: Shape (photos, classes), float32.
    """

    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write the arrays to a `.npz` file."""
        with written_whole(path) as temporary:
            np.savez_compressed(temporary, **{key: getattr(self, key) for key in _VALIDATION_KEYS})

    @classmethod
    def load(cls, path: Path, data: DataSeen, photos: int | None = None) -> Validation:
        """Read the arrays back.

        Args:
            path: The file.
            data: What the run saw.
            photos: How many it is of; None expects those that were held out.

        Raises:
            ToolkitError: The file is missing, damaged, or does not fit the run.
        """
        arrays = read_arrays(path, _TRAIN_AGAIN, _VALIDATION_KEYS, RunError)
        ids, labels, groups, probabilities = (arrays[key] for key in _VALIDATION_KEYS)
        classes = len(data.classes)
        if wrong := check_predictions(ids, labels, groups, classes):
            raise RunError(f"{path}: {wrong}. {_TRAIN_AGAIN}", path=path)
        expected = data.validation_photos if photos is None else photos
        if wrong := check_probabilities(probabilities, (expected, classes)):
            raise RunError(f"{path}: probabilities: {wrong}. {_TRAIN_AGAIN}", path=path)
        return cls(ids, labels, groups, probabilities)


_VALIDATION_KEYS = ("ids", "labels", "groups", "probabilities")
_TRAIN_AGAIN = "Train the run again with `fresh=True`."


@artifact
class RunManifest:
    """What `run.json` holds of a finished run.

    Attributes:
        data: What it saw.
        identity: What must be equal for the run to be the same.
        score: Validation figures; None where it trained on all photos.
        epochs: How many epochs it took.
        seconds: Time spent in training, all sittings together.
        best_epoch: The epoch whose weights were kept, counted from 1.
        finished: When, ISO 8601, UTC.
        versions: Of the libraries it was trained with.
        model_sha256: Of `model.keras`.
        peak_memory_bytes: Largest resident memory of the process that trained it, in its last
            sitting; None where it is not known.
        weights_folder: Absolute folder of the weights that it started from; empty where they were
            downloaded, and where there were none.
        trained_on: The first `PHOTO_DIGITS` of the hash of each photo that it trained on, one after
            another.
    """

    data: DataSeen
    identity: dict[str, Any]
    score: Score | None
    epochs: PositiveInt
    seconds: Annotated[float, Field(ge=0)]
    best_epoch: PositiveInt
    finished: Annotated[str, Field(max_length=40)]
    versions: dict[str, str]
    model_sha256: Sha256
    peak_memory_bytes: Count | None = None
    weights_folder: str = ""
    trained_on: Annotated[str, Field(pattern=f"^([0-9a-f]{{{PHOTO_DIGITS}}})*$")] = ""

    @pydantic.model_validator(mode="after")
    def _has_its_best_epoch(self) -> RunManifest:
        if self.best_epoch > self.epochs:
            raise ValueError(f"best_epoch: Expected 1 to {self.epochs}, received {self.best_epoch}")
        return self


@artifact
class Run(RunManifest):
    """A finished run: its manifest, where it lies, and its recipe.

    Attributes:
        folder: Where it lies.
        recipe: Resolved.
    """

    folder: Path = field(kw_only=True)
    recipe: Recipe = field(kw_only=True)

    @property
    def label(self) -> str:
        """How the run is called in tables: `<set>/<backbone>[-name]`."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def name(self) -> str:
        """What it was trained as beside its backbone, its fold left out; empty without a name."""
        name = self.folder.name.removeprefix(self.recipe.backbone).removeprefix("-")
        if self.data.fold is None:
            return name
        return name.removesuffix(fold_name(self.data.fold.number)).removesuffix("-")

    @property
    def model_path(self) -> Path:
        """The trained model."""
        return self.folder / MODEL

    def check_model(self) -> None:
        """Refuse a network that is not the one whose figures and hash the manifest holds.

        Raises:
            ToolkitError: `model.keras` is missing or was changed.
        """
        if not self.model_path.exists():
            raise RunError(
                f"{self.model_path}: the file is missing. {_TRAIN_AGAIN}", path=self.model_path
            )
        regular_file(self.model_path)
        if sha256_file(self.model_path) != self.model_sha256:
            raise RunError(
                f"{self.model_path}: is not the network that {MANIFEST} beside it tells of. Put "
                "that one back, or train the run again with `fresh=True`.",
                path=self.model_path,
            )

    @property
    def validation(self) -> Validation | None:
        """Its clean validation probabilities, or None where it trained on all photos.

        Raises:
            ToolkitError: The file is missing or damaged.
        """
        if not self.data.validation_photos:
            return None
        path = self.folder / VALIDATION
        if not path.is_file():
            raise RunError(
                f"{path}: the file is missing. Train the run again with `fresh=True`.", path=path
            )
        return Validation.load(path, self.data)

    @property
    def outside(self) -> Validation | None:
        """What it says of the photos outside all folds, or None where there are none.

        Raises:
            ToolkitError: The file is missing or damaged.
        """
        fold = self.data.fold
        if fold is None or not fold.outside_photos:
            return None
        return Validation.load(self.folder / OUTSIDE_PREDICTIONS, self.data, fold.outside_photos)

    @property
    def history(self) -> list[dict[str, Any]]:
        """One mapping an epoch.

        Raises:
            ToolkitError: The file is missing or damaged.
        """
        path = self.folder / HISTORY
        numbers = (*METRICS, *self.recipe.watched)
        regular_file(path, LARGEST_HISTORY)
        try:
            # A stage may be called "1" or "NA".
            table = pd.read_csv(
                path,
                dtype={"stage": str},
                keep_default_na=False,
                na_values=dict.fromkeys(numbers, ""),
            )
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise RunError(
                f"{path}: cannot be read ({reason}). {_TRAIN_AGAIN}", path=path
            ) from None
        for column in ("stage", *_HISTORY_NUMBERS, *numbers):
            if column not in table:
                raise RunError(
                    f"{path}: {column}: the column is missing. {_TRAIN_AGAIN}", path=path
                )
            if column != "stage" and not _is_numeric(table[column]):
                raise RunError(f"{path}: {column}: Expected numbers. {_TRAIN_AGAIN}", path=path)
        if len(table) != self.epochs:
            raise RunError(
                f"{path}: Expected a row for each of the {self.epochs} epochs, received "
                f"{len(table)}. {_TRAIN_AGAIN}",
                path=path,
            )
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        return [{str(key): value for key, value in row.items()} for row in rows]


LARGEST_HISTORY = 64 * 2**20
"""Bytes of a history that is read."""

_HISTORY_NUMBERS = ("epoch", "seconds")


def _is_numeric(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not np.isinf(column).any()


def save_run(run: Run) -> None:
    """Write a run's manifest, which makes the run a finished one."""
    write_text(run.folder / RECIPE, run.recipe.to_yaml())
    content = asdict(run)
    del content["folder"], content["recipe"]
    write_json(run.folder / MANIFEST, {"schema_version": SCHEMA_VERSION, **content})


def load_run(folder: Path) -> Run:
    """Read a finished run.

    Raises:
        ToolkitError: The folder holds none, or one of another schema version.
    """
    if not (folder / MANIFEST).is_file():
        state = "a run that is not finished" if (folder / PROGRESS).is_file() else "no run"
        raise RunError(
            f"{folder}: {state} (no {MANIFEST}). Train it with 'toolkit train'.", path=folder
        )
    content = read_json(folder / MANIFEST)
    if content.get("schema_version") != SCHEMA_VERSION:
        raise RunError(
            f"{folder / MANIFEST}: schema_version: Expected {SCHEMA_VERSION}, "
            f"received {content.get('schema_version')!r}. Train it again with `fresh=True`.",
            path=folder / MANIFEST,
        )
    del content["schema_version"]
    manifest = read_artifact(RunManifest, content, folder / MANIFEST, _TRAIN_AGAIN, RunError)
    return Run(
        folder=folder,
        recipe=recipe_from_yaml(folder / RECIPE),
        **{each.name: getattr(manifest, each.name) for each in fields(RunManifest)},
    )


def finished_runs(runs: Path) -> list[Run]:
    """Return all finished runs below a folder, the oldest first."""
    # Not those below a hidden folder: it is on its way to be removed.
    found = [load_run(manifest.parent) for manifest in runs.glob(f"[!.]*/[!.]*/{MANIFEST}")]
    return sorted(found, key=lambda run: run.finished)


def unfinished_runs(runs: Path) -> dict[Path, int]:
    """Return the folders of runs that were interrupted, with the epochs that each has done."""
    begun = sorted(path.parent for path in runs.glob(f"[!.]*/[!.]*/{PROGRESS}"))
    return {
        folder: len(progress.history)
        for folder in begun
        if not (folder / MANIFEST).is_file() and (progress := Progress.load(folder))
    }


def discard_progress(folder: Path) -> None:
    """Remove what only an unfinished run needs."""
    (folder / PROGRESS).unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def weights_file(epoch: int) -> str:
    """Return the name of the checkpoint with the weights after an epoch, counted from 1."""
    return f"epoch-{epoch:04d}.weights.npz"


def optimizer_file(epoch: int) -> str:
    """Return the name of the checkpoint with the optimizer's state after an epoch."""
    return f"epoch-{epoch:04d}.optimizer.npz"


def write_history(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write one row an epoch."""
    with written_whole(folder / HISTORY) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, lineterminator="\n")


@dataclass
class Progress:
    """How far an unfinished run is; with the checkpoints it names, all that resuming needs.

    A run goes on after the last epoch of `history`, or from its start where there is none.

    Attributes:
        identity: Of the run, to refuse going on under other settings.
        stage: Index of the stage it is in.
        stage_epoch: Finished epochs of that stage.
        stage_done: Whether the stage is over.
        best_value: Value of the metric `keep_best` in the best epoch so far.
        best_epoch: Its number over all stages, from 1; 0 before it.
        callbacks: Counters of Keras callbacks by class name.
        history: One mapping an epoch.
        seconds: Time that the epochs in `history` took.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    identity: dict[str, Any]
    stage: int = 0
    stage_epoch: int = 0
    stage_done: bool = False
    best_value: float | None = None
    best_epoch: int = 0
    callbacks: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def checkpoints(self) -> set[str]:
        """The files that going on needs."""
        if not self.history:
            return set()
        best, last = weights_file(self.best_epoch), len(self.history)
        # The next stage begins with the best weights and a new optimizer.
        return {best} if self.stage_done else {best, weights_file(last), optimizer_file(last)}

    def save(self, folder: Path) -> None:
        """Write it, then remove the checkpoints that it does not name."""
        write_json(folder / PROGRESS, {"schema_version": SCHEMA_VERSION, **asdict(self)})
        for path in (folder / CHECKPOINTS).glob("*"):
            if path.name not in self.checkpoints:
                path.unlink()

    @classmethod
    def load(cls, folder: Path) -> Progress | None:
        """Read it, or return None where the run has not begun."""
        if not (folder / PROGRESS).is_file():
            return None
        path = folder / PROGRESS
        content = read_json(path)
        if content.pop("schema_version", None) != SCHEMA_VERSION:
            raise RunError(
                f"{path}: written by another version of the toolkit; pass `fresh=True`.", path=path
            )
        progress = read_artifact(cls, content, path, "Pass `fresh=True`.", RunError)
        if not 0 <= progress.best_epoch <= len(progress.history):
            raise RunError(
                f"{path}: best_epoch: Expected 0 to {len(progress.history)}, received "
                f"{progress.best_epoch}. Pass `fresh=True`.",
                path=path,
            )
        return progress
