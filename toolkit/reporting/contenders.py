"""The runs and bundles that are compared: what they said of held-out photos, and their cost."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import ToolkitError
from toolkit.exporting.weights import cross_fitting
from toolkit.files import sha256_json
from toolkit.inference.bundle import MANIFEST as BUNDLE_MANIFEST
from toolkit.inference.bundle import Bundle, BundleValidation, load_bundle, load_validation
from toolkit.inference.devices import Device, on_device
from toolkit.inference.voting import choose_voting, vote
from toolkit.intervals import Labels
from toolkit.metrics import (
    METRICS,
    Answers,
    Probabilities,
    Score,
    have_order,
    log_losses,
    score_answers,
)
from toolkit.progress import SILENT, Reporter
from toolkit.reporting.serving import Serving
from toolkit.training.run import MANIFEST as RUN_MANIFEST
from toolkit.training.run import PROGRESS, Run, load_run


@dataclass(frozen=True)
class HeldOut:
    """Answers to photos that were held out from training, in the order of their ids.

    Attributes:
        photos: Hash of classes, ids and labels: which photos these are.
        answers: What was said of them.
        losses: Shape (photos,), each photo's negative log-likelihood in nats.
        score: Their figures.
    """

    photos: str
    answers: Answers
    losses: NDArray[np.float64]
    score: Score

    @classmethod
    def of(
        cls,
        classes: Sequence[str],
        ids: NDArray[np.str_],
        labels: Labels,
        probabilities: Probabilities,
    ) -> HeldOut:
        """Put the photos in order and score the answers, shape (photos, classes)."""
        order = np.argsort(ids)
        ids, labels, probabilities = ids[order], labels[order], probabilities[order]
        answers = Answers.of(probabilities, labels, ordered=have_order(classes))
        return cls(
            sha256_json([list(classes), ids.tolist(), labels.tolist()]),
            answers,
            log_losses(probabilities, labels),
            score_answers(answers, len(classes)),
        )


@dataclass(frozen=True)
class Cost:
    """What a run or a bundle cost to make, and costs to use; None for what is not known.

    Attributes:
        training_seconds: All members together.
        epochs: Likewise.
        parameters: Likewise, frozen ones and batch norm's averages counted.
        megabytes: Of the model's files.
        image_sizes: Sides of the inputs in pixels, ascending.
        inference_ms: Measured on this machine, a photo; decoding is not in it.
    """

    training_seconds: float | None = None
    epochs: int | None = None
    parameters: int | None = None
    megabytes: float | None = None
    image_sizes: tuple[int, ...] = ()
    inference_ms: float | None = None


@dataclass(frozen=True)
class Contender:
    """One run, bundle, or member of a bundle.

    Attributes:
        name: As the table calls it.
        kind: `run`, `bundle` or `member`.
        path: Its folder.
        views: Views a photo that its figures are of.
        recipe: Runs of one recipe that differ by name or seed only have the same; empty for others.
        held_out: Its answers; None where no photo was held out.
        cost: What it cost and costs.
        out_of_fold: Whether single networks of a bag gave its answers.
    """

    name: str
    kind: str
    path: Path
    views: int
    recipe: str
    held_out: HeldOut | None
    cost: Cost
    out_of_fold: bool = False


def find_contenders(paths: Sequence[Path], reporter: Reporter = SILENT) -> list[Path]:
    """Find the run and bundle folders that paths mean, each once.

    Args:
        paths: Runs, bundles, folders of a recipe set's runs, folders of such folders.
        reporter: Where runs that are not finished are told; they are left out.

    Raises:
        ToolkitError: A path holds neither.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        folders = [path]
        if not any((path / name).is_file() for name in (RUN_MANIFEST, BUNDLE_MANIFEST)):
            folders = _runs_below(path, RUN_MANIFEST)
            for folder in _runs_below(path, PROGRESS):
                if folder not in folders:
                    reporter.say(f"{folder}: is not finished and is left out")
        if not folders:
            if (path / PROGRESS).is_file():
                load_run(path)  # Says that it is not finished.
            raise ToolkitError(
                f"{path}: Expected a run folder, a folder of runs, or a bundle folder; received "
                f"{'a folder with none in it' if path.is_dir() else 'no folder'}.",
                path=path,
            )
        for folder in folders:
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def load_contenders(
    folders: Sequence[Path],
    *,
    views: int = 1,
    voting: str = "auto",
    device: str = "auto",
    batch: int = 16,
    members: bool = False,
    measure: bool = False,
    reporter: Reporter = SILENT,
) -> list[Contender]:
    """Read runs and bundles.

    Args:
        folders: As `find_contenders` gives them.
        views: Views a photo of a bundle; a run is always scored on one.
        voting: As `toolkit.inference.voting.choose_voting` takes it.
        device: What inference cost is wanted of.
        batch: Photos a batch of it.
        members: Give every member of a bundle, too.
        measure: Measure now what members of bundles cost on this machine.

    Returns:
        In the given order. A bundle's answers are cross-fitted: what a photo is answered with was
        found without it.

    Raises:
        UsageError: A bundle has no such voting.
        ToolkitError: A folder is not whole.
    """
    runs = {path: load_run(path) for path in folders if (path / RUN_MANIFEST).is_file()}
    labels = {path: replace(run, folder=path.resolve()).label for path, run in runs.items()}
    repeated = Counter(labels.values())
    own = {
        path: _own(run, str(path) if repeated[labels[path]] > 1 else labels[path])
        for path, run in runs.items()
    }
    trained = {run.model_sha256: own[path] for path, run in runs.items()}

    def serving(bundle: Bundle, where: Device) -> Serving:
        found = Serving(bundle, choose_voting(bundle, views, voting), views, where, batch)
        return found.measure(reporter) if measure else found

    served = {
        path: on_device(device, partial(serving, load_bundle(path)))
        for path in folders
        if path not in runs
    }
    exported = _exported(list(served.values()))
    found: list[Contender] = []
    for path in folders:
        if path in runs:
            ms = exported.get(runs[path].model_sha256)
            found.append(replace(own[path], cost=replace(own[path].cost, inference_ms=ms)))
            continue
        answers = _answers(served[path], voting)
        found.append(_ensemble(served[path], answers, trained))
        if members:
            found += _members(served[path], answers, trained)
    return found


def _runs_below(path: Path, file: str) -> list[Path]:
    # Not those below a hidden folder: it is on its way to be removed.
    found = [*path.glob(f"[!.]*/{file}"), *path.glob(f"[!.]*/[!.]*/{file}")]
    return sorted(each.parent for each in found)


def _own(run: Run, name: str) -> Contender:
    validation, said = run.validation, None
    if validation is not None:
        answers = validation.labels, validation.probabilities
        said = HeldOut.of(run.data.classes, validation.ids, *answers)
    identity = {key: value for key, value in run.identity.items() if key != "seed"}
    identity["recipe"] = {k: v for k, v in run.recipe.settings.items() if k != "seed"}
    model = run.model_path
    cost = Cost(
        training_seconds=run.seconds,
        epochs=run.epochs,
        parameters=_parameters(model),
        megabytes=model.stat().st_size / 1e6 if model.is_file() else None,
        image_sizes=(run.recipe.image_size,),
    )
    return Contender(name, "run", run.folder, 1, sha256_json(identity), said, cost)


def _parameters(model: Path) -> int | None:
    """Count the weights in a `.keras` file without loading it; None where that cannot be done."""
    try:
        import h5py
    except ImportError:
        return None
    sizes: list[int] = []

    def add(_: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.dtype.kind == "f":
            sizes.append(int(node.size))

    try:
        with (
            zipfile.ZipFile(model) as archive,
            archive.open("model.weights.h5") as weights,
            h5py.File(weights) as file,
        ):
            file["layers"].visititems(add)
    except (OSError, KeyError, zipfile.BadZipFile):
        return None
    return sum(sizes)


def _exported(served: Sequence[Serving]) -> dict[str, float]:
    """Return what one look costs, by the hash of the Keras model that was exported."""
    found: dict[str, float] = {}
    for each in served:
        for member in each.bundle.members:
            ms = each.ms([member.name], views=1)
            if ms is not None and member.model_sha256:
                found.setdefault(member.model_sha256, ms)
    return found


def _answers(serving: Serving, wanted: str) -> tuple[BundleValidation, Probabilities] | None:
    """Return the held-out photos, and what the bundle says of each."""
    bundle, views, chosen = serving.bundle, serving.views, serving.voting
    if not bundle.validation_sha256:
        return None
    validation = load_validation(bundle)
    alternative = bundle.voting[views].alternatives.get(chosen.name)
    if "=" in wanted or alternative is None or alternative.accuracy is None:
        # Nothing was found on these photos, so nothing has to be found without them.
        seen = list(validation.probabilities[:, :, :views])
        weights = bundle.by_voter(chosen.weights)
        return validation, vote(seen, weights, chosen.temperature)
    mean = validation.averaged(views)
    custom = bundle.by_voter(chosen.weights) if chosen.name == "custom" else None
    metric = METRICS[bundle.voting[views].metric]
    fitted = cross_fitting(chosen.name, mean, validation.labels, validation.groups, custom, metric)
    return validation, fitted.judge(mean)


def _held_out(
    bundle: Bundle, validation: BundleValidation, probabilities: Probabilities
) -> HeldOut:
    return HeldOut.of(bundle.classes, validation.ids, validation.labels, probabilities)


def _ensemble(
    serving: Serving,
    answers: tuple[BundleValidation, Probabilities] | None,
    trained: Mapping[str, Contender],
) -> Contender:
    bundle = serving.bundle
    said = None if answers is None else _held_out(bundle, *answers)
    cost = _made_of(bundle, serving.voters, trained)
    cost = replace(cost, inference_ms=serving.ms(serving.voters, serving.views))
    name, bags = str(bundle.folder), bundle.has_bags
    return Contender(name, "bundle", bundle.folder, serving.views, "", said, cost, bags)


def _members(
    serving: Serving,
    answers: tuple[BundleValidation, Probabilities] | None,
    trained: Mapping[str, Contender],
) -> list[Contender]:
    bundle, views = serving.bundle, serving.views
    each: Sequence[HeldOut | None] = [None] * len(bundle.voters)
    if answers is not None:
        validation = answers[0]
        each = [_held_out(bundle, validation, alone) for alone in validation.averaged(views)]
    found = []
    for voter, said in zip(bundle.voters, each, strict=True):
        names = [bundle.members[index].name for index in voter.members]
        cost = _made_of(bundle, names, trained)
        cost = replace(cost, inference_ms=serving.ms(names, views))
        name = f"{bundle.folder}: {voter.name}"
        bags = bundle.has_bags
        found.append(Contender(name, "member", bundle.folder, views, "", said, cost, bags))
    return found


def _made_of(bundle: Bundle, names: Sequence[str], trained: Mapping[str, Contender]) -> Cost:
    """Return what members cost to train, where their runs are compared too, and how big they are.

    A member's file holds fewer weights than its run: batch norm is folded into its neighbours.
    """
    members = [member for member in bundle.members if member.name in names]
    files = [bundle.folder / member.file for member in members]
    runs = [trained[each.model_sha256].cost for each in members if each.model_sha256 in trained]
    known = Cost()
    if len(runs) == len(members):
        known = Cost(
            training_seconds=_total([run.training_seconds for run in runs]),
            epochs=_total([run.epochs for run in runs]),
            parameters=_total([run.parameters for run in runs]),
        )
    there = all(file.is_file() for file in files)
    return replace(
        known,
        megabytes=sum(file.stat().st_size for file in files) / 1e6 if there else None,
        image_sizes=tuple(sorted({member.image_size for member in members})),
    )


def _total(values: Sequence[Any]) -> Any:
    return None if any(value is None for value in values) else sum(values)
