"""What each member costs on this machine in each precision: measured once, and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from toolkit.errors import ToolkitError
from toolkit.inference.bundle import Bundle
from toolkit.inference.devices import Device
from toolkit.inference.measured import ROUNDS, keep, kept, machine_key, turns
from toolkit.inference.sessions import Session, Sessions
from toolkit.inference.threads import Threads
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
    sessions: Sessions,
    *,
    rounds: int = ROUNDS,
    fresh: bool = False,
    clock: Callable[[], float] = perf_counter,
    reporter: Reporter = SILENT,
) -> Costs:
    """Measure what a run of each member costs in each precision, or find it measured before.

    Each is measured alone on a run of random images that lie on the device already.

    Args:
        sessions: Of a bundle. All of its members are loaded in all of their precisions, those
            without a vote too; what was not loaded before is let go of again. Lower precisions
            that are not for the device, or that this machine cannot open, are skipped.
        rounds: Times that each is measured, in turns, after a run that does not count.
        fresh: Measure anew.
        clock: Seconds.
        reporter: Where progress is told.

    Returns:
        Milliseconds an image; each (member name, precision) is either there or in `skipped`.

    Raises:
        ToolkitError: A file of the bundle was changed, a member cannot be opened as it was
            exported, or the result cannot be written.
    """
    bundle = sessions.bundle
    key = _costs_key(bundle, sessions.device, sessions.threads, sessions.batch)
    found = None if fresh else _saved_costs(key)
    if found is not None:
        return found
    bundle.check_files()
    loaded_before = set(sessions)
    skipped: dict[Pair, str] = {}
    ready: dict[Pair, Callable[[], int]] = {}
    for member in bundle.members:
        lower = [variant.precision for variant in member.variants]
        for precision in (member.precision, *lower):
            pair = member.name, precision
            try:
                sessions.load([pair])
            except ToolkitError as error:
                if precision == member.precision:
                    raise
                skipped[pair] = str(error)
            else:
                ready[pair] = _run_of(sessions[pair], member.image_size)
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
    sessions.close(set(ready) - loaded_before)
    costs = Costs({pair: median(own) for pair, own in samples.items()}, skipped, samples)
    content = {
        "samples": [[*pair, own] for pair, own in samples.items()],
        "skipped": [[*pair, reason] for pair, reason in skipped.items()],
    }
    keep("costs", key, content)
    return costs


def saved_costs(bundle: Bundle, *, device: Device, threads: Threads, batch: int) -> Costs | None:
    """Return what `measure_costs` found for the same on this machine, or None."""
    return _saved_costs(_costs_key(bundle, device, threads, batch))


def _run_of(session: Session, size: int) -> Callable[[], int]:
    shape = (session.batch, size, size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    placed = session.place(images)
    return lambda: len(session.run(placed, session.batch))


def _costs_key(bundle: Bundle, device: Device, threads: Threads, batch: int) -> dict[str, Any]:
    return {
        **machine_key(device),
        "device_name": device.name,
        "bundle": bundle.sha256,
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
