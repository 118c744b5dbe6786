"""From finished runs to a bundle."""

from __future__ import annotations

import datetime
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.cache import decoded_photos
from toolkit.data.dataset import load_labelled
from toolkit.data.pixels import DECODER_VERSION, DEFINITION
from toolkit.data.survey import survey
from toolkit.errors import ToolkitError, UsageError, listing
from toolkit.exporting.select import member_names
from toolkit.exporting.weights import unvalidated_table, voting_table
from toolkit.files import read_json, remove_folder, sha256_file, write_json, written_whole
from toolkit.inference.bundle import (
    MANIFEST,
    VALIDATION,
    Bundle,
    Member,
    VotingTable,
    load_bundle,
    save_bundle,
)
from toolkit.inference.devices import choose_device
from toolkit.inference.sessions import MemberSession, Threads
from toolkit.inference.views import VIEWS, FixedViews
from toolkit.inference.voting import parse_weights
from toolkit.machine import package_versions, usable_cores
from toolkit.processes import import_quietly, in_own_process
from toolkit.progress import SILENT, Reporter
from toolkit.training.run import Run, Validation

PHOTOS_WITHOUT_VALIDATION = 256
"""Photos that parity is shown on where the members trained on all of them."""

_VERSIONED = (
    "tensorflow",
    "keras",
    "tf2onnx",
    "onnx",
    "onnxruntime-gpu",
    "onnxruntime",
    "pillow",
    "toolkit",
)
_BATCH = 16


@dataclass(frozen=True)
class ExportOptions:
    """What a user may choose at export.

    Attributes:
        bundle: The folder to make.
        data: The data folder; None takes the one that the runs name.
        voting: `auto`, `uniform`, `accuracy`, `fitted` or `NAME=W,...`.
        fresh: Replace a bundle that was made from something else.
    """

    bundle: Path = Path("bundle")
    data: Path | None = None
    voting: str = "auto"
    fresh: bool = False


def export(runs: Sequence[Run], options: ExportOptions, reporter: Reporter = SILENT) -> Bundle:
    """Export runs to ONNX, compare each with Keras, find voting weights, write the bundle.

    Interrupted, the same call goes on with the members that are not done.

    Args:
        runs: The members, all trained on the same split.
        options: Everything else.
        reporter: Where progress is told.

    Returns:
        The bundle, as it stands in its folder.

    Raises:
        ToolkitError: A member's file does not compute what Keras computes, the photos are not
            those that the runs saw, or another bundle stands in the way.
    """
    if importlib.util.find_spec("tf2onnx") is None:
        raise ToolkitError("Exporting needs TensorFlow and tf2onnx: pip install 'toolkit[train]'.")
    named = list(zip(member_names(runs), runs, strict=True))
    custom = _custom_weights(options.voting, [name for name, _ in named])
    existing = _existing(named, options)
    if existing is not None:
        reporter.say(f"{options.bundle}: already holds these runs, not exported again")
        return existing
    photos = _Photos.find(runs, options.data, reporter)
    target = options.bundle.absolute()
    building = target.with_name(f".{target.name}.building")
    building.mkdir(parents=True, exist_ok=True)
    members = [_member(name, run, photos, building, reporter) for name, run in named]
    seen, validation = runs[0].data, runs[0].validation
    voting = _voting(members, validation, building, custom, options.voting)
    bundle = Bundle(
        folder=building,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=package_versions(_VERSIONED),
        classes=seen.classes,
        names=photos.names,
        class_prior=tuple(count / seen.training_photos for count in seen.class_counts),
        pixels={**DEFINITION, "decoder_version": DECODER_VERSION},
        data={
            "fingerprint": seen.fingerprint,
            "split_seed": seen.split_seed,
            "validation_fraction": seen.validation_fraction,
            "held_out": seen.held_out,
        },
        members=tuple(members),
        voting=voting,
        requested_voting=options.voting,
        validation_sha256=sha256_file(building / VALIDATION) if validation else "",
    )
    kept = {member.file for member in members} | ({VALIDATION} if validation else set())
    for path in building.iterdir():
        if path.name not in kept:
            path.unlink()
    save_bundle(bundle)
    remove_folder(options.bundle)
    building.rename(options.bundle)
    return load_bundle(options.bundle)


@dataclass(frozen=True)
class _Photos:
    """The photos that members are compared and measured on."""

    paths: list[Path]
    hashes: list[str]
    chosen: list[int]
    names: dict[str, str]

    @classmethod
    def find(cls, runs: Sequence[Run], data: Path | None, reporter: Reporter) -> _Photos:
        folder = data or Path(runs[0].data.folder)
        seen = runs[0].data
        dataset = load_labelled(folder).without(seen.left_out)
        if dataset.fingerprint != seen.fingerprint:
            raise ToolkitError(
                f"{folder}: holds other photos or labels than {runs[0].label} was trained on. Name "
                "the right folder with --data."
            )
        paths = [photo.path for photo in dataset.photos]
        facts = survey(paths, reporter)
        broken = [
            f"{path}: {fact.broken}" for path, fact in zip(paths, facts, strict=True) if fact.broken
        ]
        if broken:
            raise ToolkitError(f"photos that the runs saw cannot be read:\n{listing(broken)}")
        ids = [photo.id for photo in dataset.photos]
        validation = runs[0].validation
        number = {id: index for index, id in enumerate(ids)}
        chosen = (
            [number[str(id)] for id in validation.ids]
            if validation
            else _spread(len(ids), PHOTOS_WITHOUT_VALIDATION)
        )
        return cls(paths, [fact.sha256 for fact in facts], chosen, dataset.names)


def _member(name: str, run: Run, photos: _Photos, building: Path, reporter: Reporter) -> Member:
    """Export one member, or find it exported by an earlier call that was interrupted."""
    stamp, file = building / f"{name}.json", f"{name}.onnx"
    known = read_json(stamp) if stamp.is_file() else {}
    if known.get("model_sha256") != run.model_sha256 or known.get("photos") != photos.hashes:
        stamp.unlink(missing_ok=True)  # It would vouch for a file that is being replaced.
        pixels = decoded_photos(photos.paths, photos.hashes, run.recipe.image_size, reporter)
        reporter.say(f"{name}: to ONNX, and compared with Keras on {len(photos.chosen)} photos")
        parity = _converted(name, run, pixels, photos, building / file)
        if run.validation:
            answers = _answers_to_views(name, building / file, pixels, photos.chosen, reporter)
            with written_whole(building / f"{name}.npz") as temporary:
                np.savez_compressed(temporary, probabilities=answers)
        known = {"model_sha256": run.model_sha256, "photos": photos.hashes, "parity": parity}
        write_json(stamp, known)
    return Member(
        name=name,
        run=run.label,
        model_sha256=run.model_sha256,
        backbone=run.recipe.backbone,
        file=file,
        sha256=sha256_file(building / file),
        precision="fp32",
        image_size=run.recipe.image_size,
        augmentor=run.recipe.augmentor,
        score=run.score,
        parity=known["parity"],
    )


def _converted(name: str, run: Run, pixels: Path, photos: _Photos, target: Path) -> dict[str, Any]:
    metadata = {
        "toolkit.classes": json.dumps(run.data.classes),
        "toolkit.image_size": str(run.recipe.image_size),
        "toolkit.recipe": run.recipe.to_yaml(),
        "toolkit.versions": json.dumps({**run.versions, **package_versions(_VERSIONED)}),
        "toolkit.pixels": json.dumps(DEFINITION),
    }
    try:
        return in_own_process(
            _convert_in_child,
            run.model_path,
            target,
            metadata,
            pixels,
            photos.chosen,
            environment={"KERAS_BACKEND": "tensorflow"},
        )
    except ToolkitError as error:
        raise ToolkitError(f"{name} ({run.folder}): {error}") from None


def _convert_in_child(*arguments: Any) -> dict[str, Any]:
    import_quietly("keras")
    from toolkit.exporting.convert import convert

    return convert(*arguments)


def _answers_to_views(
    name: str, file: Path, pixels: Path, chosen: list[int], reporter: Reporter
) -> NDArray[np.float32]:
    """Return what a member says to all views of photos, shape (photos, views, classes)."""
    session = MemberSession(file, choose_device("cpu"), Threads(usable_cores()), _BATCH)
    photos, views = np.load(pixels, mmap_mode="r"), FixedViews(len(VIEWS))
    answers: list[NDArray[np.float32]] = []
    with reporter.track(f"{name}: views", len(chosen)) as advance:
        for number in chosen:
            answers.append(session.run(views(np.asarray(photos[number]), number), len(VIEWS)))
            advance(1)
    return np.stack(answers)


def _voting(
    members: Sequence[Member],
    validation: Validation | None,
    building: Path,
    custom: tuple[float, ...] | None,
    wanted: str,
) -> dict[int, VotingTable]:
    if validation is None:
        table = unvalidated_table(len(members), custom)
        return {views: _chosen(table, wanted) for views in range(1, len(VIEWS) + 1)}
    probabilities = np.stack(
        [np.load(building / f"{member.name}.npz")["probabilities"] for member in members]
    )
    with written_whole(building / VALIDATION) as temporary:
        np.savez_compressed(
            temporary,
            ids=validation.ids,
            labels=validation.labels,
            groups=validation.groups,
            probabilities=probabilities,
        )
    names = [member.name for member in members]
    tables = {}
    for views in range(1, len(VIEWS) + 1):
        averaged = probabilities[:, :, :views].mean(axis=2, dtype=np.float64)
        table = voting_table(averaged, validation.labels, validation.groups, names, custom)
        tables[views] = _chosen(table, wanted)
    return tables


def _chosen(table: VotingTable, wanted: str) -> VotingTable:
    if wanted == "auto":
        return table
    name = "custom" if "=" in wanted else wanted
    if name not in table.alternatives:
        raise UsageError(
            f"--voting {wanted}: Expected auto, {', '.join(table.alternatives)} or NAME=WEIGHT,... "
            "(weights can only be found where photos were held out)."
        )
    return VotingTable(name, "asked for at export", table.alternatives, table.best_single)


def _custom_weights(voting: str, names: list[str]) -> tuple[float, ...] | None:
    if "=" in voting:
        return parse_weights(voting, names)
    if voting not in ("auto", "uniform", "accuracy", "fitted"):
        raise UsageError(
            f"--voting {voting}: Expected auto, uniform, accuracy, fitted or NAME=WEIGHT,..."
        )
    return None


def _existing(named: Sequence[tuple[str, Run]], options: ExportOptions) -> Bundle | None:
    """Return the bundle that stands there if it is the one asked for; refuse another."""
    if not options.bundle.exists():
        return None
    # Not even --fresh may remove a folder that the toolkit did not make.
    if not (options.bundle / MANIFEST).is_file():
        raise ToolkitError(
            f"{options.bundle}: exists and is no bundle. Name another with --bundle."
        )
    if options.fresh:
        return None
    bundle = load_bundle(options.bundle)
    same = [(each.name, each.run, each.model_sha256) for each in bundle.members]
    wanted = [(name, run.label, run.model_sha256) for name, run in named]
    if same == wanted and bundle.requested_voting == options.voting:
        bundle.check_files()
        return bundle
    raise ToolkitError(
        f"{options.bundle}: holds a bundle made from other runs or with another voting. Pass "
        "--fresh to replace it, or name another with --bundle."
    )


def _spread(count: int, most: int) -> list[int]:
    """Return numbers below `count`, evenly spread, so that every class is among the photos."""
    return sorted(set(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()))
