"""How to use this machine's cores: measured once for a bundle, and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from toolkit.data.pixels import BrokenPhotoError, Pixels
from toolkit.data.ranges import Ranges
from toolkit.errors import ToolkitError
from toolkit.inference.bundle import Bundle
from toolkit.inference.devices import Device
from toolkit.inference.engine import Engine, Source, seen_as
from toolkit.inference.measured import ROUNDS, keep, kept, kept_file, machine_key, turns
from toolkit.inference.sessions import Sessions
from toolkit.inference.threads import Threads
from toolkit.inference.timing import Timings, milliseconds_since
from toolkit.inference.voting import Voting
from toolkit.machine import usable_cores
from toolkit.progress import SILENT, Reporter


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


def default_threads() -> Threads:
    """Return what is taken where nothing was measured: all cores for one session at a time."""
    return Threads(usable_cores())


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
        device: Where to compute. On a GPU the members are only loaded: nothing is measured or kept,
            and `note` says so.
        batch: Photos a batch.
        rounds: Times that each candidate is measured, after one that does not count.
        timed: Predicts photos with an engine, and returns the milliseconds.
        reporter: Where progress is told.

    Returns:
        What is the fastest by its median, with all samples.

    Raises:
        DeviceError: The GPU cannot run a member.
        ToolkitError: No photo can be read, a member cannot be loaded, or the result cannot be
            written.
    """

    def engine(threads: Threads) -> Engine:
        return Engine(
            Sessions(bundle, device=device, threads=threads, batch=batch, timings=Timings()),
            voting,
            views=views,
            random_views=False,
            decoders=usable_cores(),
            seed=0,
        )

    if device.is_gpu:
        engine(default_threads())
        note = f"the members run on {device.name}: how the processor's cores are used is not tuned"
        return ThreadPlan(default_threads(), note=note)
    images = _readable(photos[:batch], bundle.pixels.ranges)
    members = sum(weight > 0 for weight in voting.weights)
    engines = [engine(threads) for threads in candidates(usable_cores(), members)]
    samples: list[list[float]] = [[] for _ in engines]
    with reporter.track("measuring threads", (1 + rounds) * len(engines), "runs") as advance:
        for turn, number in turns(1 + rounds, len(engines)):
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
    keep("threads", key, asdict(plan))
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
        content = kept("threads", _threads_key(bundle, voting, views, device, batch))
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
    return kept_file("threads", _threads_key(bundle, voting, views, device, batch))


def _readable(photos: Sequence[Source], ranges: Ranges) -> list[Pixels]:
    """Decode photos, leaving out the broken ones as long as there are others."""
    images: list[Pixels] = []
    broken: BrokenPhotoError | None = None
    for photo in photos:
        try:
            images.append(np.asarray(seen_as(photo, ranges)[0]))
        except BrokenPhotoError as error:
            broken = broken or error
    if not images:
        raise broken or ToolkitError("Expected at least one photo to measure on.")
    return images


def _threads_key(
    bundle: Bundle, voting: Voting, views: int, device: Device, batch: int
) -> dict[str, Any]:
    voters = zip(bundle.members, voting.weights, strict=True)
    return {
        **machine_key(device),
        "bundle": bundle.sha256,
        "members": [member.name for member, weight in voters if weight > 0],
        "views": views,
        "batch": batch,
    }


def _threads(content: Mapping[str, Any]) -> Threads:
    threads = Threads(**content)
    if not (threads.intra_op >= 1 and threads.parallel >= 1 and threads.spinning in (True, False)):
        raise ValueError(content)
    return threads
