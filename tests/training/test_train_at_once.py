"""Several networks trained at the same time: the same bits, whatever ends them on the way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from toolkit.training.at_once import trainings_at_once
from toolkit.training.run import CHECKPOINTS, HISTORY, MANIFEST, MODEL, PROGRESS, VALIDATION

SMALL, TWIN = "mobilenetv3small", "twin"

AT_START = f"""
import dataclasses
from toolkit.training.registry import BACKBONES

# A second small network, in each process that trains too.
BACKBONES["{TWIN}"] = dataclasses.replace(BACKBONES["{SMALL}"], name="{TWIN}")
"""

PROGRAM = "from toolkit.cli.main import main; main()"


@dataclass(frozen=True)
class Command:
    """`toolkit train-all` for two small networks, in a folder of its own."""

    folder: Path
    words: tuple[str | Path, ...]

    @property
    def runs(self) -> Path:
        return self.folder / "runs" / "two"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.folder / "at_start")}

    def run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words,
            cwd=self.folder,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
        )

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[str]]:
        """Start it in a group of its own, as a terminal does."""
        with subprocess.Popen(
            self.words,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture(scope="module")
def two_recipes(small_recipes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes") / "two"
    shutil.copytree(small_recipes, folder)
    (folder / f"{TWIN}.yaml").write_text("seed: 7\n", encoding="utf-8")
    settings = (folder / "set.yaml").read_text(encoding="utf-8")
    shorter = settings.replace("name: all, epochs: 6", "name: all, epochs: 3")
    assert shorter != settings
    (folder / "set.yaml").write_text(shorter, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def command(
    two_recipes: Path, demo_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Command]:
    def make(*options: str) -> Command:
        folder = tmp_path_factory.mktemp("here")
        (folder / "at_start").mkdir()
        (folder / "at_start" / "sitecustomize.py").write_text(AT_START, encoding="utf-8")
        where = ("--recipes", two_recipes, "--data", demo_data)
        return Command(folder, (sys.executable, "-c", PROGRAM, "train-all", *where, *options))

    return make


@pytest.fixture(scope="module")
def one_by_one(
    command: Callable[..., Command], _cache_of_the_session: Path
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """What is trained one after another, without a checkpoint."""
    with pytest.MonkeyPatch.context() as session:
        session.setenv("TOOLKIT_CACHE", str(_cache_of_the_session))
        made = command("--jobs", "1")
        return made.runs, made.run()


@pytest.fixture
def expected(one_by_one: tuple[Path, subprocess.CompletedProcess[str]]) -> Path:
    return one_by_one[0]


def wait_for_epochs(process: subprocess.Popen[str], *starts: str) -> list[str]:
    """Read what a command says until a line with each of these starts has come."""
    assert process.stderr is not None
    missing, told = set(starts), []
    for line in process.stderr:
        told.append(line)
        missing -= {start for start in missing if line.startswith(start)}
        if not missing:
            return told
    raise AssertionError(f"it ended before {missing}:\n{''.join(told)}")


def epoch(backbone: str, number: int) -> str:
    return f"{backbone:<15} all {number}/3"


def processes_below(parent: subprocess.Popen[str]) -> list[psutil.Process]:
    return list(psutil.Process(parent.pid).children(recursive=True))


def contents(run: Path) -> dict[str, Any]:
    """All that training decides: weights, history, probabilities."""
    history = pd.read_csv(run / HISTORY).drop(columns="seconds")
    with zipfile.ZipFile(run / MODEL) as archive, np.load(run / VALIDATION) as validation:
        return {
            "weights": archive.read("model.weights.h5"),
            "history": history.to_csv(),
            "probabilities": validation["probabilities"].tobytes(),
        }


def assert_same_runs(made: Path, expected: Path) -> None:
    for backbone in (SMALL, TWIN):
        one, other = contents(made / backbone), contents(expected / backbone)
        for key in one:
            assert one[key] == other[key], f"{backbone}: other {key}"
        assert not (made / backbone / PROGRESS).exists()


def half_written(runs: Path) -> list[Path]:
    return [path for path in runs.rglob(".*") if path.is_file()]


def test_one_after_another_is_told_one_after_another(
    one_by_one: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    _, ended = one_by_one
    assert ended.returncode == 0, ended.stderr
    told = [line.split()[0] for line in ended.stderr.splitlines() if "  loss " in line]
    assert told == [SMALL] * 4 + [TWIN] * 4


def test_both_killed_with_the_parent_go_on_and_end_as_if_one_by_one(
    command: Callable[..., Command], expected: Path
) -> None:
    together = command("--jobs", "2", "--checkpoint-every", "0")
    with together.started() as parent:
        told = wait_for_epochs(parent, epoch(SMALL, 1), epoch(TWIN, 1))
        children = processes_below(parent)
        os.kill(parent.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=20)
        assert len(children) >= 2
        assert not alive
    assert "2 networks to train, 2 at the same time\n" in told
    again = together.run()
    assert again.returncode == 0, again.stderr
    for backbone in (SMALL, TWIN):
        assert f"{backbone}: going on after epoch " in again.stderr
    # Every line says which network it is about; the table has the order of the recipes.
    _, _, of_training = again.stderr.partition("2 networks to train, 2 at the same time\n")
    lines = of_training.splitlines()
    assert all(SMALL in line or TWIN in line for line in lines), again.stderr
    rows = [line.split()[0] for line in again.stdout.splitlines() if line.strip()]
    assert [row for row in rows if row in (SMALL, TWIN)] == [SMALL, TWIN]
    assert_same_runs(together.runs, expected)


def test_where_one_is_killed_the_other_ends_and_the_same_command_makes_it_whole(
    command: Callable[..., Command], expected: Path
) -> None:
    together = command("--jobs", "2", "--checkpoint-every", "0")
    with together.started() as parent:
        wait_for_epochs(parent, f"{TWIN:<15} head 1/1")
        started_last(processes_below(parent)).kill()
        told = parent.communicate()[1]
    assert parent.returncode == 1
    assert f"{TWIN}: failed: The worker process was killed" in told
    last = told[told.index("error: ") :]
    assert last.startswith("error: 1 of 2 trainings failed:")
    assert f"{TWIN}: The worker process was killed (often for lack of memory" in last
    assert SMALL not in last
    assert (together.runs / SMALL / MANIFEST).is_file()
    assert (together.runs / TWIN / CHECKPOINTS).is_dir()
    again = together.run()
    assert again.returncode == 0, again.stderr
    assert f"two/{SMALL}: finished on " in again.stderr
    assert f"{TWIN}: going on after epoch " in again.stderr
    assert_same_runs(together.runs, expected)


def started_last(processes: list[psutil.Process]) -> psutil.Process:
    return max(processes, key=lambda process: (process.create_time(), process.pid))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_both_end_in_order(command: Callable[..., Command], number: int) -> None:
    together = command("--jobs", "2", "--checkpoint-every", "0")
    with together.started() as parent:
        wait_for_epochs(parent, f"{SMALL:<15} head 1/1")
        children = processes_below(parent)
        # A terminal sends Ctrl-C to all of them, a service manager SIGTERM to the parent alone.
        send = os.killpg if number == signal.SIGINT else os.kill
        send(parent.pid, number)
        told = parent.communicate()[1]
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive
    assert parent.returncode == 128 + number
    goes_on = "The same command, without --fresh, goes on from the last checkpoints."
    assert told.splitlines()[-1] == f"Interrupted. {goes_on}"
    assert "Traceback" not in told
    assert half_written(together.runs) == []


GIB = 2**30


@pytest.mark.parametrize(
    ("count", "cores", "memory", "expected"),
    [
        (4, 2, 64 * GIB, 2),
        (4, 32, 64 * GIB, 4),
        (4, 1, 64 * GIB, 1),
        (1, 32, 64 * GIB, 1),
        (4, 32, 8 * GIB, 2),  # 4 and 3 GiB, and half a GiB for all else.
        (4, 32, 7 * GIB, 1),
        (4, 32, GIB, 1),
    ],
)
def test_as_many_are_trained_at_once_as_cores_and_memory_allow(
    count: int, cores: int, memory: int, expected: int
) -> None:
    needs = [GIB * (number + 1) for number in range(count)]
    assert trainings_at_once(needs, "tensorflow", cores=cores, memory=memory) == expected
