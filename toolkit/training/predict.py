"""Predicts photos with a run's Keras model, in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.data.cache import decoded_photos
from toolkit.data.ranges import Ranges, clipping
from toolkit.data.survey import PhotoFacts, report_notes, survey
from toolkit.processes import import_quietly, in_own_process
from toolkit.progress import SILENT, Reporter
from toolkit.training.run import Run


def predict_run(
    run: Run, paths: Sequence[Path], reporter: Reporter = SILENT
) -> NDArray[np.float32]:
    """Predict photos with a run's model, one view each.

    Args:
        run: A finished run.
        paths: The photos.

    Returns:
        Probabilities, shape (photos, classes), columns in the run's class order.

    Raises:
        BrokenPhotoError: A photo cannot be read.
    """
    pixels = run.data.pixels
    pixels.check(run.folder, "Train it again with `fresh=True`")
    facts = survey(paths, reporter)
    notes = (
        (path, note)
        for path, fact in zip(paths, facts, strict=True)
        for note in (*fact.notes, *_clipped(fact, pixels.ranges))
    )
    report_notes(notes, reporter)
    hashes = [fact.sha256 for fact in facts]
    photos = decoded_photos(paths, hashes, run.recipe.square, pixels, reporter)
    return in_own_process(_predict_in_child, run.model_path, photos, run.recipe.batch_size)


def _clipped(fact: PhotoFacts, ranges: Ranges) -> list[str]:
    scale = ranges.get(fact.kind)
    note = clipping(fact.found, scale) if scale else ""
    return [note] if note else []


def _predict_in_child(model: Path, photos: Path, batch_size: int) -> NDArray[np.float32]:
    import_quietly("keras")
    from toolkit.training.fit import load_model, predict

    pixels = np.load(photos, mmap_mode="r")
    return predict(load_model(model), pixels, np.arange(len(pixels)), batch_size)
