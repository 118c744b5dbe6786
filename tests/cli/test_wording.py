"""Messages name arguments as Python; who types commands reads options."""

from __future__ import annotations

import ast
import inspect
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import toolkit as package
from toolkit.cli.main import COMMANDS
from toolkit.cli.wording import COMMAND_OF, OptionReporter, command_line, in_options, options
from toolkit.errors import ToolkitError, UsageError, argument

ROOT = Path(str(package.__file__)).parent

PENDING = (
    "inference/",
    *(f"reporting/{name}.py" for name in ("job", "submission", "reproduction", "planning")),
    "reporting/page/commands.py",  # It writes command lines.
)
"""Modules that still write options."""

OTHER_PROGRAMS = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
"""Options that are nvidia-smi's."""

SPAN = re.compile(r"`([a-z][a-z0-9_]*)(=[^`]+|\([^`]*\))?`")


def library_modules() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*.py")):
        if not path.relative_to(ROOT).as_posix().startswith(("cli/", *PENDING)):
            yield path


def strings(path: Path) -> Iterator[ast.Constant]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node


def docstrings(path: Path) -> set[int]:
    """The constants that are statements of their own."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.value.lineno for node in ast.walk(tree) if isinstance(node, ast.Expr)}


@pytest.mark.parametrize("path", list(library_modules()), ids=lambda path: path.stem)
def test_the_library_names_no_option(path: Path) -> None:
    for node in strings(path):
        if node.value not in OTHER_PROGRAMS:
            assert not re.search(r"(?<![\w(-])--[a-z]", node.value), f"{path}:{node.lineno}"


def named_arguments() -> Iterator[tuple[str, str]]:
    """Yield where the library names an argument in a message, and which."""
    for path in library_modules():
        outside = docstrings(path)
        for node in strings(path):
            if node.lineno not in outside:
                for span in SPAN.finditer(node.value):
                    yield f"{path}:{node.lineno}", span[0].strip("`")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant):
                called = ast.unparse(call.func)
                if called in ("argument", "UsageError.of"):
                    yield f"{path}:{call.lineno}", str(call.args[0].value)


def test_every_argument_named_in_a_message_is_an_option() -> None:
    found = list(named_arguments())
    assert len(found) > 60
    for where, span in found:
        name = re.split(r"[=(]", span)[0]
        if "(" in span:
            assert COMMAND_OF.get(name, name) in COMMANDS, f"{where}: {span}"
            assert name in package.__all__, f"{where}: {span}"
        else:
            spelled = {option.name for option in options().get(name, [])}
            assert len(spelled) == 1, f"{where}: {span}: {spelled}"
        assert in_options(f"`{span}`") != f"`{span}`", f"{where}: {span}"


def test_every_argument_named_in_a_message_is_one_of_a_public_function() -> None:
    functions = [getattr(package, name) for name in package.__all__ if name.islower()]
    known = {
        parameter
        for function in functions
        if inspect.isfunction(function)
        for parameter in inspect.signature(function).parameters
    }
    predicting = {"format", "positive", "sample", "submission", "top", "clip"}
    for where, span in named_arguments():
        name = re.split(r"[=(]", span)[0]
        assert "(" in span or name in known | predicting, f"{where}: {span}"


@pytest.mark.parametrize(
    ("message", "typed"),
    [
        ("pass `skip_broken=True`:\n  a.jpg", "pass --skip-broken:\n  a.jpg"),
        ("Name the table with `labels=FILE`, `id_column=A`.", "--labels FILE, --id-column A."),
        ("`voting='x y'`: Expected", "--voting 'x y': Expected"),
        ("`precisions=('fp32', 'int8')`: Expected", "--precision fp32,int8: Expected"),
        ("`runs=['a', 'b c']`: is named twice", "--member a --member 'b c': is named twice"),
        ("`runs=DIR`", "--runs DIR"),
        ("`tta`, `voting`: Expected", "--tta, --voting: Expected"),
        ("with `evaluate(data=DIR)`.", "with 'toolkit evaluate --data DIR'."),
        ("Make one with `export()`.", "Make one with 'toolkit export'."),
        ("`train(name='b', fresh=True)`", "'toolkit train-all --name b --fresh'"),
        ("`checkpoint_every_s=0`", "--checkpoint-every 0"),
        ("no option: `colour=red`, `voting=`, `x", "no option: `colour=red`, `voting=`, `x"),
    ],
)
def test_arguments_are_shown_as_options(message: str, typed: str) -> None:
    assert in_options(message).endswith(typed)


@pytest.mark.parametrize(
    "value", ["plain", "it's", "a`b", "a\nb", "", Path("a b/c"), 3, ("x", "y")]
)
def test_any_value_can_be_shown(value: object) -> None:
    named = argument("voting", value)
    shown = in_options(named)
    assert shown.startswith("--voting ")
    assert "`" not in shown.replace("a`b", "")
    assert ast.literal_eval(named.strip("`").partition("=")[2]) == (
        str(value) if isinstance(value, Path) else value
    )


def test_a_call_is_a_command() -> None:
    assert command_line("evaluate('runs/x', tta=4)") == "toolkit evaluate runs/x --tta 4"
    with pytest.raises(ValueError, match="no call"):
        command_line("'no call'")


def test_progress_is_told_in_options(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = pickle.loads(pickle.dumps(OptionReporter(quiet=False)))
    reporter.say("left out (`fresh=True` takes it)")
    reporter.warn("`skip_broken=True`")
    assert capsys.readouterr().err == "left out (--fresh takes it)\nwarning: --skip-broken\n"


class TestErrors:
    def test_an_error_says_what_it_is_about(self) -> None:
        error = UsageError.of("voting", "fited", "Did you mean 'fitted'?")
        assert (error.argument, error.value) == ("voting", "fited")
        assert str(error) == "`voting='fited'`: Did you mean 'fitted'?"

    def test_an_error_comes_whole_from_another_process(self) -> None:
        error = ToolkitError("x: broken", path=Path("x"))
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.path) == ("x: broken", Path("x"))
        used = pickle.loads(pickle.dumps(UsageError.of("tta", 9, "Expected 1 to 8.")))
        assert (used.argument, used.value, used.path) == ("tta", 9, None)

    def test_all_of_them_are_public_and_of_one_family(self) -> None:
        errors = [getattr(package, name) for name in package.__all__ if name.endswith("Error")]
        assert len(errors) > 8
        assert all(issubclass(error, package.ToolkitError) for error in errors)
