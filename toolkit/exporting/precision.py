"""Lower precisions of the members of a bundle, accepted by evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import UsageError, nearest
from toolkit.exporting.candidates import Bench, try_precisions
from toolkit.exporting.members import Photos, spread
from toolkit.files import read_json, write_json
from toolkit.inference.bundle import Member, Variant
from toolkit.machine import package_versions
from toolkit.processes import in_own_process
from toolkit.progress import Reporter

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
        rows: One for each way that was tried; see `Bundle.precisions`.
        answers: By accepted precision, what it says to all views of the held-out photos: float32
            of shape (photos, views, classes).
    """

    member: Member
    rows: tuple[Mapping[str, Any], ...]
    answers: Mapping[str, NDArray[np.float32]]


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
    precisions: Sequence[str],
    photos: Photos,
    building: Path,
    reporter: Reporter,
) -> list[Lowered]:
    """Try lower precisions; those of members that an interrupted earlier call had done are found.

    Args:
        members: As `export_members` made them, with their held-out photos' answers.
        precisions: From `lower_precisions`.
        photos: The held-out ones judge; the others calibrate.
        building: Where the members lie, and where the files of variants are written.

    Returns:
        One a member, in their order.
    """
    if not precisions:
        return [Lowered(member, (), {}) for member in members]
    held_out = set(photos.chosen)
    training = [number for number in range(len(photos.paths)) if number not in held_out]
    calibration = [training[index] for index in spread(len(training), CALIBRATION_PHOTOS)]
    return [
        _lowered(member, precisions, photos, calibration, building, reporter) for member in members
    ]


def _lowered(
    member: Member,
    precisions: Sequence[str],
    photos: Photos,
    calibration: list[int],
    building: Path,
    reporter: Reporter,
) -> Lowered:
    stamp = building / f"{member.name}.precision.json"
    told = building / f"{member.name}.precision.npz"
    made_from = {
        "sha256": member.sha256,
        "photos": photos.hashes,
        "held_out": photos.chosen,
        "precisions": list(precisions),
        "versions": package_versions(_VERSIONED),
    }
    known = read_json(stamp) if stamp.is_file() else {}
    if known.get("made_from") != made_from:
        stamp.unlink(missing_ok=True)  # It would vouch for files that are being replaced.
        pixels = photos.decoded(member.square, reporter)
        bench = Bench(member, building, pixels, photos.chosen, calibration, reporter)
        rows, accepted = in_own_process(
            try_precisions, bench, precisions, told, environment=_NO_TELEMETRY
        )
        known = {"made_from": made_from, "rows": rows, "variants": accepted}
        write_json(stamp, known)
    variants = tuple(Variant(**variant) for variant in known["variants"])
    with np.load(told, allow_pickle=False) as arrays:
        answers = {variant.precision: arrays[variant.precision] for variant in variants}
    return Lowered(dataclasses.replace(member, variants=variants), tuple(known["rows"]), answers)
