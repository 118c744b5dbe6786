"""From a bundle to a submission: plan, predict, reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from toolkit.data.reading import Reading
from toolkit.errors import UsageError
from toolkit.inference.finding import DEFAULT_TOLERANCE, Skipping
from toolkit.progress import SILENT, Reporter
from toolkit.reporting import reproduction
from toolkit.reporting.formats import FormatOptions
from toolkit.reporting.job import Submitted, submit
from toolkit.reporting.planning import Planned, make_and_draw
from toolkit.reporting.reproduction import Moved, Reproduction


def predict(
    bundle: Path | str = "bundle",
    data: Path | str = "data",
    *,
    out: Path | str = "submission.csv",
    labels: Path | str | None = None,
    id_column: str | None = None,
    photos: Path | str | None = None,
    sample: Path | str | None = None,
    tta: int = 1,
    tta_views: Literal["fixed", "augmentor"] = "fixed",
    voting: str = "auto",
    device: str = "auto",
    batch: int = 16,
    threads: int | None = None,
    seed: int = 0,
    full: bool = False,
    tolerance: float | None = None,
    confidence: float | None = None,
    budget_ms: float | None = None,
    certify: Literal["test", "off"] = "test",
    plan: Path | str | None = None,
    probabilities: Path | str | None = None,
    format: Literal["labels", "probabilities"] | None = None,
    positive: str | None = None,
    top: int | None = None,
    clip: float | None = None,
    skip_broken: bool = False,
    reporter: Reporter = SILENT,
) -> Submitted:
    """Predict the photos of a data folder and write a submission with manifest and latency report.

    Labels are those of the full ensemble: model calls that cannot change them are skipped. With a
    tolerance a few labels may differ, at less cost, with a guarantee. Where probabilities are
    wanted every member looks at every view. Interrupted, the same call goes on where it stopped and
    writes the same bytes. To predict photos without files, use `Ensemble.load`.

    Args:
        bundle: The bundle's folder.
        data: The data folder. Its layout is found by itself, as it was for training; the next
            arguments name what cannot be found.
        out: The submission; manifest and latency report are put beside it.
        labels: The table of ids and labels, whose photos are not predicted.
        id_column: Its column of ids.
        photos: The folder of the photos to predict.
        sample: The sample submission.
        tta: Views per photo, 1 to 8.
        tta_views: `fixed` for the first views of the list, `augmentor` for random ones.
        voting: As for `Ensemble.load`.
        device: As for `Ensemble.load`.
        batch: Photos a batch.
        threads: Threads of a session on the CPU; None takes all usable cores.
        seed: Of random views, and of the sample that a guarantee is certified on.
        full: Skip no model call.
        tolerance: Largest share of labels that may differ from the full ensemble's, 0 to 1; None
            allows none.
        confidence: That no more differ; None takes 0.95, or the plan's.
        budget_ms: Largest mean inference cost per photo in milliseconds.
        certify: What the guarantee rests on: `test`, a sample of the photos that are predicted, or
            `off`, without a guarantee.
        plan: The file of a plan to follow; None finds one where there is a tolerance.
        probabilities: Write them too, as `.csv` or `.parquet`.
        format: What the submission holds; None lets the sample submission decide.
        positive: Of two classes the one whose probability is written.
        top: How many labels to write per photo, the most probable first.
        clip: Probabilities are kept from being smaller than this, and larger than 1 less this.
        skip_broken: Answer photos that cannot be read with the class prior, instead of refusing.
        reporter: Where progress is shown; silent by default.

    Returns:
        The files that were written, the guarantee, and the latency report.

    Raises:
        UsageError: Arguments do not fit together.
        DataError: The data folder is not as expected, or photos are broken; the message lists them.
        DeviceError: The device is unavailable.
        ToolkitError: The bundle is not whole, or no plan is within the budget.

    Example:
        >>> written = predict("bundle", "data", tta=4, tolerance=0.01)
        >>> written.rows, written.method, str(written.files["submission"])
        (649, 'cascade', 'submission.csv')
    """
    settings = {
        "tta": tta,
        "tta_views": tta_views,
        "voting": voting,
        "device": device,
        "batch": batch,
        "threads": threads,
        "seed": seed,
    }
    return submit(
        Path(bundle),
        Path(data),
        Path(out),
        settings,
        reading=Reading(
            labels=_path(labels), id_column=id_column, photos=_path(photos), sample=_path(sample)
        ),
        skipping=Skipping(full, tolerance, confidence, budget_ms, certify, _path(plan)),
        probabilities=_path(probabilities),
        answer=FormatOptions(format, positive, top, clip),
        skip_broken=skip_broken,
        reporter=reporter,
    )


def plan(
    bundle: Path | str = "bundle",
    data: Path | str = "data",
    *,
    tta: int = 1,
    voting: str = "auto",
    device: str = "auto",
    batch: int = 16,
    tolerance: float = DEFAULT_TOLERANCE,
    confidence: float | None = None,
    budget_ms: float | None = None,
    photos: int | None = None,
    fresh: bool = False,
    out: Path | str = "plan.json",
    reporter: Reporter = SILENT,
) -> Planned:
    """Measure this machine and a bundle, find the cheapest plan, write it and draw it.

    A plan guarantees nothing by itself: `predict` certifies it on a sample of the photos.

    Args:
        bundle: The bundle's folder.
        data: The data folder, for how many photos are to be predicted.
        tta: Views per photo, 1 to 8.
        voting: As for `Ensemble.load`.
        device: As for `Ensemble.load`.
        batch: Photos a batch.
        tolerance: Largest share of labels that may differ from the full ensemble's, 0 to 1.
        confidence: That no more differ; None takes 0.95.
        budget_ms: Largest mean inference cost per photo in milliseconds; None sets no limit.
        photos: How many will be predicted; None counts them in `data`.
        fresh: Measure costs anew.
        out: The plan's file, `.json`; its picture is put beside it.
        reporter: Where progress is shown; silent by default.

    Returns:
        The plan, its file, and what it is expected to cost in milliseconds per photo.

    Raises:
        UsageError: An argument is out of range.
        ToolkitError: The bundle has no held-out photos, or no plan is within the budget.

    Example:
        >>> made = plan("bundle", "data", tta=4, tolerance=0.01)
        >>> made.expected_ms
        41.3
    """
    if photos is not None and photos < 1:
        raise UsageError.of("photos", photos, "Expected at least 1.")
    skipping = Skipping(tolerance=tolerance, confidence=confidence, budget_ms=budget_ms)
    settings = {"tta": tta, "voting": voting, "device": device, "batch": batch}
    return make_and_draw(
        Path(bundle),
        Path(data),
        settings,
        skipping,
        photos=photos,
        out=Path(out),
        fresh=fresh,
        reporter=reporter,
    )


def reproduce(
    manifest: Path | str = "submission.json",
    *,
    bundle: Path | str | None = None,
    data: Path | str | None = None,
    device: str | None = None,
    keep: Path | str | None = None,
    reporter: Reporter = SILENT,
) -> Reproduction:
    """Make a submission again from its manifest, and compare; the submission is only read.

    Args:
        manifest: The manifest, or the submission, which has it beside it.
        bundle: The bundle's folder, where it is no longer where the manifest says.
        data: The data folder, likewise.
        device: Another device to compute on.
        keep: The folder for what is made again, which is deleted without it. Interrupted, the same
            call with the same folder goes on where it stopped.
        reporter: Where progress is shown; silent by default.

    Returns:
        What is equal and what is not.

    Raises:
        UsageError: The folder to keep things in holds files of those names.
        ToolkitError: The manifest says too little, or what it names is gone or another.

    Example:
        >>> reproduce("submission.json").equal
        True
    """
    moved = Moved(_path(bundle), _path(data), device)
    return reproduction.reproduce(Path(manifest), moved, keep=_path(keep), reporter=reporter)


def _path(given: Path | str | None) -> Path | None:
    return None if given is None else Path(given)
