"""Messages of the library, in the words of the command line.

The library names arguments and calls as Python, between backticks: `` `skip_broken=True` ``,
`` `labels=FILE` ``, `` `evaluate(data=DIR)` ``. Who types a command reads `--skip-broken`,
`--labels FILE` and 'toolkit evaluate --data DIR'.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
import shlex
from dataclasses import dataclass

import click

from toolkit.progress import Reporter

COMMAND_OF = {"train": "train-all", "predict": "ensemble"}
"""Public functions that another command than the one of their name calls."""

_SPAN = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]+)|(\([^`]*\)))?`")


def in_options(message: str) -> str:
    """Return a message of the library's with its arguments as options and its calls as commands.

    What stands between backticks and names neither is left as it is.
    """
    return _SPAN.sub(_worded, message)


class OptionReporter(Reporter):
    """Reports in the words of the command line."""

    def say(self, line: str) -> None:
        """Print one line."""
        super().say(in_options(line))

    def warn(self, line: str) -> None:
        """Print one line that a user must read even where they want no progress."""
        super().warn(in_options(line))


def command_line(call: str) -> str:
    """Return a call of a public function, such as `train(runs='there')`, as a command."""
    parsed = ast.parse(call, mode="eval").body
    if not isinstance(parsed, ast.Call) or not isinstance(parsed.func, ast.Name):
        raise ValueError(call)
    name = COMMAND_OF.get(parsed.func.id, parsed.func.id)
    if any(keyword.arg == "backbones" for keyword in parsed.keywords):
        name = parsed.func.id  # 'train-all' names none.
    positional = [word for value in parsed.args for word in _values(value)]
    options = [
        word
        for keyword in parsed.keywords
        for word in (_option(keyword.arg or "", keyword.value) or [])
    ]
    return " ".join(["toolkit", name, *positional, *options])


def options() -> dict[str, list[Option]]:
    """Return the options of all commands by the argument that each is for."""
    return _options()


@dataclass(frozen=True)
class Option:
    """How an argument of a public function is typed.

    Attributes:
        command: The command that has it.
        name: With its hyphens, or the name of a positional argument in capitals.
        off: What switches a flag off; empty where nothing does.
        is_flag: Whether it has no value.
        repeated: Whether it is typed once for each value.
    """

    command: str
    name: str
    off: str
    is_flag: bool
    repeated: bool


@functools.cache
def _options() -> dict[str, list[Option]]:
    from toolkit.cli.main import COMMANDS

    commands = {
        name: importlib.import_module(f"toolkit.cli.{name.replace('-', '_')}").command.params
        for name in COMMANDS
    }
    found: dict[str, list[Option]] = {}
    positional: dict[str, list[Option]] = {}
    for command, parameters in commands.items():
        for parameter in parameters:
            typed = _described(command, parameter)
            known = found if isinstance(parameter, click.Option) else positional
            # A parameter that cannot be named after its option, such as `format`, is found by it.
            for name in {parameter.name, typed.name.lstrip("-").replace("-", "_")}:
                known.setdefault(name, []).append(typed)
    return positional | found


def _described(command: str, parameter: click.Parameter) -> Option:
    is_option = isinstance(parameter, click.Option)
    name = max(parameter.opts, key=len) if is_option else parameter.human_readable_name
    off = next(iter(parameter.secondary_opts), "")
    return Option(
        command,
        name,
        off,
        is_flag=isinstance(parameter, click.Option) and parameter.is_flag,
        repeated=parameter.multiple if isinstance(parameter, click.Option) else False,
    )


def _worded(span: re.Match[str]) -> str:
    name, value, call = span.groups()
    try:
        if call is not None:
            from toolkit.cli.main import COMMANDS

            known = COMMAND_OF.get(name, name) in COMMANDS
            return f"'{command_line(name + call)}'" if known else span[0]
        if value is None:
            return _options()[name][0].name if name in _options() else span[0]
        words = _option(name, ast.parse(value, mode="eval").body)
    except SyntaxError:
        return span[0]
    return span[0] if words is None else " ".join(words)


def _option(name: str, value: ast.expr) -> list[str] | None:
    """Return the words that give an argument a value; None where no command has it."""
    if name == "runs" and isinstance(value, ast.List):
        name = "run_folders"  # Not the folder that they are in.
    if name not in _options():
        return None
    option = _options()[name][0]
    if not option.name.startswith("-"):
        return _values(value)
    if option.is_flag and isinstance(value, ast.Constant) and isinstance(value.value, bool):
        return [option.name if value.value else option.off]
    if option.repeated:
        return [word for each in _values(value) for word in (option.name, each)]
    return [option.name, ",".join(_values(value))]


def _values(value: ast.expr) -> list[str]:
    if isinstance(value, ast.Tuple | ast.List):
        return [word for each in value.elts for word in _values(each)]
    if isinstance(value, ast.Constant):
        return [shlex.quote(str(value.value))]
    return [ast.unparse(value)]
