"""Lower precisions of the members of a bundle, accepted by evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Sha256, artifact, read_artifact
from toolkit.errors import UsageError, nearest
from toolkit.exporting.candidates import Bench, try_precisions
from toolkit.exporting.members import Photos, spread
from toolkit.files import read_json, sha256_json, write_json
from toolkit.inference.bundle import Member, QuantizationTrial, Variant
from toolkit.inference.manifest import Precision
from toolkit.machine import package_versions
from toolkit.processes import in_own_process
from toolkit.progress import Reporter
from toolkit.training.run import Run

PRECISIONS = ("fp32", "fp16", "bf16", "int8")

CALIBRATION_PHOTOS = 256
"""Training photos that INT8's ranges are found on."""

_NO_TELEMETRY = {"NNCF_CI": "1"}
_VERSIONED = ("onnxruntime-gpu", "onnxruntime", "openvino", "nncf")


@dataclass(frozen=True)
class Lowered:
    """What came of a member's lower precisions.

    Attributes:
        member: With the variants that were accepted.
        trials: One for each way that was tried.
        answers: By accepted precision, what it says to all views of the photos that judge:
            float32 of shape (photos, views, classes).
    """

    member: Member
    trials: tuple[QuantizationTrial, ...]
    answers: Mapping[Precision, NDArray[np.float32]]


def lower_precisions(wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the lower ones of the requested precisions, in their usual order; fp32 is always made.

    Raises:
        UsageError: A name is unknown.
    """
    for name in wanted:
        if name not in PRECISIONS:
            raise UsageError.of(
                "precisions",
                tuple(wanted),
                f"Expected {', '.join(PRECISIONS)} or several of them, received '{name}'. "
                f"{nearest(name, PRECISIONS)}".rstrip(),
            )
    return tuple(name for name in PRECISIONS[1:] if name in wanted)


def lower_members(
    members: Sequence[Member],
    runs: Sequence[Run],
    precisions: Sequence[str],
    photos: Photos,
    building: Path,
    reporter: Reporter,
) -> list[Lowered]:
    """Try lower precisions; those of members that an interrupted earlier call had done are found.

    Args:
        members: As `export_members` made them, with their held-out photos' answers.
        precisions: From `lower_precisions`.
        runs: That they were exported from.
        photos: Those that a network did not learn judge it; the others calibrate.
        building: Where the members lie, and where the files of variants are written.

    Returns:
        One a member, in their order.
    """
    if not precisions:
        return [Lowered(member, (), {}) for member in members]
    return [
        _lowered(member, precisions, photos, photos.chosen(run), building, reporter)
        for member, run in zip(members, runs, strict=True)
    ]


def _lowered(
    member: Member,
    precisions: Sequence[str],
    photos: Photos,
    judging: list[int],
    building: Path,
    reporter: Reporter,
) -> Lowered:
    learned = sorted(set(range(len(photos.paths))).difference(judging))
    calibration = [learned[index] for index in spread(len(learned), CALIBRATION_PHOTOS)]
    stamp = building / f"{member.name}.precision.json"
    told = building / f"{member.name}.precision.npz"
    made_from = sha256_json(
        {
            "sha256": member.sha256,
            "photos": photos.hashes,
            "held_out": judging,
            "precisions": list(precisions),
            "versions": package_versions(_VERSIONED),
        }
    )
    known = _Stamp.load(stamp)
    if known is None or known.made_from != made_from:
        stamp.unlink(missing_ok=True)  # It would vouch for files that are being replaced.
        pixels = photos.decoded(member.square, reporter)
        bench = Bench(member, building, pixels, judging, calibration, reporter)
        trials, accepted = in_own_process(
            try_precisions, bench, precisions, told, environment=_NO_TELEMETRY
        )
        known = _Stamp(made_from, tuple(trials), tuple(accepted))
        write_json(stamp, asdict(known))
    with np.load(told, allow_pickle=False) as arrays:
        answers = {each.precision: arrays[each.precision] for each in known.variants}
    lowered = dataclasses.replace(member, variants=known.variants)
    return Lowered(lowered, known.trials, answers)


@artifact
class _Stamp:
    """What was tried for a member, kept for an export that goes on after an interruption.

    Attributes:
        made_from: Hash of all that it depends on.
        trials: All that was tried.
        variants: Those that were accepted.
    """

    made_from: Sha256
    trials: tuple[QuantizationTrial, ...]
    variants: tuple[Variant, ...]

    @classmethod
    def load(cls, path: Path) -> _Stamp | None:
        """Read it; None where there is none."""
        return read_artifact(cls, read_json(path), path, "Remove it.") if path.is_file() else None
