"""The command line as a whole: help for everything, mistakes in one line, quick to start."""

from __future__ import annotations

import importlib.metadata
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

import toolkit as package
from toolkit.cli.main import COMMANDS, cli
from toolkit.errors import ToolkitError, UsageError
from toolkit.exporting.precision import PRECISIONS
from toolkit.processes import Interrupted

HEAVY = ("numpy", "pandas", "onnxruntime", "PIL", "cv2", "rich", "keras", "tensorflow")


def python(program: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
    )


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        yield name, command


def options() -> Iterator[tuple[str, click.Option]]:
    for name, command in commands():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                yield f"{name} {parameter.opts[0]}", parameter


class TestHelp:
    def test_it_lists_all_commands(self, toolkit) -> None:
        told = toolkit("--help")
        assert told.code == 0
        assert told.err == ""
        listed = told.out.partition("Commands:")[2]
        for name, line in COMMANDS.items():
            assert f"  {name} " in listed
            assert line.split()[0] in listed

    def test_the_three_commands_of_the_job_come_first(self) -> None:
        names = [name for name in COMMANDS if name != "train"]
        assert names[:3] == ["train-all", "export", "ensemble"]

    @pytest.mark.parametrize("name", list(COMMANDS))
    @pytest.mark.parametrize("flag", ["--help", "-h"])
    def test_each_command_has_its_own(self, toolkit, name: str, flag: str) -> None:
        told = toolkit(name, flag)
        assert told.code == 0
        assert told.out.startswith(f"Usage: toolkit {name}")

    @pytest.mark.parametrize(("name", "command"), list(commands()), ids=list(COMMANDS))
    def test_each_command_says_what_it_does(self, name: str, command: click.Command) -> None:
        assert command.name == name
        assert command.help is not None
        assert command.help.strip().splitlines()[0].endswith((".", ","))

    @pytest.mark.parametrize(
        ("name", "option"), list(options()), ids=[name for name, _ in options()]
    )
    def test_each_option_says_what_it_is(self, name: str, option: click.Option) -> None:
        assert option.help, f"toolkit {name}"
        assert option.help.rstrip()[-1] in ".]", "a sentence, or the default after it"

    def test_no_file_in_the_folder_is_forgotten(self) -> None:
        folder = Path(str(package.__file__)).parent / "cli"
        shared = {"__init__", "complete", "main", "options", "terminal", "wording"}
        files = {path.stem for path in folder.glob("*.py")} - shared
        assert {file.replace("_", "-") for file in files} == set(COMMANDS)

    def test_the_version_is_the_packages(self, toolkit) -> None:
        assert toolkit("--version").out.split()[-1] == package.__version__


WITHOUT_JSON: dict[str, str] = {}
"""Commands that report nothing a program would read, and why."""

SHORT = {"augment", "doctor", "recipes", "show"}
"""Commands that are done before progress could be told."""


class TestAlike:
    """What holds for every command."""

    @pytest.mark.parametrize(("name", "command"), list(commands()), ids=list(COMMANDS))
    def test_what_reports_has_json(self, name: str, command: click.Command) -> None:
        flags = {flag for parameter in command.params for flag in parameter.opts}
        assert ("--json" in flags) != (name in WITHOUT_JSON)

    @pytest.mark.parametrize(("name", "command"), list(commands()), ids=list(COMMANDS))
    def test_what_takes_long_can_be_quiet_and_verbose(
        self, name: str, command: click.Command
    ) -> None:
        flags = {flag for parameter in command.params for flag in parameter.opts}
        wanted = {"-q", "--quiet", "-v", "--verbose"}
        assert wanted & flags == (set() if name in SHORT else wanted)

    def test_verbose_tells_versions_threads_and_loading(self, toolkit, home: Path) -> None:
        told = toolkit("bench", "--count", 2, "--device", "cpu", "--json", "-v")
        assert told.json["photos"] == 2
        assert f"toolkit {package.__version__}" in told.err
        for detail in (
            "threads: ",
            "alpha fp32: weight 0.3333, loaded in ",
            "offline: 2 photos in ",
        ):
            assert detail in told.err
        assert "threads: " not in toolkit("bench", "--count", 2, "--device", "cpu").err

    def test_quiet_and_verbose_do_not_go_together(self, toolkit, home: Path) -> None:
        told = toolkit("ensemble", "-q", "-v")
        assert (told.code, told.out) == (2, "")
        assert "--quiet and --verbose: Expected one of them." in told.err

    @pytest.mark.parametrize(
        ("typed", "offered"),
        [
            ("train-all --only x", ["xception"]),
            ("train xception inc", ["inceptionv3"]),
            ("train-all --recipes i", ["improved"]),
            ("ensemble --voting al", ["alpha="]),
            ("ensemble --voting alpha=1,b", ["alpha=1,beta="]),
            ("export --precision fp32,i", ["fp32,int8"]),
            ("ens", ["ensemble"]),
        ],
    )
    def test_the_shell_completes_what_is_typed(
        self, home: Path, typed: str, offered: list[str]
    ) -> None:
        words = typed.split(" ")
        complete = ShellComplete(cli, {}, "toolkit", "_TOOLKIT_COMPLETE")
        found = complete.get_completions(words[:-1], words[-1])
        assert [item.value for item in found if item.type == "plain"] == offered

    def test_the_shell_offers_every_precision(self) -> None:
        complete = ShellComplete(cli, {}, "toolkit", "_TOOLKIT_COMPLETE")
        found = complete.get_completions(["export", "--precision"], "")
        assert tuple(item.value for item in found) == PRECISIONS


class TestMistakes:
    @pytest.mark.parametrize(
        ("typed", "meant"),
        [("ensmble", "ensemble"), ("trian-all", "train-all"), ("docter", "doctor")],
    )
    def test_a_typo_in_a_command_gets_a_suggestion(self, toolkit, typed: str, meant: str) -> None:
        told = toolkit(typed)
        assert told.code == 2
        assert f"No such command '{typed}'. Did you mean '{meant}'?" in told.err
        assert told.out == ""

    def test_a_word_that_is_like_no_command_gets_the_list(self, toolkit) -> None:
        told = toolkit("xyzzy")
        assert told.code == 2
        for name in COMMANDS:
            assert name in told.err

    def test_a_typo_in_an_option_gets_a_suggestion(self, toolkit) -> None:
        told = toolkit("ensemble", "--tat", "4")
        assert told.code == 2
        assert "--tta" in told.err

    @pytest.mark.parametrize(
        ("typed", "meant"),
        [
            ("ensemble --device cdua", "cuda"),
            ("ensemble --voting unifrom", "uniform"),
            ("ensemble --voting alhpa=1", "alpha"),
            ("export --precision fp32,itn8", "int8"),
            ("train-all --only Xcepton", "xception"),
            ("train-all --recipes improvd", "improved"),
            ("train-all --pretrained imagnet", "imagenet"),
            ("train EfficientNetB3", "efficientnetb3"),
        ],
    )
    def test_a_typo_in_a_value_gets_a_suggestion(
        self, toolkit, home: Path, trained, typed: str, meant: str
    ) -> None:
        words = typed.split()
        told = toolkit(*words, *(("--runs", trained.folder) if words[0] == "export" else ()))
        assert told.code != 0
        assert f"Did you mean '{meant}'?" in told.err

    @pytest.mark.parametrize(
        ("options", "meant"),
        [(("--set", "smal"), "small"), (("--name", "secnd"), "second")],
    )
    def test_a_typo_in_the_name_of_runs_gets_a_suggestion(
        self, toolkit, here: Path, trained, options: tuple[str, str], meant: str
    ) -> None:
        told = toolkit("export", "--runs", trained.folder, *options)
        assert (told.code, told.out) == (1, "")
        assert f"Did you mean '{meant}'?" in told.err

    def test_a_typo_in_a_member_gets_a_suggestion(self, toolkit, here: Path, trained) -> None:
        folder = trained.runs[0].folder
        told = toolkit("export", "--member", folder.with_name("mobilenetv3smal"))
        assert (told.code, told.out) == (1, "")
        assert f"Did you mean '{folder.name}'?" in told.err

    @pytest.mark.parametrize(
        "command", ["ensemble --out file/a.csv", "bench --count 1 --out file/a.json"]
    )
    def test_a_place_that_cannot_be_written_is_named_as_the_user_did(
        self, toolkit, home: Path, command: str
    ) -> None:
        (home / "file").write_text("no folder", encoding="utf-8")
        told = toolkit(*command.split(), "--quiet")
        assert (told.code, told.out) == (1, "")
        assert told.err.startswith("error: file")
        assert "file/." not in told.err

    def test_no_command_shows_the_help(self, toolkit) -> None:
        told = toolkit()
        assert told.code == 2
        assert "Commands:" in told.err

    @pytest.mark.parametrize(("error", "code"), [(ToolkitError, 1), (UsageError, 2)])
    def test_what_a_user_can_mend_is_one_line(
        self, toolkit, monkeypatch: pytest.MonkeyPatch, error: type[ToolkitError], code: int
    ) -> None:
        self.raising(monkeypatch, error("bundle: is broken. Mend it."))
        told = toolkit("doctor")
        assert (told.code, told.out, told.err) == (code, "", "error: bundle: is broken. Mend it.\n")

    def test_a_file_that_the_system_refuses_is_one_line(self, toolkit, here: Path) -> None:
        (here / "file").write_text("no folder", encoding="utf-8")
        told = toolkit("recipes", "demo", "--copy", "file/mine")
        assert (told.code, told.out, told.err) == (
            1,
            "",
            "error: file/mine: cannot be written (Not a directory).\n",
        )

    @pytest.mark.parametrize(
        ("command", "named"),
        [
            ("demo photos --train 2 --test 1", "photos: cannot be written"),
            ("data --pictures pictures", ".png: cannot be written"),
            ("recipes demo --copy mine", "File too large"),
        ],
    )
    def test_a_full_disk_is_one_line(
        self, toolkit, home: Path, monkeypatch: pytest.MonkeyPatch, command: str, named: str
    ) -> None:
        resource = pytest.importorskip("resource")
        monkeypatch.setenv("TOOLKIT_CACHE", str(home / "cache"))
        toolkit("data")  # What is known of the photos is in the cache from now on.
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        try:
            told = toolkit(*command.split())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert (told.code, told.out) == (1, "")
        (line,) = [each for each in told.err.splitlines() if each.startswith("error: ")]
        assert named in line
        assert "File too large" in line

    def test_a_bug_keeps_its_traceback(self, toolkit, monkeypatch: pytest.MonkeyPatch) -> None:
        self.raising(monkeypatch, ZeroDivisionError("a bug"))
        with pytest.raises(ZeroDivisionError):
            toolkit("doctor")

    def test_an_interruption_that_met_a_lock_is_one(
        self, toolkit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        error = RuntimeError("release unlocked lock")
        error.__context__ = Interrupted(signal.SIGTERM)
        self.raising(monkeypatch, error)
        told = toolkit("doctor")
        assert told.code == 143
        assert told.err.startswith("Interrupted. ")

    @staticmethod
    def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        def doctor(**_: object) -> None:
            raise error

        monkeypatch.setattr("toolkit.reporting.doctor.doctor", doctor)


class TestImports:
    @pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("ensemble", "--help")])
    def test_help_imports_nothing_heavy(self, arguments: tuple[str, ...]) -> None:
        found = python(
            """
            import sys
            from toolkit.cli.main import cli
            cli.main(sys.argv[1:], standalone_mode=False)
            print("imported:", *{name.partition(".")[0] for name in sys.modules})
            """,
            *arguments,
        )
        assert found.returncode == 0, found.stderr
        imported = found.stdout.rpartition("imported:")[2].split()
        assert "click" in imported
        assert not set(HEAVY) & set(imported)

    @pytest.mark.parametrize("room", ["toolkit.inference", "toolkit.reporting", "toolkit.data"])
    def test_rooms_do_without_tensorflow_and_keras(self, room: str) -> None:
        found = python(
            """
            import importlib, pkgutil, sys
            room = importlib.import_module(sys.argv[1])
            for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
                importlib.import_module(module.name)
            print(*{name.partition(".")[0] for name in sys.modules})
            """,
            room,
        )
        assert found.returncode == 0, found.stderr
        assert "numpy" in found.stdout.split()
        assert not {"tensorflow", "keras", "tf2onnx", "onnx"} & set(found.stdout.split())

    @pytest.mark.parametrize("views", ["fixed", "augmentor"])
    def test_an_ensemble_runs_where_neither_is_installed(self, home: Path, views: str) -> None:
        found = python(
            """
            import sys

            class NotInstalled:
                def find_spec(self, name, path=None, target=None):
                    if name.partition(".")[0] in ("tensorflow", "keras", "tf2onnx", "onnx"):
                        raise ModuleNotFoundError(f"{name} was imported")

            sys.meta_path.insert(0, NotInstalled())
            from toolkit.cli.main import main
            main()
            """,
            *("ensemble", "--tta", "2", "--tta-views", views, "--device", "cpu"),
            cwd=home,
        )
        assert found.returncode == 0, found.stderr
        assert (home / "submission.csv").is_file()


class TestPackage:
    def test_all_names_what_is_there_and_nothing_else(self) -> None:
        found = python(
            """
            before = set(globals()) | {"before"}
            from toolkit import *
            print(*sorted(set(globals()) - before))
            """
        )
        assert found.stdout.split() == sorted(package.__all__), found.stderr
        assert package.__all__ == sorted(package.__all__)
        assert set(package.__all__) <= set(dir(package))

    def test_other_names_are_refused(self) -> None:
        with pytest.raises(AttributeError, match="module 'toolkit' has no attribute 'Ensembel'"):
            _ = package.Ensembel

    def test_the_command_is_installed_under_its_name(self) -> None:
        (script,) = importlib.metadata.entry_points(group="console_scripts", name="toolkit")
        assert script.load() is not None
        assert script.value == "toolkit.cli.main:main"
