"""What each member costs on this machine in each precision: measured once, and kept."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from toolkit.errors import ToolkitError
from toolkit.inference.bundle import Bundle, Member
from toolkit.inference.devices import Device
from toolkit.inference.measured import ROUNDS, keep, kept, machine_key, turns
from toolkit.inference.sessions import Threads, open_session
from toolkit.progress import SILENT, Reporter

Pair = tuple[str, str]
"""A member's name and a precision."""


@dataclass(frozen=True)
class Costs:
    """What members cost on one device.

    Attributes:
        ms: By (member name, precision), milliseconds an image: the median of the samples.
        skipped: By (member name, precision), why it was not measured.
        samples: By (member name, precision), milliseconds an image, one a round.
    """

    ms: Mapping[Pair, float]
    skipped: Mapping[Pair, str] = field(default_factory=dict)
    samples: Mapping[Pair, Sequence[float]] = field(default_factory=dict)


def measure_costs(
    bundle: Bundle,
    precisions: Sequence[str],
    *,
    device: Device,
    threads: Threads,
    batch: int,
    rounds: int = ROUNDS,
    fresh: bool = False,
    clock: Callable[[], float] = perf_counter,
    reporter: Reporter = SILENT,
) -> Costs:
    """Measure what a run of each member costs in each precision, or find it measured before.

    Each is measured alone on a run of random images that lie on the device already.

    Args:
        bundle: All of its members are measured, those without a vote too.
        precisions: `fp32`, `fp16`, `bf16`, `int8`. What a member does not have, this machine
            cannot open, or does not fit the device, is skipped: INT8 and all that OpenVINO runs
            are for the CPU, fp16 is for a GPU.
        device: Where to compute.
        threads: Of a session on the CPU.
        batch: Images a run; see `open_session`.
        rounds: Times that each is measured, in turns, after a run that does not count.
        fresh: Measure anew.
        clock: Seconds.
        reporter: Where progress is told.

    Returns:
        Milliseconds an image; each (member name, precision) is either there or in `skipped`.

    Raises:
        ToolkitError: The result cannot be written.
    """
    key = _costs_key(bundle, precisions, device, threads, batch)
    found = None if fresh else _saved_costs(key)
    if found is not None:
        return found
    skipped: dict[Pair, str] = {}
    ready: dict[Pair, Callable[[], int]] = {}
    for member, precision in itertools.product(bundle.members, dict.fromkeys(precisions)):
        try:
            _check_fit(member, precision, device)
            ready[member.name, precision] = _run_of(
                bundle.folder, member, precision, device, threads, batch
            )
        except ToolkitError as error:
            skipped[member.name, precision] = str(error)
    samples: dict[Pair, list[float]] = {pair: [] for pair in ready}
    pairs = list(ready)
    with reporter.track("measuring costs", (1 + rounds) * len(pairs), "runs") as advance:
        for turn, number in turns(1 + rounds, len(pairs)):
            run = ready[pairs[number]]
            started = clock()
            images = run()
            if turn > 0:
                samples[pairs[number]].append(1e3 * (clock() - started) / images)
            advance(1)
    costs = Costs({pair: median(own) for pair, own in samples.items()}, skipped, samples)
    content = {
        "samples": [[*pair, own] for pair, own in samples.items()],
        "skipped": [[*pair, reason] for pair, reason in skipped.items()],
    }
    keep("costs", key, content)
    return costs


def saved_costs(
    bundle: Bundle, precisions: Sequence[str], *, device: Device, threads: Threads, batch: int
) -> Costs | None:
    """Return what `measure_costs` found for the same on this machine, or None."""
    return _saved_costs(_costs_key(bundle, precisions, device, threads, batch))


def _check_fit(member: Member, precision: str, device: Device) -> None:
    """Refuse a precision that is not for a device.

    Raises:
        ToolkitError: It is not, or the member does not have it.
    """
    variant = member.variant(precision)
    by_openvino = variant is not None and variant.runtime == "openvino"
    if device.is_gpu and (by_openvino or precision == "int8"):
        by = " by OpenVINO" if by_openvino else ""
        raise ToolkitError(f"'{member.name}' in {precision}{by} is for the CPU, not {device.kind}.")
    if not device.is_gpu and precision == "fp16":
        raise ToolkitError(f"'{member.name}' in fp16 is for a GPU, not the CPU.")


def _run_of(
    folder: Path, member: Member, precision: str, device: Device, threads: Threads, batch: int
) -> Callable[[], int]:
    session = open_session(folder, member, precision, device, threads, batch)
    shape = (session.batch, member.image_size, member.image_size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    placed = session.place(images)
    return lambda: len(session.run(placed, session.batch))


def _costs_key(
    bundle: Bundle, precisions: Sequence[str], device: Device, threads: Threads, batch: int
) -> dict[str, Any]:
    return {
        **machine_key(device),
        "device_name": device.name,
        "bundle": bundle.sha256,
        "precisions": sorted(set(precisions)),
        "threads": asdict(threads),
        "batch": batch,
    }


def _saved_costs(key: Mapping[str, Any]) -> Costs | None:
    try:
        content = kept("costs", key)
        samples = {
            (str(name), str(precision)): [float(each) for each in own]
            for name, precision, own in content["samples"]
        }
        skipped = {
            (str(name), str(precision)): str(reason)
            for name, precision, reason in content["skipped"]
        }
        return Costs({pair: median(own) for pair, own in samples.items()}, skipped, samples)
    except (ToolkitError, KeyError, TypeError, ValueError):
        return None
