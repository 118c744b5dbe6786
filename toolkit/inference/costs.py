"""What each member costs on this machine in each precision: measured once, and kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from toolkit.artifacts import Json, artifact, dump_artifact, read_artifact
from toolkit.errors import ToolkitError
from toolkit.files import cache_folder, read_json, sha256_json, write_json
from toolkit.inference.bundle import Bundle
from toolkit.inference.calls import ModelKey
from toolkit.inference.devices import Device
from toolkit.inference.sessions import Session, Sessions
from toolkit.machine import RUNTIMES, package_versions, processor_name, usable_cores
from toolkit.progress import SILENT, Reporter

SCHEMA_VERSION = 3

ROUNDS = 5
"""Times that each of several things is measured, in turns."""


@dataclass(frozen=True)
class Costs:
    """What members cost on one device.

    Attributes:
        ms: By member and precision, milliseconds an image: the median of the samples.
        skipped: By member and precision, why it was not measured.
        samples: By member and precision, milliseconds an image, one a round.
    """

    ms: Mapping[ModelKey, float]
    skipped: Mapping[ModelKey, str] = field(default_factory=dict)
    samples: Mapping[ModelKey, Sequence[float]] = field(default_factory=dict)


def keys_of(bundle: Bundle, names: Collection[str]) -> list[ModelKey]:
    """Return members of some names in all of their precisions."""
    return [
        ModelKey(member.name, precision)
        for member in bundle.members
        if member.name in names
        for precision in (member.precision, *(variant.precision for variant in member.variants))
    ]


def measure_costs(
    sessions: Sessions,
    keys: Collection[ModelKey],
    *,
    rounds: int = ROUNDS,
    fresh: bool = False,
    clock: Callable[[], float] = perf_counter,
    reporter: Reporter = SILENT,
) -> Costs:
    """Measure what a run of each member costs in each precision, or find it measured before.

    Each is measured alone on a run of random images that lie on the device already.

    Args:
        sessions: Of a bundle. What was not loaded before is released again.
        keys: Members and precisions. Lower precisions that are not for the device, or that this
            machine cannot open, are skipped. Where one was not measured before, those that were
            are measured again with it, because only what took turns can be compared.
        rounds: Times that each is measured, in turns, after a run that does not count.
        fresh: Measure anew.
        clock: Seconds.

    Returns:
        Milliseconds an image; each key is either there or in `skipped`. What was measured before
        is there too.

    Raises:
        ToolkitError: A file of the bundle was changed, a member cannot be opened as it was
            exported, or the result cannot be written.
    """
    bundle = sessions.bundle
    machine = _costs_key(bundle, sessions.device, sessions.threads, sessions.batch)
    found = None if fresh else _saved_costs(machine)
    if found and all(key in found.ms or key in found.skipped for key in keys):
        return found
    _kept_file(machine).unlink(missing_ok=True)
    bundle.check_files()
    loaded_before = set(sessions)
    before = {*found.ms, *found.skipped} if found else set()
    skipped: dict[ModelKey, str] = {}
    ready: dict[ModelKey, Callable[[], int]] = {}
    for member in bundle.members:
        for key in keys_of(bundle, [member.name]):
            if key not in keys and key not in before:
                continue
            try:
                sessions.load([key])
            except ToolkitError as error:
                if key.precision == member.precision:
                    raise
                skipped[key] = str(error)
            else:
                ready[key] = _run_of(sessions[key], member.image_size)
    samples: dict[ModelKey, list[float]] = {key: [] for key in ready}
    in_turn = list(ready)
    with reporter.track("measuring costs", (1 + rounds) * len(in_turn), "runs") as advance:
        for turn, number in _turns(1 + rounds, len(in_turn)):
            key = in_turn[number]
            started = clock()
            images = ready[key]()
            milliseconds = 1e3 * (clock() - started)
            if turn > 0:
                samples[key].append(milliseconds / images)
            else:
                sessions.timings.first.setdefault(key, milliseconds)
            advance(1)
    sessions.close(set(ready) - loaded_before)
    costs = Costs({key: median(own) for key, own in samples.items()}, skipped, samples)
    keep_costs(sessions, costs)
    return costs


def known_costs(sessions: Sessions) -> Costs | None:
    """Return what was measured for these sessions before; None where nothing was."""
    return _saved_costs(
        _costs_key(sessions.bundle, sessions.device, sessions.threads, sessions.batch)
    )


def keep_costs(sessions: Sessions, costs: Costs) -> None:
    """Keep what was measured for sessions, where `known_costs` and `measure_costs` find it."""
    machine = _costs_key(sessions.bundle, sessions.device, sessions.threads, sessions.batch)
    kept = _KeptCosts(
        key=machine,
        samples=tuple(
            _Measured(key.member, key.precision, tuple(own)) for key, own in costs.samples.items()
        ),
        skipped=tuple(
            _Skipped(key.member, key.precision, said) for key, said in costs.skipped.items()
        ),
    )
    write_json(_kept_file(machine), dump_artifact(kept))


def estimated_costs(bundle: Bundle) -> dict[ModelKey, float]:
    """Return what members cost in relation to each other, where nothing was measured.

    A network's arithmetic grows with its weights and with the pixels of its input.
    """
    return {
        ModelKey(member.name, member.precision): float(
            (bundle.folder / member.file).stat().st_size * member.image_size**2
        )
        for member in bundle.members
    }


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


def _saved_costs(machine: Mapping[str, Any]) -> Costs | None:
    """Return costs that were kept; None where there are none, or no whole ones of this machine."""
    path = _kept_file(machine)
    try:
        kept = read_artifact(_KeptCosts, read_json(path), path, "")
    except ToolkitError:
        return None
    if kept.key != machine:
        return None
    samples = {ModelKey(each.member, each.precision): list(each.ms) for each in kept.samples}
    skipped = {ModelKey(each.member, each.precision): each.reason for each in kept.skipped}
    return Costs({key: median(own) for key, own in samples.items()}, skipped, samples)


@artifact
class _Measured:
    """Samples of a member in a precision, in milliseconds an image."""

    member: str
    precision: str
    ms: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)]


@artifact
class _Skipped:
    """A member in a precision that could not be measured, and why."""

    member: str
    precision: str
    reason: str


@artifact
class _KeptCosts:
    """What was measured, and all that it depends on."""

    key: dict[str, Json]
    samples: tuple[_Measured, ...]
    skipped: tuple[_Skipped, ...]
