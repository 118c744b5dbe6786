"""How much memory and disk is free for this process, and how much work fits into it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

RESERVED_BYTES = 512 * 2**20
"""Memory that is left to the parent process and to the system."""

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
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def how_many_fit(bytes_each: int, at_most: int, available: int | None = None) -> int:
    """Return how many processes of one size can run at once.

    Args:
        bytes_each: Peak memory of each.
        at_most: More are of no use.
        available: Free memory in bytes; None asks the system.

    Returns:
        At least 1, at most `at_most`.
    """
    free = available_memory() if available is None else available
    return max(1, min(at_most, (free - RESERVED_BYTES) // bytes_each))


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
