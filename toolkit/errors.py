"""The exceptions for what a user can fix; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self


class ToolkitError(Exception):
    """Something a user can fix. The message names the file, key or value and the way out.

    A message writes what is Python between backticks: an argument of a public function
    (`` `skip_broken=True` ``) or a call of one (`` `evaluate(data=DIR)` ``). The command line shows
    them as options and commands (`toolkit.cli.wording`).

    Attributes:
        path: The file or folder that it is about; None where it is about none.
    """

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        """Keep the message and what it is about."""
        super().__init__(message)
        self.path = path

    def within(self, what: object) -> Self:
        """Return the same error with what it happened to before its message.

        Args:
            what: A name or a folder.
        """
        error = copy.copy(self)
        error.args = (f"{what}: {self}",)
        return error


class UsageError(ToolkitError):
    """Arguments of a function, or options of a command, that do not fit together.

    Attributes:
        argument: Name of the first argument that is wrong; None where several are.
        value: What was received for it.
    """

    def __init__(
        self,
        message: str,
        *,
        path: Path | None = None,
        argument: str | None = None,
        value: Any = None,
    ) -> None:
        """Keep the message and what it is about."""
        super().__init__(message, path=path)
        self.argument, self.value = argument, value

    @classmethod
    def of(cls, name: str, value: Any, expected: str) -> Self:
        """Refuse the value of an argument.

        Args:
            name: The argument of the public function.
            value: What was received.
            expected: The rest of the message.
        """
        return cls(f"{argument(name, value)}: {expected}", argument=name, value=value)


class DataError(ToolkitError):
    """A data folder, a table or a photo is not as expected."""


class RecipeError(ToolkitError):
    """A recipe is not valid, or asks for what the data or its backbone does not allow."""


class RunError(ToolkitError):
    """A run folder is not what a training, an export or an evaluation needs."""


class BundleError(ToolkitError):
    """A bundle cannot be written, read or replaced."""


class ParityError(ToolkitError):
    """An exported network does not compute what the trained one computes."""


class ResourceError(ToolkitError):
    """There is too little memory or disk, or another process holds the folder."""


def argument(name: str, value: Any) -> str:
    """Name an argument with its value in a message, as Python writes it.

    Args:
        name: The argument of a public function.
        value: Of any type; a path is written as a string.
    """
    shown = repr(str(value) if isinstance(value, Path) else value)
    escaped = shown.replace("`", r"\x60")
    return f"`{name}={escaped}`"


def listing(items: Iterable[str], most: int = 20) -> str:
    """Join items one a line for an error message, saying how many were left out.

    Args:
        items: What to list.
        most: How many lines at the most.

    Returns:
        The lines, indented, with a last line `... and N more` where the list was cut.
    """
    lines = list(items)
    shown = [f"  {line}" for line in lines[:most]]
    if len(lines) > most:
        shown.append(f"  ... and {len(lines) - most} more")
    return "\n".join(shown)


def suggestion(word: str, known: Iterable[str]) -> str:
    """Say which known word was probably meant.

    Args:
        word: What was received.
        known: The words that would have been right.

    Returns:
        A sentence with the nearest word, or one that lists all of them.
    """
    names = sorted(known)
    return nearest(word, names) or f"Expected one of: {', '.join(names)}."


def nearest(word: str, known: Iterable[str]) -> str:
    """Say which known word was probably meant, where the message has listed them already.

    Returns:
        A sentence with the nearest word, whatever its letters' case; empty where none is near.
    """
    import difflib

    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), sorted(names), n=1)
    return f"Did you mean '{names[near[0]]}'?" if near else ""
