"""Makes a submission again from its manifest, and says whether it is the same."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import pandas as pd

from toolkit.data.reading import Reading
from toolkit.data.request import load_request
from toolkit.errors import ToolkitError, UsageError, argument, listing
from toolkit.files import sha256_file, write_text
from toolkit.inference.bundle import load_bundle
from toolkit.inference.ensemble import MOST_THREADS_A_CORE
from toolkit.inference.finding import FULL, Skipping
from toolkit.inference.journal import journal_folder
from toolkit.machine import usable_cores
from toolkit.progress import SILENT, Reporter
from toolkit.reporting.answered import rows_by_id
from toolkit.reporting.job import submit
from toolkit.reporting.manifest import Made, SubmissionManifest
from toolkit.reporting.provenance import changed_photos, described_request
from toolkit.reporting.submission import latency_path, manifest_path

State = Literal["as made", "changed", "missing"]


@dataclass(frozen=True)
class Moved:
    """Where things are now, for what is no longer where the manifest says; None for the rest."""

    bundle: Path | None = None
    data: Path | None = None
    device: str | None = None


@dataclass(frozen=True)
class OtherLabel:
    """A photo that is answered otherwise.

    Attributes:
        id: Of the photo.
        submitted: What the submission says: a label, or a row of probabilities as text; None where
            it has no such row.
        again: What it says when it is made again; None where it has no such row.
    """

    id: str
    submitted: str | None
    again: str | None


@dataclass(frozen=True)
class Reproduction:
    """What became of making a submission again.

    Attributes:
        submission: The submission.
        created: When it was made, ISO 8601, UTC.
        state: Whether its file is the one that the manifest describes.
        rows: Photos that it answers.
        same: Whether the file that was made again is, byte for byte, the one that the manifest
            describes.
        labels: Where the submission's file and the one made again differ; empty where it is
            missing.
        probabilities: The file of probabilities, or None where none was written.
        probabilities_state: Of that file.
        probabilities_same: Whether they are the same to the last bit, written to a file or not.
        largest_difference: Between two probabilities; None where there is no file to compare.
        differs: What is not as it was when the submission was made: versions, device, threads.
        kept: Where the files that were made again are; None where they were deleted.
        seconds: What making it again took.
    """

    submission: Path
    created: str
    state: State
    rows: int
    same: bool
    labels: tuple[OtherLabel, ...]
    probabilities: Path | None
    probabilities_state: State | None
    probabilities_same: bool
    largest_difference: float | None
    differs: tuple[str, ...]
    kept: Path | None
    seconds: float

    @property
    def equal(self) -> bool:
        """Whether all that was written came out again, and nobody changed it since."""
        files = self.probabilities is None or (
            self.probabilities_same and self.probabilities_state != "changed"
        )
        return self.same and self.state != "changed" and files


def reproduce(
    manifest: Path,
    moved: Moved,
    *,
    keep: Path | None = None,
    reporter: Reporter = SILENT,
) -> Reproduction:
    """Make a submission again and compare; the submission itself is only read.

    Args:
        manifest: The submission's manifest, or the submission, which has it beside it.
        moved: Where things are now.
        keep: The folder for what is made again, which is deleted without it. Interrupted, the
            same call with the same folder goes on where it stopped.

    Returns:
        What is equal and what is not.

    Raises:
        UsageError: The folder to keep things in holds files of those names.
        ToolkitError: The manifest says too little, or what it names is gone or another.
    """
    made = Made.load(manifest_path(manifest) if manifest.suffix.lower() == ".csv" else manifest)
    bundle, data = _bundle(made, moved), _data(made, moved)
    options, written = made.manifest.options, made.manifest.probabilities.file
    started = perf_counter()
    with tempfile.TemporaryDirectory(prefix="toolkit-reproduce-") as temporary:
        out = (keep or Path(temporary)) / made.submission.name
        probabilities = None
        if written:
            probabilities = out.with_name(f"{out.stem}-probabilities{Path(written).suffix}")
        if keep:
            _refuse_overwriting(keep, [out, *([probabilities] if probabilities else [])])
        with _marked(out):
            submit(
                bundle,
                data,
                out,
                _settings(made, moved),
                reading=Reading.of_record(options.reading, data),
                skipping=_skipping(made),
                probabilities=probabilities,
                answer=options.answer,
                skip_broken=options.skip_broken,
                reporter=reporter,
            )
            return _compared(made, out, probabilities, keep, perf_counter() - started)


def _mark(out: Path) -> Path:
    return out.with_name(f".{out.name}.reproducing")


@contextmanager
def _marked(out: Path) -> Iterator[None]:
    """Mark files as made here until all is over: a call that was killed can be repeated."""
    mark = _mark(out)
    write_text(mark, "")
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def _bundle(made: Made, moved: Moved) -> Path:
    folder = moved.bundle or made.found(made.manifest.bundle.folder)
    if not folder.is_dir():
        raise ToolkitError(f"{folder}: the bundle is not there. Say where it is with `bundle`.")
    there, needed = load_bundle(folder).sha256, made.manifest.bundle.sha256
    if there != needed:
        raise ToolkitError(
            f"{folder}: another bundle ({there[:12]}) than the submission was made with "
            f"({needed[:12]}). Name that one with `bundle`."
        )
    return folder


def _data(made: Made, moved: Moved) -> Path:
    folder = moved.data or made.found(made.manifest.options.data)
    if not folder.is_dir():
        raise ToolkitError(f"{folder}: the data is not there. Say where it is with `data`.")
    reading = Reading.of_record(made.manifest.options.reading, folder)
    request, then = load_request(folder, reading), made.manifest.request
    now = described_request(request)
    if now.ids_sha256 != then.ids_sha256:
        photos = made.manifest.photos
        differs = (
            "the same number, with other ids, columns or order"
            if len(request.ids) == photos
            else f"{len(request.ids)} photos, not {photos}"
        )
        raise ToolkitError(
            f"{folder}: asks for something else than the submission answers ({differs}). Name the "
            "data that it was made of with `data`."
        )
    changed = changed_photos(request, then, now)
    if changed:
        raise ToolkitError(
            f"{folder}: {len(changed)} of {len(request.ids)} photos are not those that were "
            f"predicted. Put those back, or name their folder with `data`:\n{listing(changed)}"
        )
    return folder


def _skipping(made: Made) -> Skipping:
    """Return the plan that the submission followed."""
    plan, chosen = made.manifest.plan, made.manifest.options.skipping
    if plan.method == "full":
        return FULL
    return Skipping(plan=plan, certify=chosen.certify, budget_ms=chosen.budget_ms)


def _settings(made: Made, moved: Moved) -> dict[str, Any]:
    settings = made.manifest.options.settings
    if moved.device:
        settings["device"] = moved.device
    threads = settings["threads"]
    if threads is not None and threads > MOST_THREADS_A_CORE * usable_cores():
        settings["threads"] = None  # No answer depends on it, and this machine has fewer cores.
    return settings


def _refuse_overwriting(keep: Path, files: list[Path]) -> None:
    interrupted = journal_folder(files[0]).exists() or _mark(files[0]).exists()
    for path in (*files, manifest_path(files[0]), latency_path(files[0])):
        if path.exists() and not interrupted:
            raise UsageError(
                f"{argument('keep', keep)}: {path.name} is there already, and nothing is "
                "overwritten. Name another folder."
            )


def _compared(
    made: Made, out: Path, probabilities: Path | None, keep: Path | None, seconds: float
) -> Reproduction:
    again = Made.load(manifest_path(out))
    then, now = made.manifest, again.manifest
    state = _state(made.submission, then.submission.sha256)
    same = now.submission.sha256 == then.submission.sha256
    labels: tuple[OtherLabel, ...] = ()
    if state != "missing" and not (same and state == "as made"):
        labels = _other_labels(made.submission, out)
    file, sha256 = then.probabilities.file, then.probabilities.sha256
    written = made.found(file) if file and probabilities else None
    written_state = _state(written, sha256) if written else None
    largest = None
    if written and probabilities and written_state != "missing":
        largest = _largest_difference(written, probabilities)
    return Reproduction(
        submission=made.submission,
        created=then.created,
        state=state,
        rows=now.photos,
        same=same,
        labels=labels,
        probabilities=written,
        probabilities_state=written_state,
        probabilities_same=(now.probabilities.values_sha256 == then.probabilities.values_sha256),
        largest_difference=largest,
        differs=tuple(_differences(then, now)),
        kept=keep,
        seconds=seconds,
    )


def _state(path: Path, sha256: str | None) -> State:
    if not path.is_file():
        return "missing"
    return "as made" if sha256_file(path) == sha256 else "changed"


def _other_labels(submission: Path, out: Path) -> tuple[OtherLabel, ...]:
    again = rows_by_id(out)
    try:
        submitted = rows_by_id(submission)
    except ToolkitError:
        return ()  # It is no longer a table of answers; its state says that it was changed.
    return tuple(
        OtherLabel(id, submitted.get(id), again.get(id))
        for id in dict.fromkeys([*again, *submitted])
        if submitted.get(id) != again.get(id)
    )


def _largest_difference(first: Path, second: Path) -> float | None:
    """Compare two tables of probabilities; None where one of them is no longer such a table."""
    try:
        tables = [_probabilities(path) for path in (first, second)]
    except (OSError, ValueError):
        return None
    if tables[0].shape != tables[1].shape:
        return None
    return float(np.abs(tables[0] - tables[1]).max(initial=0.0))


def _probabilities(path: Path) -> Any:
    # As text, because pandas's own way to read numbers from it is not always exact; NumPy's is.
    is_text = path.suffix.lower() == ".csv"
    table = pd.read_csv(path, dtype=str) if is_text else pd.read_parquet(path)
    return table.iloc[:, 1:].to_numpy(dtype=np.float64)


def _differences(then: SubmissionManifest, now: SubmissionManifest) -> list[str]:
    """Say what was another when the submission was made."""
    pairs = [
        ("provider", then.device.provider, now.device.provider),
        ("processor", then.device.device, now.device.device),
        ("threads", then.threads, now.threads),
        ("guarantee", then.guarantee, now.guarantee),
    ]
    for name in sorted({*then.versions, *now.versions}):
        pairs.append((name, then.versions.get(name), now.versions.get(name)))
    return [
        f"{name}: then {was or 'not there'}, now {is_now or 'not there'}"
        for name, was, is_now in pairs
        if was != is_now
    ]
