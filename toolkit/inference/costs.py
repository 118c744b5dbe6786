"""What each member costs on this machine in each precision: measured once, and kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from toolkit.errors import ToolkitError
from toolkit.files import cache_folder, read_json, sha256_json, write_json
from toolkit.inference.bundle import Bundle
from toolkit.inference.devices import Device
from toolkit.inference.sessions import Session, Sessions
from toolkit.machine import RUNTIMES, package_versions, processor_name, usable_cores
from toolkit.progress import SILENT, Reporter

SCHEMA_VERSION = 3

ROUNDS = 5
"""Times that each of several things is measured, in turns."""

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


def pairs_of(bundle: Bundle, names: Collection[str]) -> list[Pair]:
    """Return members of some names in all of their precisions."""
    return [
        (member.name, precision)
        for member in bundle.members
        if member.name in names
        for precision in (member.precision, *(variant.precision for variant in member.variants))
    ]


def measure_costs(
    sessions: Sessions,
    pairs: Collection[Pair],
    *,
    rounds: int = ROUNDS,
    fresh: bool = False,
    clock: Callable[[], float] = perf_counter,
    reporter: Reporter = SILENT,
) -> Costs:
    """Measure what a run of each member costs in each precision, or find it measured before.

    Each is measured alone on a run of random images that lie on the device already.

    Args:
        sessions: Of a bundle. What was not loaded before is let go of again.
        pairs: Members and precisions. Lower precisions that are not for the device, or that this
            machine cannot open, are skipped. Where one was not measured before, those that were
            are measured again with it, because only what took turns can be compared.
        rounds: Times that each is measured, in turns, after a run that does not count.
        fresh: Measure anew.
        clock: Seconds.

    Returns:
        Milliseconds an image; each pair is either there or in `skipped`. What was measured before
        is there too.

    Raises:
        ToolkitError: A file of the bundle was changed, a member cannot be opened as it was
            exported, or the result cannot be written.
    """
    bundle = sessions.bundle
    key = _costs_key(bundle, sessions.device, sessions.threads, sessions.batch)
    found = None if fresh else _saved_costs(key)
    if found and all(pair in found.ms or pair in found.skipped for pair in pairs):
        return found
    _kept_file(key).unlink(missing_ok=True)
    bundle.check_files()
    loaded_before = set(sessions)
    before = {*found.ms, *found.skipped} if found else set()
    skipped: dict[Pair, str] = {}
    ready: dict[Pair, Callable[[], int]] = {}
    for member in bundle.members:
        for pair in pairs_of(bundle, [member.name]):
            if pair not in pairs and pair not in before:
                continue
            try:
                sessions.load([pair])
            except ToolkitError as error:
                if pair == (member.name, member.precision):
                    raise
                skipped[pair] = str(error)
            else:
                ready[pair] = _run_of(sessions[pair], member.image_size)
    samples: dict[Pair, list[float]] = {pair: [] for pair in ready}
    in_turn = list(ready)
    with reporter.track("measuring costs", (1 + rounds) * len(in_turn), "runs") as advance:
        for turn, number in _turns(1 + rounds, len(in_turn)):
            pair = in_turn[number]
            started = clock()
            images = ready[pair]()
            milliseconds = 1e3 * (clock() - started)
            if turn > 0:
                samples[pair].append(milliseconds / images)
            else:
                sessions.timings.first.setdefault(" ".join(pair), milliseconds)
            advance(1)
    sessions.close(set(ready) - loaded_before)
    costs = Costs({pair: median(own) for pair, own in samples.items()}, skipped, samples)
    content = {
        "key": key,
        "samples": [[*pair, own] for pair, own in samples.items()],
        "skipped": [[*pair, reason] for pair, reason in skipped.items()],
    }
    write_json(_kept_file(key), content)
    return costs


def machine_key(device: Device) -> dict[str, Any]:
    """Return what all that is measured depends on, whatever the bundle."""
    return {
        "schema_version": SCHEMA_VERSION,
        "processor": processor_name(),
        "cores": usable_cores(),
        "device": device.kind,
        "versions": package_versions(RUNTIMES),
    }


def _turns(rounds: int, count: int) -> list[tuple[int, int]]:
    """Give (round, number) such that none is always measured after the same other one."""
    return [
        (turn, (turn + place) % count if turn % 2 else (turn - place) % count)
        for turn in range(rounds)
        for place in range(count)
    ]


def _run_of(session: Session, size: int) -> Callable[[], int]:
    shape = (session.batch, size, size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    placed = session.place(images)
    return lambda: len(session.run(placed, session.batch))


def _kept_file(key: Mapping[str, Any]) -> Path:
    """Return where costs are kept: no part of a bundle, because they are a machine's."""
    return cache_folder() / "costs" / f"{sha256_json(key)[:32]}.json"


def _costs_key(bundle: Bundle, device: Device, threads: int, batch: int) -> dict[str, Any]:
    return {
        **machine_key(device),
        "device_name": device.name,
        "bundle": bundle.sha256,
        "threads": threads,
        "batch": batch,
    }


def _saved_costs(key: Mapping[str, Any]) -> Costs | None:
    try:
        content = read_json(_kept_file(key))
        if content["key"] != key:
            return None
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
