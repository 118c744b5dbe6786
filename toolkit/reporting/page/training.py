"""The section on training: how each network learnt, and how good it became."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from toolkit.reporting.page.charts import Chart, history_charts
from toolkit.training.recipe_files import shipped_twin
from toolkit.training.run import Run


@dataclass(frozen=True)
class RunRow:
    """The final figures of a run.

    Attributes:
        label: `<set>/<backbone>[-name]`.
        backbone: Its backbone.
        image_size: In pixels.
        epochs: That it took.
        best_epoch: Whose weights were kept.
        accuracy: On the clean held-out photos; None where there are none.
        interval: 95 % of it.
        log_loss: Likewise.
        calibration_error: Likewise.
        published: The published accuracy, where the recipe is one of the published ones.
        seconds: Of training.
        seconds_an_epoch: The median.
        photos: It trained on.
        held_out: Photos that it is judged on.
        megabytes: Size of the model file; None where it is not here.
        peak_mebibytes: Largest memory of the training process; None where it was not recorded.
    """

    label: str
    backbone: str
    image_size: int
    epochs: int
    best_epoch: int
    accuracy: float | None
    interval: tuple[float, float] | None
    log_loss: float | None
    calibration_error: float | None
    published: float | None
    seconds: float
    seconds_an_epoch: float
    photos: int
    held_out: int
    megabytes: float | None
    peak_mebibytes: float | None


@dataclass(frozen=True)
class RunCurves:
    """The curves of a run, with its stages in words."""

    label: str
    stages: str
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class TrainingSection:
    """What the page says of training.

    Attributes:
        rows: One a run.
        curves: One a run.
        published: Whether any recipe is a published one.
        held_out: How many photos were held out: one number, or all there are where runs differ.
    """

    rows: tuple[RunRow, ...]
    curves: tuple[RunCurves, ...]
    published: bool
    held_out: tuple[int, ...]


def training_section(runs: Sequence[Run]) -> TrainingSection:
    """Describe finished runs, of which there is at least one."""
    published = _published(runs)
    rows = tuple(_row(run, published.get(run.label)) for run in runs)
    curves = tuple(
        RunCurves(run.label, _stages(run), history_charts(run.history, run.label, run.best_epoch))
        for run in runs
    )
    held_out = tuple(sorted({row.held_out for row in rows}))
    return TrainingSection(rows, curves, bool(published), held_out)


def _row(run: Run, published: float | None) -> RunRow:
    score = run.score
    each = [float(row["seconds"]) for row in run.history]
    return RunRow(
        label=run.label,
        backbone=run.recipe.backbone,
        image_size=run.recipe.image_size,
        epochs=run.epochs,
        best_epoch=run.best_epoch,
        accuracy=score.accuracy if score else None,
        interval=score.interval if score else None,
        log_loss=score.log_loss if score else None,
        calibration_error=score.calibration_error if score else None,
        published=published,
        seconds=run.seconds,
        seconds_an_epoch=median(each) if each else 0.0,
        photos=run.data.training_photos,
        held_out=run.data.validation_photos,
        megabytes=run.model_path.stat().st_size / 1e6 if run.model_path.is_file() else None,
        peak_mebibytes=run.peak_memory_bytes / 2**20 if run.peak_memory_bytes else None,
    )


def _published(runs: Sequence[Run]) -> dict[str, float]:
    """Return published accuracies of runs whose recipe is a published one."""
    found = {}
    for run in runs:
        twin = shipped_twin(run.recipe)
        if twin and twin.published_accuracy is not None:
            found[run.label] = twin.published_accuracy
    return found


def _stages(run: Run) -> str:
    parts = []
    for number, stage in enumerate(run.recipe.stages, start=1):
        taken = sum(row["stage"] == stage.name for row in run.history)
        name = f"{number} {stage.name}" if len(run.recipe.stages) > 1 else stage.name
        frozen = f", {stage.frozen_fraction:.0%} of the backbone frozen"
        told = f"{name}: {taken} of {stage.epochs} epochs"
        parts.append(told + frozen if stage.frozen_fraction else told)
    return "; ".join(parts)
