"""What to type to make it all again, in the folder where the page is written."""

from __future__ import annotations

import inspect
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from toolkit.inference.ensemble import Ensemble
from toolkit.inference.finding import LABEL_EXACT
from toolkit.reporting.manifest import Made, SkippingRecord
from toolkit.reporting.page.sources import DEFAULTS, Artifacts
from toolkit.training.recipe_files import shipped_twin
from toolkit.training.run import RECIPE, Run
from toolkit.training.train import TrainingOptions

SETTINGS = {
    name: parameter.default
    for name, parameter in inspect.signature(Ensemble.load).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
}
"""What an ensemble is loaded with where nothing else is asked."""


@dataclass(frozen=True)
class Command:
    """A command, and what it does."""

    line: str
    words: str


def commands(found: Artifacts) -> tuple[Command, ...]:
    """Return the commands in order; a path that is the usual one is left out."""
    made = [_training(found, run) for run in found.runs]
    if found.bundle:
        made.append(_export(found))
    if found.submission and found.submission.made:
        made.append(_ensemble(found, found.submission.path, found.submission.made))
    return tuple(made)


def _training(found: Artifacts, run: Run) -> Command:
    recipe, identity = run.recipe, run.identity
    is_own = shipped_twin(recipe) is None
    # A bare name would mean the set that comes with the toolkit, where one is called the same.
    name_of_set = f"./{recipe.set}" if is_own else recipe.set
    parts = ["toolkit", "train", recipe.backbone, "--recipes", name_of_set]
    parts += _where("data", _data_of(found, run))
    parts += _where("runs", run.folder.parent.parent)
    words = f"trained {run.label}, {_moment(run.finished)}"
    if run.name:
        parts += ["--name", run.name]
    if fold := run.data.fold:
        parts += ["--folds", str(fold.count), "--only-folds", str(fold.number)]
        parts += ["--holdout", str(fold.holdout)] if fold.holdout else []
    if identity.get("seed", recipe.seed) != recipe.seed:
        parts += ["--seed", str(identity["seed"])]
    if run.data.split_seed != TrainingOptions.split_seed:
        parts += ["--split-seed", str(run.data.split_seed)]
    start, _, sha256 = str(identity.get("pretrained", recipe.weights)).partition(" ")
    if sha256:
        parts += ["--pretrained", _typed(Path(run.weights_folder))]
        words += f", from weights in a folder, whose SHA-256 begins {sha256}"
    elif start != recipe.weights:
        parts += ["--pretrained", start]
    if run.data.left_out:
        parts.append("--skip-broken")
    if "threads" in identity:
        parts += ["--threads", str(identity["threads"])]
    if identity.get("mixed_precision"):
        parts.append("--mixed-precision")
    if run.data.validation_fraction == 0:
        parts.append("--refit-all")
    if is_own:
        words += f", by a recipe of your own: {_typed(run.folder / RECIPE)}"
    return Command(shlex.join(parts), words)


def _export(found: Artifacts) -> Command:
    bundle = found.bundle
    assert bundle is not None
    here = {run.model_sha256: run for run in found.runs}
    runs = found.runs[0].folder.parent.parent if found.runs else DEFAULTS["runs"]
    parts = ["toolkit", "export"]
    for member in bundle.members:
        run = here.get(member.model_sha256)
        parts += ["--member", _typed(run.folder if run else runs / member.run)]
    if found.runs:
        parts += _where("data", _data_of(found, found.runs[0]))
    parts += _where("bundle", bundle.folder)
    tried = {trial.precision for trial in bundle.precisions}
    if tried:
        parts += ["--precision", ",".join(["fp32", *sorted(tried)])]
    if bundle.requested_voting != "auto":
        parts += ["--voting", bundle.requested_voting]
    return Command(shlex.join(parts), f"made the bundle, {_moment(bundle.created)}")


def _ensemble(found: Artifacts, submission: Path, made: Made) -> Command:
    manifest, asked, bundle = made.manifest, made.manifest.options, made.manifest.bundle
    shown = found.bundle is not None and found.bundle.sha256 == bundle.sha256
    folder = found.bundle.folder if found.bundle and shown else made.found(bundle.folder)
    parts = ["toolkit", "ensemble"]
    parts += _where("bundle", folder)
    parts += _where("data", made.found(asked.data))
    for key, usual in SETTINGS.items():
        if getattr(asked, key) != usual:
            parts += [_option(key), str(getattr(asked, key))]
    if asked.skip_broken:
        parts.append("--skip-broken")
    parts += _skipping(made, asked.skipping)
    parts += _where("submission", submission, option="--out")
    if manifest.probabilities.file:
        parts += ["--probabilities", _typed(made.found(manifest.probabilities.file))]
    return Command(shlex.join(parts), f"made the submission, {_moment(manifest.created)}")


def _skipping(made: Made, chosen: SkippingRecord) -> list[str]:
    parts = ["--full"] if chosen.full else []
    if chosen.plan:
        parts += ["--plan", _typed(made.found(chosen.plan))]
    for key in ("certify", "tolerance", "confidence", "budget_ms"):
        value = getattr(chosen, key)
        if value is not None and value != getattr(LABEL_EXACT, key):
            parts += [_option(key), str(value)]
    return parts


def _data_of(found: Artifacts, run: Run) -> Path:
    """Return the data folder of the page where it holds what the run saw, else the run's own."""
    if found.overview and found.holds(run.data.fingerprint):
        return found.overview.dataset.root
    return Path(run.data.folder)


def _where(part: str, path: Path, option: str = "") -> list[str]:
    """Return the option that names a part, or nothing where it is at its usual place."""
    typed = _typed(path)
    return [] if typed == str(DEFAULTS[part]) else [option or f"--{part}", typed]


def _typed(path: Path) -> str:
    """Return a path as one types it in this folder: relative where it is below, else absolute."""
    here = Path.cwd()
    absolute = Path(os.path.normpath(here / path))
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _moment(iso: str) -> str:
    return f"{iso[:16].replace('T', ' ')} UTC"
