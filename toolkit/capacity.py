"""How much memory and disk is free for this process, and how much work fits into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal

import psutil

from toolkit.errors import ResourceError
from toolkit.progress import Reporter

RESERVED_BYTES = 512 * 2**20
"""Memory that is left to the parent process and to the system."""

IGNORE = "TOOLKIT_IGNORE_CAPACITY"
"""Environment variable that, set to 1, lets work begin that surely does not fit."""

SURELY, SAFELY = 1.3, 0.85
"""Shares of what is available. Estimates are rough, and programs that end give memory back: work is
refused from the first on, and warned of from the second on."""

Verdict = Literal["fits", "tight", "too little"]

_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("memory.max", "memory.current", "inactive_file")


def available_memory(system: Path = Path("/")) -> int:
    """Return how many bytes of memory this process and its children can still take.

    That is what the system has free, without swapping, and in a container no more than the limits
    of its control group and of those above leave. The file cache, which the kernel gives back,
    counts as free.

    Args:
        system: Where `proc` and `sys` are mounted.

    Returns:
        Bytes, at least 0.
    """
    rooms = [int(psutil.virtual_memory().available), *_rooms_in_control_groups(system)]
    return max(0, min(rooms))


def free_disk(folder: Path) -> int:
    """Return how many bytes can still be written below a folder, which need not exist yet."""
    return shutil.disk_usage(_existing(folder)).free


def how_many_fit(needs: Sequence[int], available: int | None = None) -> int:
    """Return how many processes fit into memory at the same time, whichever of them they are.

    Args:
        needs: Peak memory of each in bytes.
        available: Free memory in bytes; None asks the system.

    Returns:
        At least 1, at most the number of processes.
    """
    free = (available_memory() if available is None else available) - RESERVED_BYTES
    return max(1, sum(total <= free for total in accumulate(sorted(needs, reverse=True))))


@dataclass(frozen=True)
class Capacity:
    """What is available.

    Attributes:
        memory: Bytes.
        disk: Returns the bytes that can still be written below a folder.
    """

    memory: int
    disk: Callable[[Path], int]

    @classmethod
    def here(cls) -> Capacity:
        """Ask the system."""
        return cls(available_memory(), free_disk)


@dataclass(frozen=True)
class Need:
    """What a piece of work needs of memory or of a disk.

    Attributes:
        work: What needs it, as the subject of a sentence.
        kind: Of what: "memory", or "disk for" and the folders.
        needed: Bytes, estimated.
        available: Bytes.
    """

    work: str
    kind: str
    needed: int
    available: int

    @property
    def verdict(self) -> Verdict:
        """Whether it will fit."""
        if self.needed > SURELY * self.available:
            return "too little"
        return "tight" if self.needed > SAFELY * self.available else "fits"

    def __str__(self) -> str:
        """Say both figures."""
        needed, available = self.needed / 2**30, self.available / 2**30
        return (
            f"{self.work} needs about {needed:.1f} GiB of {self.kind}, {available:.1f} GiB are "
            "available"
        )


def disk_needs(work: str, wanted: Mapping[Path, int], capacity: Capacity) -> list[Need]:
    """Return the needs of work that writes to several folders, one for each disk.

    Args:
        work: What needs it, as the subject of a sentence.
        wanted: Bytes by folder; the folders need not exist yet.
        capacity: Of this machine.
    """
    disks: dict[int, list[Path]] = {}
    for folder in wanted:
        disks.setdefault(_existing(folder).stat().st_dev, []).append(folder)
    return [
        Need(
            work,
            f"disk for {' and '.join(map(str, folders))}",
            sum(wanted[folder] for folder in folders),
            capacity.disk(folders[0]),
        )
        for folders in disks.values()
    ]


def refuse_what_does_not_fit(need: Need, way_out: str, reporter: Reporter) -> None:
    """Refuse work before it starts that surely does not fit, and warn where it is tight.

    Args:
        need: Of the work.
        way_out: What the user can change, as a sentence.
        reporter: Where warnings are printed.

    Raises:
        ResourceError: The work surely does not fit, and `TOOLKIT_IGNORE_CAPACITY` is not 1.
    """
    if need.verdict == "fits":
        return
    if need.verdict == "tight" or os.environ.get(IGNORE) == "1":
        reporter.say(f"warning: {need}. {way_out}")
        return
    raise ResourceError(f"{need}. {way_out} {IGNORE}=1 tries it anyway.")


def _existing(folder: Path) -> Path:
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    return existing


def _rooms_in_control_groups(system: Path) -> Iterator[int]:
    try:
        lines = (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return  # No Linux.
    mounted = system / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _rooms(mounted, path, *_V2)
        elif "memory" in controllers.split(","):
            yield from _rooms(mounted / "memory", path, *_V1)


def _rooms(mounted: Path, path: str, limit: str, usage: str, cache: str) -> Iterator[int]:
    """Yield what each limit on the way down to a control group leaves.

    In a container the path may be that of the host, of which only the last folder is mounted, as
    the root: folders that do not exist are skipped.
    """
    folders = [mounted]
    for part in Path(path).parts[1:]:
        folders.append(folders[-1] / part)
    for folder in folders:
        try:
            allowed = int((folder / limit).read_text(encoding="ascii"))
            taken = int((folder / usage).read_text(encoding="ascii"))
            fields = (folder / "memory.stat").read_text(encoding="ascii").split()
        except (OSError, ValueError):
            continue  # Not there, or "max": no limit.
        given_back = int(dict(zip(fields[::2], fields[1::2], strict=False)).get(cache, 0))
        yield allowed - max(0, taken - given_back)
