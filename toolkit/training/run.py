"""A run: one trained network in one folder, with all that is known about it."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toolkit.data.pixels import PixelDefinition
from toolkit.errors import RunError
from toolkit.files import read_json, sha256_json, write_json, write_text, written_whole
from toolkit.training.recipe import Recipe
from toolkit.training.recipe_files import recipe_from_yaml

SCHEMA_VERSION = 3
MANIFEST, RECIPE, MODEL = "run.json", "recipe.yaml", "model.keras"
HISTORY, VALIDATION, CURVES = "history.csv", "validation.npz", "curves.png"
PROGRESS, CHECKPOINTS = "progress.json", "checkpoints"

METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")
"""Columns of the history, which are empty where there is no such figure.

Those of `Recipe.watched` follow them.
"""

PHOTO_DIGITS = 12
"""Of each photo's hash that are kept: enough that of a million no two are alike by chance."""


@dataclass(frozen=True)
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
    """

    folder: str
    fingerprint: str
    classes: tuple[str, ...]
    class_counts: tuple[int, ...]
    split_seed: int
    validation_fraction: float
    training_photos: int
    validation_photos: int
    left_out: tuple[str, ...] = ()
    held_out: str = ""
    photos_sha256: str = ""
    reading: dict[str, str] = field(default_factory=dict)
    split_by: Literal["seed", "data"] = "seed"
    pixels: PixelDefinition = field(default_factory=PixelDefinition)

    @property
    def split(self) -> tuple[str, ...]:
        """What must be equal for two runs to be members of one bundle."""
        pixels = sha256_json(self.pixels.settings)
        return self.fingerprint, self.photos_sha256, self.held_out, pixels, *self.left_out


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
    def load(cls, path: Path) -> Validation:
        """Read the arrays back."""
        # Opened here, because NumPy leaves a file open whose zip is damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return cls(**{key: arrays[key] for key in _VALIDATION_KEYS})


_VALIDATION_KEYS = ("ids", "labels", "groups", "probabilities")
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: Where it lies.
        recipe: Resolved.
        data: What it saw.
        identity: What must be equal for the run to be the same.
        score: Validation figures (`toolkit.metrics.Score`), or empty.
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

    folder: Path
    recipe: Recipe
    data: DataSeen
    identity: dict[str, Any]
    score: dict[str, Any]
    epochs: int
    seconds: float
    best_epoch: int
    finished: str
    versions: dict[str, str]
    model_sha256: str
    peak_memory_bytes: int | None = None
    weights_folder: str = ""
    trained_on: str = ""

    @property
    def label(self) -> str:
        """How the run is called in tables: `<set>/<backbone>[-name]`."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def model_path(self) -> Path:
        """The trained model."""
        return self.folder / MODEL

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
        try:
            return Validation.load(path)
        except _UNREADABLE as error:
            raise RunError(
                f"{path}: cannot be read ({error}). Train the run again with `fresh=True`.",
                path=path,
            ) from None

    @property
    def history(self) -> list[dict[str, Any]]:
        """One mapping an epoch."""
        # A stage may be called "1" or "NA".
        table = pd.read_csv(
            self.folder / HISTORY,
            dtype={"stage": str},
            keep_default_na=False,
            na_values=dict.fromkeys((*METRICS, *self.recipe.watched), ""),
        )
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        return [{str(key): value for key, value in row.items()} for row in rows]


def save_run(run: Run) -> None:
    """Write a run's manifest, which makes the run a finished one."""
    write_text(run.folder / RECIPE, run.recipe.to_yaml())
    content = {
        "schema_version": SCHEMA_VERSION,
        "backbone": run.recipe.backbone,
        "set": run.recipe.set,
        **{key: getattr(run, key) for key in _PLAIN_KEYS},
        "data": asdict(run.data),
    }
    write_json(run.folder / MANIFEST, content)


_PLAIN_KEYS = (
    "identity",
    "score",
    "epochs",
    "seconds",
    "best_epoch",
    "finished",
    "versions",
    "model_sha256",
    "peak_memory_bytes",
    "weights_folder",
    "trained_on",
)


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
    data = content["data"]
    for key in ("classes", "class_counts", "left_out"):
        data[key] = tuple(data[key])
    data["pixels"] = PixelDefinition.read(data["pixels"])
    return Run(
        folder=folder,
        recipe=recipe_from_yaml(folder / RECIPE),
        data=DataSeen(**data),
        **{key: content[key] for key in _PLAIN_KEYS},
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
        content = read_json(folder / PROGRESS)
        if content.pop("schema_version", None) != SCHEMA_VERSION:
            raise RunError(
                f"{folder / PROGRESS}: written by another version of the toolkit; pass "
                "`fresh=True`.",
                path=folder / PROGRESS,
            )
        return cls(**content)
