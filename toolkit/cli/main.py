"""The command `toolkit`. A command's module is imported only when it is asked for."""

from __future__ import annotations

import importlib
import io
import signal
import sys
from typing import Any

import click

from toolkit import __version__
from toolkit.console import discard_output, encode_everything, open_closed_streams, printable
from toolkit.errors import ToolkitError, UsageError

COMMANDS = {
    "train-all": "Train all backbones of a recipe set.",
    "train": "Train some backbones of a recipe set.",
    "export": "Export finished runs to a bundle of ONNX files.",
    "ensemble": "Predict photos by weighted soft voting and write the submission.",
    "evaluate": "Score a run, a bundle or a submission on labelled photos.",
    "reproduce": "Make a submission again from its manifest, and compare.",
    "compare": "Tabulate runs and bundles side by side, by quality and cost.",
    "plan": "Find the cheapest way to give the ensemble's labels on this machine.",
    "report": "Write one page that shows data, training, ensemble, plan and cost.",
    "bench": "Measure a bundle in the manner of MLPerf inference.",
    "show": "Show what a bundle, a folder of runs or a run holds.",
    "data": "Show classes, counts, sizes, broken and duplicate photos.",
    "augment": "Draw what a recipe's augmentor does to photos.",
    "recipes": "List the recipe sets, show one, or copy one to edit.",
    "demo": "Draw the demo photos.",
    "doctor": "Show what this machine can run, for a bug report.",
}
"""Name and one line of help: `toolkit --help` imports no command."""

GO_ON = {
    "train-all": "The same command, without --fresh, goes on from the last checkpoints.",
    "train": "The same command, without --fresh, goes on from the last checkpoints.",
    "export": "The same command goes on with what is not exported yet.",
    "ensemble": "The same command goes on with the photos that are not answered yet.",
    "reproduce": "With --keep, the same command goes on with the photos that are not answered yet; "
    "without, it starts over.",
    "plan": "The same command, without --fresh, starts over, with costs that were measured to the "
    "end.",
}
"""How to go on after Ctrl-C; all other commands start over."""

START_OVER = "The same command starts over."


class _LazyCommands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"toolkit.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from toolkit.errors import suggestion

            raise click.UsageError(f"No such command '{args[0]}'. {suggestion(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def make_context(self, *arguments: Any, **named: Any) -> click.Context:
        try:
            return super().make_context(*arguments, **named)
        except BrokenPipeError:
            raise _ReaderEndedError from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise _ReaderEndedError from None
        except (Exception, KeyboardInterrupt) as error:
            stopped = _interruption(error)
            if stopped is None:
                raise
            number = getattr(stopped, "number", signal.SIGINT)
            way = GO_ON.get(ctx.invoked_subcommand or "", START_OVER)
            raise _StoppedError(f"Interrupted. {way}", 128 + number) from None


def _interruption(error: BaseException | None) -> KeyboardInterrupt | None:
    """Find the interruption that an error comes of; None where it comes of something else.

    One that meets a thread while it waits for a lock leaves by code that gives that lock back
    without holding it: "release unlocked lock".
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error


class _ReaderEndedError(Exception):
    """The program that reads the output has ended; click would exit with 1 for a broken pipe."""


class _StoppedError(Exception):
    """A command was interrupted.

    Attributes:
        exit_code: As shells expect it of a process that a signal ended.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@click.group(cls=_LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="toolkit")
def cli() -> None:
    """Train, export and run an ensemble of image classifiers.

    In a folder that holds data/, three commands make a submission:

    \b
      toolkit train-all            # data/ -> runs/
      toolkit export               # runs/ -> bundle/
      toolkit ensemble --tta 4     # bundle/ + data/ -> submission.csv
    """


def main() -> None:
    """Run the command line; a mistake of the user's ends in one message and an exit code."""
    from toolkit.cli.wording import in_options
    from toolkit.processes import interruptible

    open_closed_streams()
    encode_everything()
    try:
        with interruptible():
            cli.main(prog_name="toolkit", standalone_mode=False)
            sys.stdout.flush()
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        print(printable(shown.getvalue()), end="", file=sys.stderr)
        sys.exit(error.exit_code)
    except _StoppedError as stopped:
        # The terminal has written ^C into the line.
        print(f"{chr(10) if sys.stderr.isatty() else ''}{stopped}", file=sys.stderr)
        sys.exit(stopped.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except ToolkitError as error:
        print(printable(f"error: {in_options(str(error))}"), file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except (_ReaderEndedError, BrokenPipeError):
        discard_output()
        sys.exit(141)
    except OSError as error:
        # A renamed file has two names, of which the user knows the second.
        file = error.filename2 or error.filename
        where = f"{file}: " if file is not None else ""
        print(printable(f"error: {where}{error.strerror or error}"), file=sys.stderr)
        sys.exit(1)
