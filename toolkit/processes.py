"""Run a function in a process of its own, which ends when its parent ends."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from toolkit.errors import ToolkitError

Result = TypeVar("Result")

QUIET_TENSORFLOW = {"TF_CPP_MIN_LOG_LEVEL": "3"}


def in_own_process(
    function: Callable[..., Result], *arguments: Any, environment: Mapping[str, str] | None = None
) -> Result:
    """Call a function in a fresh process and return what it returns.

    Memory that a framework never gives back goes with the process, and settings that can be made
    only before its import can be made for each call.

    Args:
        function: A function that can be found by its module and name. Its module must not import
            the framework when it is imported itself.
        *arguments: What to call it with.
        environment: Variables to set before the function's module is imported.

    Returns:
        What the function returned. An exception it raised is raised here.

    Raises:
        ToolkitError: The process ended without an answer, as when the system kills it for memory.
    """
    settings = {**QUIET_TENSORFLOW, **(environment or {})}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _prepare, (settings,)) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise ToolkitError(
                f"The process for '{function.__name__}' was ended from outside (often for lack of "
                "memory: see 'toolkit doctor'). Run the same command again to go on."
            ) from None


def import_quietly(module: str) -> None:
    """Import a module without the lines that TensorFlow's native code prints while it loads.

    They go straight to file descriptor 2, whatever the log level. Python's errors still come out.
    """
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 2)
        try:
            importlib.import_module(module)
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _prepare(settings: Mapping[str, str]) -> None:
    os.environ.update(settings)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave when the parent was killed: an orphan would go on writing into the same run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
