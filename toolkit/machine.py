"""What this process may use of its machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

from toolkit.errors import ToolkitError

RUNTIMES = ("onnxruntime-gpu", "onnxruntime", "openvino")
"""Packages that run networks; another version of one may give other last digits."""


def usable_cores() -> int:
    """Return how many cores this process may use: of its affinity and its container's quota.

    `LOKY_MAX_CPU_COUNT` in the environment sets a lower number.

    Raises:
        ToolkitError: That is no number.
    """
    from loky import cpu_count

    try:
        return int(cpu_count())
    except ValueError:
        told = os.environ.get("LOKY_MAX_CPU_COUNT")
        raise ToolkitError(
            f"LOKY_MAX_CPU_COUNT={told} in the environment: Expected a whole number."
        ) from None


def processor_name() -> str:
    """Return the processor's model name."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_memory_bytes() -> int | None:
    """Return the largest resident memory this process has had, or None where it is unknown.

    Linux hands `ru_maxrss` down from a parent to the program that its child executes; `VmHWM` is
    the peak of this program alone.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def described() -> str:
    """Return this machine and the libraries that count, in one line for a log."""
    versions = package_versions(
        ("toolkit", "onnxruntime-gpu", "onnxruntime", "openvino", "tensorflow", "keras", "numpy")
    )
    parts = [f"Python {platform.python_version()}", *(f"{n} {v}" for n, v in versions.items())]
    return f"{', '.join(parts)}; {usable_cores()} usable cores of {processor_name()}"


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
