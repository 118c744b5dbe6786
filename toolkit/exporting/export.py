"""From finished runs to a bundle."""

from __future__ import annotations

import datetime
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.data.pixels import DECODER_VERSION, DEFINITION
from toolkit.errors import ToolkitError, UsageError, nearest
from toolkit.exporting.members import VERSIONED, Photos, export_members
from toolkit.exporting.precision import Lowered, lower_members, parse_precisions
from toolkit.exporting.select import member_names
from toolkit.exporting.weights import unvalidated_table, voting_table
from toolkit.files import remove_folder, sha256_file
from toolkit.inference.bundle import (
    MANIFEST,
    VALIDATION,
    Bundle,
    BundleValidation,
    VotingTable,
    load_bundle,
    save_bundle,
)
from toolkit.inference.views import VIEWS
from toolkit.inference.voting import parse_weights
from toolkit.machine import package_versions
from toolkit.progress import SILENT, Reporter
from toolkit.training.run import Run, Validation

_VOTINGS = ("auto", "uniform", "accuracy", "fitted")


@dataclass(frozen=True)
class ExportOptions:
    """What a user may choose at export.

    Attributes:
        bundle: The folder to make.
        data: The data folder; None takes the one that the runs name.
        voting: `auto`, `uniform`, `accuracy`, `fitted` or `NAME=W,...`.
        fresh: Replace a bundle that was made from something else.
        precision: `fp32`, which is always made, and lower ones to try, with commas between.
    """

    bundle: Path = Path("bundle")
    data: Path | None = None
    voting: str = "auto"
    fresh: bool = False
    precision: str = "fp32"


def export(runs: Sequence[Run], options: ExportOptions, reporter: Reporter = SILENT) -> Bundle:
    """Export runs to ONNX, compare each with Keras, find voting weights, write the bundle.

    Lower precisions that are asked for are tried, and those that pay are in the bundle beside fp32.

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
        UsageError: The options do not fit the runs.
    """
    if importlib.util.find_spec("tf2onnx") is None:
        raise ToolkitError("Exporting needs TensorFlow and tf2onnx: pip install 'toolkit[train]'.")
    named = list(zip(member_names(runs), runs, strict=True))
    custom = _custom_weights(options.voting, [name for name, _ in named])
    lower = parse_precisions(options.precision)
    if lower and runs[0].validation is None:
        raise UsageError(
            f"--precision {options.precision}: {runs[0].label} trained on all photos, so that none "
            "is left to judge lower precisions by. Pass --precision fp32."
        )
    existing = _existing(named, options, lower)
    if existing is not None:
        reporter.say(f"{options.bundle}: already holds these runs, not exported again")
        return existing
    photos = Photos.find(runs, options.data, reporter)
    target = options.bundle.absolute()
    building = target.with_name(f".{target.name}.building")
    try:
        building.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolkitError(f"{options.bundle}: cannot be made ({error.strerror}).") from None
    exported = export_members(named, photos, building, reporter)
    lowered = lower_members(exported, lower, photos, building, reporter)
    members = [each.member for each in lowered]
    seen, validation = runs[0].data, runs[0].validation
    voting = _voting(lowered, validation, building, custom, options.voting)
    bundle = Bundle(
        folder=building,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=package_versions(VERSIONED),
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
        precisions=tuple(row for each in lowered for row in each.rows),
    )
    kept = {member.file for member in members} | ({VALIDATION} if validation else set())
    kept.update(*(variant.files for member in members for variant in member.variants))
    for path in building.iterdir():
        if path.name not in kept:
            path.unlink()
    save_bundle(bundle)
    remove_folder(options.bundle)
    building.rename(options.bundle)
    return load_bundle(options.bundle)


def _voting(
    lowered: Sequence[Lowered],
    validation: Validation | None,
    building: Path,
    custom: tuple[float, ...] | None,
    wanted: str,
) -> dict[int, VotingTable]:
    if validation is None:
        table = unvalidated_table(len(lowered), custom)
        return {views: _chosen(table, wanted) for views in range(1, len(VIEWS) + 1)}
    names = [each.member.name for each in lowered]
    probabilities = np.stack([np.load(building / f"{name}.npz")["probabilities"] for name in names])
    variants = {
        (each.member.name, precision): said
        for each in lowered
        for precision, said in each.answers.items()
    }
    BundleValidation(
        validation.ids, validation.labels, validation.groups, probabilities, variants
    ).save(building / VALIDATION)
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
    if voting not in _VOTINGS:
        raise UsageError(
            f"--voting {voting}: Expected {', '.join(_VOTINGS)} or NAME=WEIGHT,... "
            f"{nearest(voting, _VOTINGS)}".rstrip()
        )
    return None


def _existing(
    named: Sequence[tuple[str, Run]], options: ExportOptions, lower: Sequence[str]
) -> Bundle | None:
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
    # Whatever is asked for is tried, so every precision has rows.
    tried = {row["precision"] for row in bundle.precisions}
    if same == wanted and bundle.requested_voting == options.voting and tried == set(lower):
        bundle.check_files()
        return bundle
    raise ToolkitError(
        f"{options.bundle}: holds a bundle made from other runs or with another voting or other "
        "precisions. Pass --fresh to replace it, or name another with --bundle."
    )
