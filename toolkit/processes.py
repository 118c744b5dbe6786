"""Run functions in processes of their own, which end when their parent ends."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType, ModuleType
from typing import Any, Literal, TypeVar

from toolkit.errors import ToolkitError

Result = TypeVar("Result")

QUIET_TENSORFLOW = {"TF_CPP_MIN_LOG_LEVEL": "3"}

TIME_TO_TIDY_S = 5.0
"""How long an interrupted process may take to remove what it was writing."""

_NAME = "toolkit "

_UNGUARDED = 113
"""Exit code of a process that would only have run its parent's script again."""


class Interrupted(KeyboardInterrupt):
    """A signal that asks to end has come.

    Attributes:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        """Keep the signal's number."""
        super().__init__(number)
        self.number = number


@dataclass(frozen=True)
class Call:
    """A call to make in a process of its own.

    Attributes:
        name: What it is called by; different for calls that run at the same time.
        function: A function that can be found by its module and name. Its module must not import
            the framework when it is imported itself. It is called with `arguments`, and with
            `tell=`, a function that sends one object to the parent.
        arguments: What to call it with.
        environment: Variables to set before the function's module is imported.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Outcome:
    """How a call ended.

    Attributes:
        name: Of the call.
        result: What the function returned.
        error: What it raised instead; a `ToolkitError` where its process was killed.
    """

    name: str
    result: Any = None
    error: Exception | None = None


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
    process = _Process(function, arguments, environment or {}, tells=False)
    try:
        process.start()
        message = process.receive()
    except BaseException:
        _end([process.process])
        raise
    finally:
        process.close()
    result: Result = message.answer()
    return result


def in_own_processes(
    calls: Iterable[Call],
    at_once: int,
    heard: Callable[[str, Any], None],
    ended: Callable[[Outcome], None],
) -> None:
    """Make calls as `in_own_process` does, several at the same time.

    A call that fails leaves the others alone. When an exception ends this function, as Ctrl-C does,
    all processes have ended before it leaves.

    Args:
        calls: What to call; each is taken when there is room for it.
        at_once: How many processes may run at the same time.
        heard: Called with the name of a call and an object that its function told.
        ended: Called with each outcome, in the order in which the calls end.
    """
    waiting, running = iter(calls), dict[str, _Process]()
    try:
        while True:
            while len(running) < at_once and (call := next(waiting, None)):
                running[call.name] = _Process(
                    call.function, call.arguments, call.environment, tells=True
                )
                running[call.name].start()
            if not running:
                return
            for name, message in _next_messages(running):
                if message.is_last:
                    running.pop(name).close()
                    ended(_outcome(name, message))
                else:
                    heard(name, message.content)
    finally:
        _end([each.process for each in running.values()])
        for each in running.values():
            each.close()


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
    _end([process for process in children if process.name.startswith(_NAME)])


def _end(processes: Sequence[BaseProcess]) -> None:
    started = [process for process in processes if process.pid is not None]
    for process in started:
        process.terminate()
    deadline = time.monotonic() + TIME_TO_TIDY_S
    for process in started:
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()


class _InOtherProcessError(Exception):
    """Carries the traceback of the other process, as the cause of the exception raised here."""

    def __init__(self, told: str) -> None:
        super().__init__(told)
        self.told = told

    def __str__(self) -> str:
        return f'\n"""\n{self.told}"""'


_FOR_TRACKER = {"PYTHONWARNINGS": "ignore:resource_tracker"}
"""Lets the process that cleans up after killed ones do so without a word.

Frameworks have semaphores, and to be killed, when it could not tidy up in time, is all that an
interrupted process has done wrong.
"""

_FOR_CALLS = {"PYTHONHASHSEED": "0"}
"""Lets all processes hash text alike.

Libraries iterate over sets of names: tf2onnx would optimize a graph in another order, and export
another file, in each process.
"""

_starting = threading.Lock()
"""Held while the environment is another for a process that starts."""


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started in the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclass(frozen=True)
class _Message:
    """What comes from a process: something told, and at last what the call returned or raised."""

    kind: Literal["told", "returned", "raised", "killed"]
    content: Any = None

    @property
    def is_last(self) -> bool:
        return self.kind != "told"

    def answer(self) -> Any:
        if self.kind == "killed" and self.content == _UNGUARDED:
            raise ToolkitError(
                "The script defines what its calls use, so each process imports it, and would run "
                "the calls again. Put them below: if __name__ == '__main__':"
            )
        if self.kind == "killed":
            raise ToolkitError(
                "The worker process was killed (often for lack of memory: see 'toolkit doctor'). "
                "Run the same command again to go on."
            )
        if self.kind == "raised":
            error, told = self.content
            raise error from _InOtherProcessError(told)
        return self.content


class _Process:
    """One call in a process of its own."""

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        environment: Mapping[str, str],
        *,
        tells: bool,
    ) -> None:
        settings = {**QUIET_TENSORFLOW, **environment}
        context = multiprocessing.get_context("spawn")
        self.messages, self._sender = context.Pipe(duplex=False)
        # Unpickling imports the function's module, so that has to come after the settings.
        self._call = call = pickle.dumps((function, arguments))
        name = f"{_NAME}{function.__name__}"
        self.process = context.Process(
            target=_answer, args=(self._sender, settings, call, tells), name=name
        )

    def start(self) -> None:
        _leave_unguarded_script()
        # A script that calls the toolkit would be run again by each process, as its main module.
        # That is needed only where the call holds something that the script defines.
        hidden = nullcontext() if b"__main__" in self._call else _without_main_module()
        with _starting, _environment(_FOR_CALLS), _deaf_to_interrupts(), hidden:
            self.process.start()
        self._sender.close()

    def receive(self) -> _Message:
        """Wait for the next message."""
        try:
            message: _Message = self.messages.recv()
            return message
        except (EOFError, OSError):  # The second in the middle of a message.
            self.process.join()
            return _Message("killed", self.process.exitcode)

    def close(self) -> None:
        self._sender.close()
        self.messages.close()
        if self.process.pid is not None:
            self.process.join()


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Let a process started in the block do without the script that this one runs."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _leave_unguarded_script() -> None:
    """End this process where it is only importing the script of its parent, which starts others.

    Each of them would start more. The parent reports it.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(_UNGUARDED)


def _next_messages(running: Mapping[str, _Process]) -> Iterator[tuple[str, _Message]]:
    """Wait until there is a message, and return one of each process that has sent some."""
    ready = wait([process.messages for process in running.values()])
    for name, process in list(running.items()):
        if process.messages in ready:
            yield name, process.receive()


def _outcome(name: str, message: _Message) -> Outcome:
    try:
        return Outcome(name, message.answer())
    except Exception as error:  # noqa: BLE001 - the caller decides what becomes of it
        return Outcome(name, error=error)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Start processes in the block that Ctrl-C does not reach: the parent ends them in order."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    with _environment(_FOR_TRACKER):
        resource_tracker.ensure_running()  # Starting it later would undo the mask.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _answer(sender: Connection, settings: Mapping[str, str], call: bytes, tells: bool) -> None:
    os.environ.update(settings)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, _leave)
    sys.unraisablehook = _leave_after_all
    os.dup2(2, 1)
    one_by_one = threading.Lock()

    def send(kind: Literal["told", "returned", "raised"], content: Any) -> None:
        with one_by_one:
            sender.send(_Message(kind, content))

    telling = {"tell": partial(send, "told")} if tells else {}
    try:
        function, arguments = pickle.loads(call)
        answer = function(*arguments, **telling)
    except Exception as error:  # noqa: BLE001 - every one is raised in the parent
        send("raised", (error, traceback.format_exc()))
    else:
        send("returned", answer)


def _leave(number: int, frame: FrameType | None) -> None:
    """Leave by way of every `finally`, so that no half-written file stays."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def _leave_after_all(unraisable: sys.UnraisableHookArgs) -> None:
    """Leave once more where the signal met a callback, out of which nothing can be raised."""
    if isinstance(unraisable.exc_value, SystemExit):
        signal.signal(signal.SIGTERM, _leave)
        # A moment later: here it would be raised in the callback again.
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    else:
        sys.__unraisablehook__(unraisable)


def _end_with_parent() -> None:
    """Leave when the parent was killed: an orphan would go on writing into the same run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
