"""What is measured on this machine, once: how to use its cores, and what each member costs.

Both depend on processor, libraries and bundle alike, so they are no part of a bundle: they are kept
in the user's cache folder, under a name made of all that they depend on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from toolkit.data.pixels import BrokenPhotoError, Pixels, decode
from toolkit.errors import ToolkitError
from toolkit.files import cache_folder, read_json, sha256_json, write_json
from toolkit.inference.bundle import Bundle, Member
from toolkit.inference.devices import Device
from toolkit.inference.engine import Engine, Source
from toolkit.inference.sessions import Threads, open_session
from toolkit.inference.timing import milliseconds_since
from toolkit.inference.voting import Voting
from toolkit.machine import package_versions, processor_name, usable_cores
from toolkit.progress import SILENT, Reporter

SCHEMA_VERSION = 1

ROUNDS = 5
"""Times that each candidate, and each member in a precision, is measured."""

_VERSIONED = ("onnxruntime-gpu", "onnxruntime", "openvino")

Pair = tuple[str, str]
"""A member's name and a precision."""


@dataclass(frozen=True)
class Tried:
    """One way to use the cores, measured.

    Attributes:
        threads: The way.
        samples: Milliseconds a photo, one a round.
    """

    threads: Threads
    samples: tuple[float, ...]

    @property
    def ms(self) -> float:
        """Milliseconds a photo: the median of the samples."""
        return median(self.samples)


@dataclass(frozen=True)
class ThreadPlan:
    """How sessions on the CPU shall use the cores.

    Attributes:
        threads: What was chosen: the fastest of those tried.
        tried: All candidates; empty where nothing was measured.
        photos: How many photos one sample answers.
        note: Why nothing was measured; else empty.
    """

    threads: Threads
    tried: tuple[Tried, ...] = ()
    photos: int = 0
    note: str = ""


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


def default_threads() -> Threads:
    """Return what is taken where nothing was measured: all cores for one session at a time."""
    return Threads(usable_cores())


def describe(threads: Threads) -> str:
    """Say how the cores are used, for people."""
    plural = "" if threads.intra_op == 1 else "s"
    idle = "" if threads.spinning or threads.intra_op == 1 else ", not spinning"
    at_once = f", {threads.parallel} members at once" if threads.parallel > 1 else ""
    return f"{threads.intra_op} thread{plural}{idle}{at_once}"


def candidates(cores: int, members: int) -> list[Threads]:
    """Return the ways to use the cores that are worth measuring.

    Args:
        cores: That this process may use.
        members: That have a vote; more sessions than these never run at once.

    Returns:
        All cores for one member at a time, with waiting threads spinning and not; as many members
        at once as can be, the cores shared out among them; on larger machines two halves. The
        first is the default.
    """
    found = [Threads(cores), Threads(cores, spinning=False)] if cores > 1 else [Threads(1)]
    for parallel in (min(cores, members), 2 if cores >= 4 and members >= 2 else 1):
        # Spinning threads of one session would take the cores of another.
        way = Threads(cores // parallel, spinning=False, parallel=parallel)
        if parallel > 1 and way not in found:
            found.append(way)
    return found


def run_ms(engine: Engine, images: Sequence[Pixels]) -> float:
    """Predict photos and return the milliseconds that it took."""
    started = perf_counter()
    for _ in engine.predict(images):
        pass
    return milliseconds_since(started)


def measure_threads(
    bundle: Bundle,
    voting: Voting,
    photos: Sequence[Source],
    *,
    views: int,
    device: Device,
    batch: int,
    rounds: int = ROUNDS,
    timed: Callable[[Engine, Sequence[Pixels]], float] = run_ms,
    reporter: Reporter = SILENT,
) -> ThreadPlan:
    """Find the fastest way to use this machine's cores, and keep it for `saved_threads`.

    Candidates take turns on the same photos, so that a machine that slows down slows all of them.
    Photos are decoded before the clock starts. All candidates are loaded at once, each with all
    voting members.

    Args:
        bundle: The bundle.
        voting: The weights; only members with one over 0 are measured.
        photos: Files or decoded pixels; the first `batch` are taken, without the broken ones.
        views: Fixed views a photo.
        device: Where to compute. On a GPU nothing is measured or kept, and `note` says so.
        batch: Photos a batch.
        rounds: Times that each candidate is measured, after one that does not count.
        timed: Predicts photos with an engine, and returns the milliseconds.
        reporter: Where progress is told.

    Returns:
        What is the fastest by its median, with all samples.

    Raises:
        ToolkitError: No photo can be read, a member cannot be loaded, or the result cannot be
            written.
    """
    if device.is_gpu:
        note = f"the members run on {device.name}: how the processor's cores are used is not tuned"
        return ThreadPlan(default_threads(), note=note)
    images = _readable(photos[:batch])
    members = sum(weight > 0 for weight in voting.weights)
    engines = [
        Engine(
            bundle,
            voting,
            views=views,
            random_views=False,
            device=device,
            batch=batch,
            threads=threads,
            decoders=usable_cores(),
            seed=0,
        )
        for threads in candidates(usable_cores(), members)
    ]
    samples: list[list[float]] = [[] for _ in engines]
    with reporter.track("measuring threads", (1 + rounds) * len(engines), "runs") as advance:
        for turn, number in _turns(1 + rounds, len(engines)):
            milliseconds = timed(engines[number], images)
            if turn > 0:  # The first runs are slower than all later ones.
                samples[number].append(milliseconds / len(images))
            advance(1)
    tried = tuple(
        Tried(engine.threads, tuple(own)) for engine, own in zip(engines, samples, strict=True)
    )
    # The first of equals, which is the default.
    plan = ThreadPlan(min(tried, key=lambda each: each.ms).threads, tried, len(images))
    key = _threads_key(bundle, voting, views, device, batch)
    _keep("threads", key, asdict(plan))
    return plan


def saved_threads(
    bundle: Bundle, voting: Voting, *, views: int, device: Device, batch: int
) -> ThreadPlan | None:
    """Return what `measure_threads` found for the same on this machine, or None.

    A file that cannot be read, or is of another machine, bundle or version, counts for nothing.
    """
    if device.is_gpu:
        return None
    try:
        content = _kept("threads", _threads_key(bundle, voting, views, device, batch))
        tried = tuple(
            Tried(_threads(each["threads"]), tuple(map(float, each["samples"])))
            for each in content["tried"]
        )
        plan = ThreadPlan(_threads(content["threads"]), tried, int(content["photos"]))
    except (ToolkitError, KeyError, TypeError, ValueError):
        return None
    return plan if plan.threads in [each.threads for each in tried] else None


def threads_file(bundle: Bundle, voting: Voting, *, views: int, device: Device, batch: int) -> Path:
    """Return where `measure_threads` keeps its result."""
    return _path("threads", _threads_key(bundle, voting, views, device, batch))


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

    Each is measured alone on `batch` random images that lie on the device already, even where
    `threads.parallel` is over 1; so a batch of several members takes about the sum of their costs
    by `threads.parallel`.

    Args:
        bundle: All of its members are measured, those without a vote too.
        precisions: `fp32`, `fp16`, `bf16`, `int8`. What a member does not have, this machine
            cannot open, or does not fit the device, is skipped: INT8 and all that OpenVINO runs
            are for the CPU, fp16 is for a GPU.
        device: Where to compute.
        threads: Of a session on the CPU.
        batch: Images a run.
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
    ready: dict[Pair, Callable[[], object]] = {}
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
        for turn, number in _turns(1 + rounds, len(pairs)):
            run = ready[pairs[number]]
            started = clock()
            run()
            if turn > 0:
                samples[pairs[number]].append(1e3 * (clock() - started) / batch)
            advance(1)
    costs = Costs({pair: median(own) for pair, own in samples.items()}, skipped, samples)
    content = {
        "samples": [[*pair, own] for pair, own in samples.items()],
        "skipped": [[*pair, reason] for pair, reason in skipped.items()],
    }
    _keep("costs", key, content)
    return costs


def _readable(photos: Sequence[Source]) -> list[Pixels]:
    """Decode photos, leaving out the broken ones as long as there are others."""
    images: list[Pixels] = []
    broken: BrokenPhotoError | None = None
    for photo in photos:
        try:
            images.append(np.asarray(decode(photo)) if isinstance(photo, Path) else photo)
        except BrokenPhotoError as error:
            broken = broken or error
    if not images:
        raise broken or ToolkitError("Expected at least one photo to measure on.")
    return images


def _turns(rounds: int, count: int) -> list[tuple[int, int]]:
    """Give (round, number) such that none is always measured after the same other one."""
    return [
        (turn, (turn + place) % count if turn % 2 else (turn - place) % count)
        for turn in range(rounds)
        for place in range(count)
    ]


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
) -> Callable[[], object]:
    session = open_session(folder, member, precision, device, threads, batch)
    shape = (batch, member.image_size, member.image_size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    placed = session.place(images)
    return lambda: session.run(placed, batch)


# What is kept, and under which name.


def _machine(device: Device) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "processor": processor_name(),
        "cores": usable_cores(),
        "device": device.kind,
        "versions": package_versions(_VERSIONED),
    }


def _threads_key(
    bundle: Bundle, voting: Voting, views: int, device: Device, batch: int
) -> dict[str, Any]:
    voters = zip(bundle.members, voting.weights, strict=True)
    return {
        **_machine(device),
        "bundle": bundle.sha256,
        "members": [member.name for member, weight in voters if weight > 0],
        "views": views,
        "batch": batch,
    }


def _costs_key(
    bundle: Bundle, precisions: Sequence[str], device: Device, threads: Threads, batch: int
) -> dict[str, Any]:
    return {
        **_machine(device),
        "device_name": device.name,
        "bundle": bundle.sha256,
        "precisions": sorted(set(precisions)),
        "threads": asdict(threads),
        "batch": batch,
    }


def _path(what: str, key: Mapping[str, Any]) -> Path:
    return cache_folder() / "tuning" / f"{what}-{sha256_json(key)[:32]}.json"


def _keep(what: str, key: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    write_json(_path(what, key), {"key": key, **content})


def _kept(what: str, key: Mapping[str, Any]) -> dict[str, Any]:
    """Read what was kept.

    Raises:
        ToolkitError: There is nothing, or it is spoilt or of something else.
    """
    path = _path(what, key)
    content = read_json(path)
    if content.get("key") != key:
        raise ToolkitError(f"{path}: was measured on something else.")
    return content


def _saved_costs(key: Mapping[str, Any]) -> Costs | None:
    try:
        content = _kept("costs", key)
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


def _threads(content: Mapping[str, Any]) -> Threads:
    threads = Threads(**content)
    if not (threads.intra_op >= 1 and threads.parallel >= 1 and threads.spinning in (True, False)):
        raise ValueError(content)
    return threads
