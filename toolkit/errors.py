"""The exceptions for what a user can mend; everything else is a bug and keeps its traceback."""

from __future__ import annotations

from collections.abc import Iterable


class ToolkitError(Exception):
    """Something a user can mend. The message names the file, key or value and the way out."""


class UsageError(ToolkitError):
    """A command or a function was asked for something that does not fit together."""


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
