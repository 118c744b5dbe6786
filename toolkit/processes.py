"""Run a function in a process of its own, which ends when its parent ends."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, TypeVar

from toolkit.errors import ToolkitError

Result = TypeVar("Result")

QUIET_TENSORFLOW = {"TF_CPP_MIN_LOG_LEVEL": "3"}

TIME_TO_TIDY_S = 5.0
"""How long an interrupted process may take to remove what it was writing."""

_NAME = "toolkit "


class Interrupted(KeyboardInterrupt):
    """A signal that asks to end has come.

    Attributes:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        """Keep the signal's number."""
        super().__init__(number)
        self.number = number


def in_own_process(
    function: Callable[..., Result], *arguments: Any, environment: Mapping[str, str] | None = None
) -> Result:
    """Call a function in a fresh process and return what it returns.

    Memory that a framework never gives back goes with the process, and settings that can be made
    only before its import can be made for each call. What the function prints on standard output
    comes out on standard error: standard output is for the command's own answer. Only the parent
    hears Ctrl-C.

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
    answers, answer_to = context.Pipe(duplex=False)
    # Unpickling imports the function's module, so that has to come after the settings.
    call = pickle.dumps((function, arguments))
    name = f"{_NAME}{function.__name__}"
    process = context.Process(target=_answer, args=(answer_to, settings, call), name=name)
    with _deaf_to_interrupts():
        process.start()
    answer_to.close()
    try:
        kind, answer = answers.recv()
    except EOFError:
        raise ToolkitError(
            "A process that did a part of the work was ended from outside (often for lack of "
            "memory: see 'toolkit doctor'). Run the same command again to go on."
        ) from None
    except BaseException:
        process.terminate()
        process.join(TIME_TO_TIDY_S)
        process.kill()
        raise
    finally:
        answers.close()
        process.join()
    if kind == "raised":
        error, told = answer
        raise error from _InOtherProcessError(told)
    result: Result = answer
    return result


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


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block by `Interrupted`; a second one ends all at once."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def end_processes() -> None:
    """End all calls of `in_own_process`, giving them time to tidy up.

    Each raises, in the thread that waits for it.
    """
    children = multiprocessing.active_children()
    running = [process for process in children if process.name.startswith(_NAME)]
    for process in running:
        process.terminate()
    for process in running:
        process.join(TIME_TO_TIDY_S)
        process.kill()


class _InOtherProcessError(Exception):
    """Carries the traceback of the other process, as the cause of the exception raised here."""

    def __init__(self, told: str) -> None:
        super().__init__(told)
        self.told = told

    def __str__(self) -> str:
        return f'\n"""\n{self.told}"""'


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Start processes in the block that Ctrl-C does not reach: the parent ends them in order."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # Starting it later would undo the mask.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _answer(answer_to: Connection, settings: Mapping[str, str], call: bytes) -> None:
    os.environ.update(settings)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, _leave)
    os.dup2(2, 1)
    answer: tuple[str, Any]
    try:
        function, arguments = pickle.loads(call)
        answer = "returned", function(*arguments)
    except Exception as error:  # noqa: BLE001 - every one is raised in the parent
        answer = "raised", (error, traceback.format_exc())
    answer_to.send(answer)


def _leave(number: int, frame: FrameType | None) -> None:
    """Leave by way of every `finally`, so that no half-written file stays."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def _end_with_parent() -> None:
    """Leave when the parent was killed: an orphan would go on writing into the same run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
